// Draws faces over a video or a picture: a box, and a label in the color of the emotion. The page imports this file;
// face_emotion.webcam puts it in front of the widget's own code. A face has the keys of FacePrediction.to_message().

const UNCERTAIN = 'uncertain';             // the emotion of a face below MIN_CONFIDENCE
const UNKNOWN_COLOR = '#5b6069';
const DARK_INK = '#14171a';
const LIGHT_INK = '#ffffff';
const NARROW = 500;                        // CSS pixels; below it, labels are small and short
const LABEL_GAP = 4;                       // CSS pixels between a box and its label
const ROOMY = 5;                           // a box so many labels high may hold its own label

// The colors of palette.json by class name. A class without a color of its own gets a spare one.
export class Palette {
  classNames = [];

  constructor(colors) {
    this.colors = colors;
  }

  of(name) {
    const { spare = [UNKNOWN_COLOR], ...named } = this.colors;
    const unnamed = this.classNames.filter((other) => !(other in named)).indexOf(name);
    return named[name] ?? spare[Math.max(0, unnamed) % spare.length];
  }
}

export function inkOn(color) {
  const [red, green, blue] = [1, 3, 5].map((at) => (parseInt(color.slice(at, at + 2), 16) / 255) ** 2.2);
  const luminance = 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  return luminance > 0.18 ? DARK_INK : LIGHT_INK;           // 0.18: where both inks contrast equally
}

export function percent(probability) {
  return `${Math.round(probability * 100)}%`;
}

// Empty for an uncertain face: "Uncertain 45%" would read as how uncertain it is.
export function shownConfidence(face) {
  return face.emotion === UNCERTAIN ? '' : percent(face.confidence);
}

export function faceKey(face, index) {
  return String(face.face_id ?? index + 1);
}

export class FaceOverlay {
  #canvas;
  #palette;
  #emotionName;
  #shown = { faces: [], frame: [1, 1], mirrored: false, chosen: null };

  // emotionName: a function that gives the word shown for a class
  constructor(canvas, palette, emotionName) {
    this.#canvas = canvas;
    this.#palette = palette;
    this.#emotionName = emotionName;
    new ResizeObserver(() => this.draw()).observe(canvas);
  }

  // frame: [width, height] of the picture in which the faces were found; chosen: key of the face that stands out
  show(faces, frame, mirrored = false, chosen = null) {
    this.#shown = { faces, frame, mirrored, chosen };
    this.draw();
  }

  clear() {
    this.show([], [1, 1]);
  }

  draw() {
    const { clientWidth, clientHeight } = this.#canvas;
    const ratio = window.devicePixelRatio || 1;
    this.#canvas.width = Math.round(clientWidth * ratio);   // also clears it
    this.#canvas.height = Math.round(clientHeight * ratio);
    this.#canvas.dataset.boxes = this.#shown.faces.length;
    const context = this.#canvas.getContext('2d');
    context.scale(ratio, ratio);
    this.paint(context, { width: clientWidth, height: clientHeight });
  }

  // Draws the boxes and labels on any canvas, such as that of a snapshot; area: its size in CSS pixels.
  paint(context, area) {
    const { faces, chosen } = this.#shown;
    const boxes = faces.map((face) => this.#place(face.bbox, area));
    faces.forEach((face, index) => {
      const stands = faces.length > 1 && faceKey(face, index) === chosen;
      drawBox(context, boxes[index], this.#palette.of(face.emotion), stands ? 4.5 : 2.5);
    });
    const taken = [...boxes];               // by boxes, and by the labels drawn so far
    faces.forEach((face, index) => taken.push(this.#drawLabel(context, boxes[index], face, index, taken, area)));
  }

  // The key of the face at a point of the canvas, in CSS pixels; undefined where none is.
  faceAt(x, y) {
    const area = { width: this.#canvas.clientWidth, height: this.#canvas.clientHeight };
    const keys = this.#shown.faces.map((face, index) => {
      const box = this.#place(face.bbox, area);
      return overlap(box, { x, y, width: 0, height: 0 }) ? faceKey(face, index) : undefined;
    });
    return keys.find((key) => key !== undefined);
  }

  // From pixels of the frame to the canvas, where the frame lies centered and may be mirrored.
  #place([x, y, boxWidth, boxHeight], { width, height }) {
    const { frame: [frameWidth, frameHeight], mirrored } = this.#shown;
    const scale = Math.min(width / frameWidth, height / frameHeight);
    const left = mirrored ? frameWidth - x - boxWidth : x;
    return {
      x: (width - frameWidth * scale) / 2 + left * scale,
      y: (height - frameHeight * scale) / 2 + y * scale,
      width: boxWidth * scale,
      height: boxHeight * scale,
    };
  }

  // Numbers tell several faces apart; in little space they take the place of the percentage.
  #labelOf(face, index, narrow) {
    const several = this.#shown.faces.length > 1;
    const parts = [this.#emotionName(face.emotion)];
    if (several) parts.unshift(faceKey(face, index), '·');
    if (!several || !narrow) parts.push(shownConfidence(face));
    return parts.join(' ').trim();
  }

  // Returns the rectangle of the label.
  #drawLabel(context, box, face, index, taken, area) {
    const narrow = area.width < NARROW;
    const size = narrow ? 12 : 14;
    const height = size + 10;
    const label = this.#labelOf(face, index, narrow);
    context.font = `600 ${size}px ${getComputedStyle(this.#canvas).fontFamily}`;
    const width = context.measureText(label).width + 16;
    const place = placeLabel(box, { width, height }, taken, area);
    const { x, y } = place;
    const color = this.#palette.of(face.emotion);
    context.beginPath();
    context.roundRect(x, y, width, height, 7);
    context.fillStyle = color;
    context.fill();
    context.fillStyle = inkOn(color);
    context.textBaseline = 'middle';
    context.fillText(label, x + 8, y + height / 2 + 0.5);
    return place;
  }
}

// Where a label hides least: above its box, inside a large one, below or beside it.
function placeLabel(box, { width, height }, taken, area) {
  const x = Math.max(2, Math.min(box.x, area.width - width - 2));
  const inside = { x, y: Math.max(2, box.y + LABEL_GAP), width, height };
  const above = { ...inside, y: box.y - height - LABEL_GAP };
  const below = { ...inside, y: box.y + box.height + LABEL_GAP };
  const right = { ...inside, x: box.x + box.width + LABEL_GAP, y: Math.max(2, box.y) };
  const left = { ...right, x: box.x - width - LABEL_GAP };
  const [lastX, lastY] = [area.width - width - 2, area.height - height - 2];
  const visible = (at) => at.x >= 2 && at.x <= lastX && at.y >= 2 && at.y <= lastY;
  const free = (at) => visible(at) && !taken.some((other) => overlap(at, other));
  if (free(above)) return above;
  const roomy = box.height >= ROOMY * height && box.width >= width;
  return (roomy ? inside : [below, right, left].find(free)) ?? (visible(above) ? above : inside);
}

function overlap(a, b) {
  return a.x < b.x + b.width && b.x < a.x + a.width && a.y < b.y + b.height && b.y < a.y + a.height;
}

function drawBox(context, box, color, thickness) {
  const radius = Math.min(12, box.width / 8);
  // A dark halo keeps the line visible on a background of its own color.
  for (const [style, line] of [['rgb(0 0 0 / 0.35)', 2 * thickness], [color, thickness]]) {
    context.beginPath();
    context.roundRect(box.x, box.y, box.width, box.height, radius);
    context.strokeStyle = style;
    context.lineWidth = line;
    context.stroke();
  }
}
