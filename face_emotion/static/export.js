// The session as files: a table, JSON, a picture with its boxes. Made in the browser; nothing is sent anywhere.

import { faceKey } from './faces.js';

// Text that a spreadsheet would take for a formula gets an apostrophe in front, as csv_cell of core/files.py does.
const FORMULA = /^'*[=+\-@\t\r\n＝＋－＠]/;

export function asText(value) {
  return FORMULA.test(value) ? `'${value}` : value;
}

// A row for each face, and one for a moment without a face. Columns are those of `face-emotion predict`.
export function toCsv(history, classNames, judge) {
  const head = ['source', 'time', 'face_id', 'box', 'score', 'emotion', 'confidence', ...classNames.map(asText)];
  const rows = history.moments.flatMap(({ source, time, faces }) => {
    const when = [asText(source ?? ''), time === null ? '' : time.toFixed(3)];
    if (!faces.length) return [[...when, ...Array(head.length - 2).fill('')]];
    return judge(faces).map((face, index) => [
      ...when, faceKey(face, index), JSON.stringify(corners(face.bbox)), face.score, asText(face.emotion ?? ''),
      face.confidence, ...classNames.map((name) => face.probabilities[name]),
    ]);
  });
  return [head, ...rows].map((row) => row.map(quoted).join(',')).join('\r\n') + '\r\n';
}

export function toJson(history, classNames, judge, about) {
  const moments = history.moments.map(({ source, time, frame, faces }) => ({
    source, time: time === null ? null : Number(time.toFixed(3)), frame,
    faces: judge(faces).map(({ bbox, ...face }, index) => ({
      ...face, face_id: Number(faceKey(face, index)), box: corners(bbox),
    })),
  }));
  const head = { started: history.startedAt.toISOString(), class_names: classNames, ...about, forgotten: history.forgotten };
  return JSON.stringify({ ...head, moments });
}

function corners([x, y, width, height]) {
  return [x, y, x + width, y + height];
}

function quoted(value) {
  const content = String(value ?? '');
  return /[",\r\n]/.test(content) ? `"${content.replaceAll('"', '""')}"` : content;
}

// source: a video or picture; overlay: a FaceOverlay that shows its faces. Returns a PNG.
export function snapshot(source, overlay, mirrored) {
  const width = source.videoWidth || source.naturalWidth;
  const height = source.videoHeight || source.naturalHeight;
  const canvas = Object.assign(document.createElement('canvas'), { width, height });
  const context = canvas.getContext('2d');
  context.save();
  if (mirrored) context.setTransform(-1, 0, 0, 1, width, 0);
  context.drawImage(source, 0, 0, width, height);
  context.restore();
  const scale = Math.max(1, width / 800);  // lines and letters grow with the picture
  context.scale(scale, scale);
  overlay.paint(context, { width: width / scale, height: height / scale });
  return new Promise((resolve) => { canvas.toBlob(resolve, 'image/png'); });
}

// name: without the date and the ending
export function download(content, name, ending, type) {
  const blob = content instanceof Blob ? content : new Blob([content], { type });
  const date = new Date().toISOString().slice(0, 19).replaceAll(':', '-');
  const link = Object.assign(document.createElement('a'), {
    href: URL.createObjectURL(blob), download: `${name}_${date}.${ending}`,
  });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
