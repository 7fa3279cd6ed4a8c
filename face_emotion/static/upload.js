// A picture instead of the camera: shown on the stage, made small enough, sent to the server.

import { fitInto, toJpeg } from './camera.js';
import { authorization, endpoint } from './connection.js';

const LARGEST_UPLOAD = { bytes: 2 * 1024 * 1024, side: 4096 };
const SHRUNK_SIDE = 1920;
const SENT_AS_IS = ['image/jpeg', 'image/png', 'image/webp'];
const ERRORS = {                           // codes of the server's protocol
  overloaded: 'overloaded', too_many_frames: 'overloaded', server_full: 'overloaded', too_many_connections: 'overloaded',
  worker_lost: 'workerLost', no_model: 'noModel', unauthorized: 'unauthorized',
  too_large: 'tooLarge', too_many_pixels: 'tooLarge',
  empty: 'badPicture', not_an_image: 'badPicture', broken_image: 'badPicture', too_complex: 'badPicture',
};

// The page's text for an error code of the server.
export function errorKey(code) {
  return ERRORS[code] ?? 'refused';
}

// `key` names one of the page's texts, `detail` is the server's own wording.
export function problem(key, detail) {
  return Object.assign(new Error(key), { key, detail });
}

// Shows the file in `image` and returns what is to be sent. A GIF or another format that servers may not read becomes a
// JPEG of what the browser shows: of its first picture, where it is animated.
export async function loadPicture(image, file) {
  await showFile(image, file);
  if (SENT_AS_IS.includes(file.type)) return file;
  const still = await toJpeg(image, fitInto(image.naturalWidth, image.naturalHeight, SHRUNK_SIDE), 0.9);
  if (!still) return file;
  await showFile(image, still);
  return still;
}

async function showFile(image, file) {
  releasePicture(image);
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
  const headers = authorization();
  const response = await fetch(endpoint('api/predict'), { method: 'POST', body: form, headers, signal });
  const answer = await response.json().catch(() => ({}));
  if (!response.ok || answer.error || !answer.results) throw problem(errorKey(answer.error?.code), answer.error?.message);
  return answer;
}
