// What the webcam widget shows: buttons, camera or picture, boxes, bars and the history of one face.

import { CAMERA_TEXT } from './camera.js';
import { faceKey, FaceOverlay, Palette, percent } from './faces.js';

const WORDS = {
  en: {
    start: 'Start', stop: 'Stop', snapshot: 'Snapshot', upload: 'Picture…', camera: 'Camera',
    history: 'Last 30 seconds', historyOf: (key) => `Face ${key}, last 30 seconds`, now: 'now', seconds: (n) => `${n} s`,
    csv: 'CSV', csvHelp: 'Save what was found as a table', choose: (key) => `Show the course of face ${key}`,
    idle: 'Press Start, or choose a picture.', starting: 'Waiting for the camera…', stopped: 'Stopped.',
    taken: 'Snapshot taken: see .snapshot',
    faces: (n) => (n === 0 ? 'No face in view' : n === 1 ? '1 face' : `${n} faces`),
    rate: (rate, ms) => `${rate}/s · ${ms} ms`,
    kernel: 'The kernel does not respond. Run the cell again.',
    unreadable: 'This file is not a picture that can be read.',
    ...CAMERA_TEXT.en,
  },
  ko: {
    start: '시작', stop: '정지', snapshot: '스냅샷', upload: '사진…', camera: '카메라',
    history: '최근 30초', historyOf: (key) => `얼굴 ${key}, 최근 30초`, now: '지금', seconds: (n) => `${n}초`,
    csv: 'CSV', csvHelp: '찾은 결과를 표로 저장', choose: (key) => `얼굴 ${key}의 변화 보기`,
    idle: '시작을 누르거나 사진을 선택하세요.', starting: '카메라를 기다리는 중…', stopped: '멈췄습니다.',
    taken: '스냅샷을 저장했습니다. .snapshot에서 볼 수 있습니다.',
    faces: (n) => (n === 0 ? '얼굴이 보이지 않습니다' : `얼굴 ${n}개`),
    rate: (rate, ms) => `초당 ${rate}회 · ${ms} ms`,
    kernel: '커널이 응답하지 않습니다. 셀을 다시 실행하세요.',
    unreadable: '읽을 수 있는 사진 파일이 아닙니다.',
    ...CAMERA_TEXT.ko,
  },
};
const NOTICE_MS = 2500;                    // a notice hides the number of faces for this long
const HISTORY_MS = 30000;

function element(tag, className, attributes = {}) {
  const node = document.createElement(tag);
  node.className = className;
  return Object.assign(node, attributes);
}

class WidgetView {
  constructor(model, parent) {
    const language = model.get('lang') || (navigator.language.startsWith('ko') ? 'ko' : 'en');
    this.words = WORDS[language];
    this.nameOf = (name) => (language === 'ko' ? model.get('labels_ko')[name] ?? name : name);
    this.classNames = model.get('class_names');
    this.palette = new Palette(model.get('palette'));
    this.palette.classNames = this.classNames;
    this.root = element('div', 'fe-webcam');
    const grid = element('div', 'fe-grid');
    grid.append(this.buildBar(), this.buildStage(), this.buildSide());
    this.root.append(grid);
    this.onChoose = () => {};              // called with the key of a face whose box or bars were pressed
    this.overlay = new FaceOverlay(this.canvas, this.palette, this.nameOf);
    this.say('idle', this.words.idle);
    parent.append(this.root);
  }

  buildBar() {
    const { start, snapshot, upload, camera, csv, csvHelp } = this.words;
    const bar = element('div', 'fe-bar');
    this.start = element('button', 'fe-start', { type: 'button', textContent: start });
    this.shot = element('button', 'fe-shot', { type: 'button', textContent: snapshot, disabled: true });
    this.file = element('input', 'fe-file', { type: 'file', accept: 'image/*', hidden: true });
    this.upload = element('button', 'fe-upload', { type: 'button', textContent: upload });
    this.csv = element('button', 'fe-csv', { type: 'button', textContent: csv, title: csvHelp, disabled: true });
    this.cameras = element('select', 'fe-cameras', { hidden: true, ariaLabel: camera });
    this.rate = element('span', 'fe-rate');
    bar.append(this.start, this.shot, this.upload, this.csv, this.file, this.cameras, this.rate);
    return bar;
  }

  buildStage() {
    this.stage = element('div', 'fe-stage');
    this.video = element('video', 'fe-video', { muted: true, playsInline: true });
    this.still = element('canvas', 'fe-still', { hidden: true });
    this.canvas = element('canvas', 'fe-overlay');
    this.canvas.addEventListener('click', ({ offsetX, offsetY }) => {
      const key = this.overlay.faceAt(offsetX, offsetY);
      if (key) this.onChoose(key);
    });
    this.stage.append(this.video, this.still, this.canvas);
    return this.stage;
  }

  buildSide() {
    const side = element('div', 'fe-side');
    this.status = element('p', 'fe-status', { ariaLive: 'polite' });
    this.cards = element('div', 'fe-faces');
    this.history = element('canvas', 'fe-history');
    this.title = element('p', 'fe-title', { textContent: this.words.history });
    const legend = element('div', 'fe-legend');
    for (const name of this.classNames) legend.append(this.colored('span', name, { textContent: this.nameOf(name) }));
    side.append(this.status, this.cards, this.title, this.history, legend);
    return side;
  }

  // An element with the color of a class.
  colored(tag, name, attributes = {}) {
    const node = element(tag, '', attributes);
    node.style.setProperty('--color', this.palette.of(name));
    return node;
  }

  // ---------------------------------------------------------------- status

  // state: idle, starting, running, stopped, picture or error
  say(state, text) {
    this.root.dataset.state = state;
    this.notice(text, 0);
  }

  notice(text, duration = NOTICE_MS) {
    this.status.textContent = text;
    this.noticeEnds = performance.now() + duration;
  }

  count(faces) {
    if (performance.now() >= this.noticeEnds) this.status.textContent = this.words.faces(faces.length);
  }

  flash(text) {
    this.stage.classList.add('fe-flash');
    this.notice(text);
    setTimeout(() => this.stage.classList.remove('fe-flash'), 150);
  }

  showRate(rate, ms, total) {
    this.rate.textContent = this.words.rate(rate.toFixed(0), ms.toFixed(0));
    Object.assign(this.rate.dataset, { ms: ms.toFixed(1), total });
  }

  // ---------------------------------------------------------------- stage

  showCamera(mirrored) {
    this.still.hidden = true;
    this.video.hidden = false;
    this.stage.classList.toggle('fe-mirror', mirrored);
    this.stage.style.aspectRatio = `${this.video.videoWidth} / ${this.video.videoHeight}`;
  }

  // bitmap: null for a picture that only Python can read
  showStill(bitmap, [width, height]) {
    this.still.hidden = !bitmap;
    this.video.hidden = Boolean(bitmap);
    this.stage.classList.remove('fe-mirror');
    if (!bitmap) return;
    this.stage.style.aspectRatio = `${width} / ${height}`;
    Object.assign(this.still, { width, height }).getContext('2d').drawImage(bitmap, 0, 0, width, height);
  }

  // ---------------------------------------------------------------- faces

  // chosen: key of the face whose history is shown
  showCards(faces, chosen = null) {
    while (this.cards.children.length > faces.length) this.cards.lastChild.remove();
    while (this.cards.children.length < faces.length) this.cards.append(this.newCard());
    this.cards.classList.toggle('fe-several', faces.length > 1);
    faces.forEach((face, index) => this.fillCard(this.cards.children[index], face, index, chosen));
  }

  newCard() {
    const card = element('div', 'fe-face', { role: 'button', tabIndex: 0 });
    card.onclick = () => this.onChoose(card.dataset.key);
    card.onkeydown = (event) => {
      if (event.key !== 'Enter' && event.key !== ' ') return;
      event.preventDefault();
      this.onChoose(card.dataset.key);
    };
    card.append(element('b', ''));
    for (const name of this.classNames) {
      const row = element('div', 'fe-row', { textContent: this.nameOf(name) });
      const meter = this.colored('span', name, { className: 'fe-meter', role: 'presentation' });
      meter.append(element('i', ''));
      row.append(meter, element('output', ''));
      card.append(row);
    }
    return card;
  }

  fillCard(card, face, index, chosen) {
    const key = faceKey(face, index);
    Object.assign(card.dataset, { emotion: face.emotion, id: face.face_id ?? '', key });
    card.ariaPressed = String(key === chosen);
    card.title = this.words.choose(key);
    card.querySelector('b').textContent = `${key} · ${this.nameOf(face.emotion)}`;
    card.querySelectorAll('.fe-row').forEach((row, k) => {
      const name = this.classNames[k];
      row.classList.toggle('fe-best', name === face.emotion);
      row.querySelector('i').style.transform = `scaleX(${face.probabilities[name]})`;
      row.querySelector('output').textContent = percent(face.probabilities[name]);
    });
  }

  // points: { time, probabilities, gap } of one face; a line is interrupted where `gap` is true
  plot(points, now, key) {
    const { clientWidth: width, clientHeight: height } = this.history;
    const ratio = window.devicePixelRatio || 1;
    Object.assign(this.history, { width: Math.round(width * ratio), height: Math.round(height * ratio) });
    const context = this.history.getContext('2d');
    context.scale(ratio, ratio);
    const area = { left: 36, top: 6, width: width - 44, height: height - 26 };
    this.drawAxes(context, area);
    const x = (time) => area.left + area.width * (1 - (now - time) / HISTORY_MS);
    const y = (probability) => area.top + area.height * (1 - probability);
    context.lineWidth = 2;
    for (const name of this.classNames) {
      context.strokeStyle = this.palette.of(name);
      context.beginPath();
      points.forEach(({ time, probabilities, gap }, index) => {
        if (index === 0 || gap) context.moveTo(x(time), y(probabilities[name]));
        else context.lineTo(x(time), y(probabilities[name]));
      });
      context.stroke();
    }
    this.title.textContent = key ? this.words.historyOf(key) : this.words.history;
    Object.assign(this.history.dataset, { points: points.length, key: key ?? '' });
  }

  drawAxes(context, { left, top, width, height }) {
    const { color, fontFamily } = getComputedStyle(this.history);
    Object.assign(context, { font: `11px ${fontFamily}`, fillStyle: color, lineWidth: 1 });
    context.strokeStyle = 'rgb(128 128 128 / 0.35)';
    Object.assign(context, { textAlign: 'right', textBaseline: 'middle' });
    for (const share of [0, 0.5, 1]) {
      const y = Math.round(top + height * (1 - share)) + 0.5;
      context.strokeRect(left, y, width, 0);
      context.fillText(percent(share), left - 5, y);
    }
    context.textBaseline = 'top';
    const { seconds, now } = this.words;
    for (const [place, align, text] of [[0, 'left', seconds(-30)], [0.5, 'center', seconds(-15)], [1, 'right', now]]) {
      context.textAlign = align;
      context.fillText(text, left + width * place, top + height + 6);
    }
  }
}

export { HISTORY_MS, WidgetView };
