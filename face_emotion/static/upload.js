// A picture instead of the camera: shown on the stage, made small enough, sent to the server.

import { fitInto, toJpeg } from './camera.js';
import { endpoint, TOKEN } from './connection.js';

const LARGEST_UPLOAD = { bytes: 2 * 1024 * 1024, side: 4096 };
const SHRUNK_SIDE = 1920;
const ERRORS = {
  400: 'badPicture', 413: 'tooLarge', 415: 'badPicture', 422: 'badPicture', 429: 'overloaded', 503: 'noModel',
};

// `key` names one of the page's texts, `detail` is the server's own wording.
function problem(key, detail) {
  return Object.assign(new Error(key), { key, detail });
}

export async function loadPicture(image, file) {
  image.src = URL.createObjectURL(file);
  try {
    await image.decode();
  } catch {
    releasePicture(image);
    throw problem('notAPicture');
  }
}

export function releasePicture(image) {
  if (!image.hasAttribute('src')) return;
  URL.revokeObjectURL(image.src);
  image.removeAttribute('src');
}

// Photographs from phones exceed what the server accepts; faces need far fewer pixels.
async function fitForUpload(image, file) {
  const { naturalWidth: width, naturalHeight: height } = image;
  if (file.size <= LARGEST_UPLOAD.bytes && Math.max(width, height) <= LARGEST_UPLOAD.side) return file;
  return await toJpeg(image, fitInto(width, height, SHRUNK_SIDE), 0.9) ?? file;
}

// The server's answer for a loaded picture. Raises an error with `key`.
export async function predict(image, file, signal) {
  const content = await fitForUpload(image, file);
  const form = new FormData();
  form.append('file', content, content.name ?? 'picture.jpg');
  const headers = TOKEN ? { Authorization: `Bearer ${TOKEN}` } : {};
  const response = await fetch(endpoint('api/predict'), { method: 'POST', body: form, headers, signal });
  const answer = await response.json().catch(() => ({}));
  if (!response.ok || !answer.results) throw problem(ERRORS[response.status] ?? 'refused', answer.error?.message);
  return answer;
}
