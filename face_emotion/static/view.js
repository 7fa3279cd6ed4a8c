// What the page shows: status, message, numbers, the stage with the camera or a picture, boxes and cards.

import { Cards } from './cards.js';
import { faceKey, FaceOverlay, Palette } from './faces.js';
import { emotionName, nextLanguage, text, translatePage } from './texts.js';
import { errorKey, releasePicture } from './upload.js';

const RATE_WINDOW_MS = 2000;
const RATE_REFRESH_MS = 400;               // readable numbers do not flicker
const STEADY_MS = 1000;                    // an emotion that lasts so long is announced
const SILENCE_MS = 4000;                   // between two announcements

export const byId = (id) => document.getElementById(id);
export const stage = byId('stage');
export const video = byId('video');
export const picture = byId('picture');

const colors = await fetch(new URL('palette.json', import.meta.url)).then((response) => response.json());
export const palette = new Palette(colors);
const overlay = new FaceOverlay(byId('overlay'), palette, emotionName);
const cards = new Cards(byId('faces'), palette);
const shown = { status: 'idle', message: { key: 'welcome' } };   // kept for a change of the language

// ---------------------------------------------------------------- words

export function showLanguage() {
  translatePage();
  byId('lang').lang = nextLanguage();
  byId('lang').textContent = text('otherLanguage');
  showStatus(shown.status);
  showMessage(shown.message.key, shown.message);
  cards.translate();
  showFaceCount();
  overlay.draw();
}

export function showStatus(status) {
  shown.status = status;
  byId('status').dataset.state = status;
  setText(byId('status'), text(`status.${status}`));
}

// Screen readers announce what is written, even when it is the same: nothing is written twice.
function setText(element, content) {
  if (element.textContent !== content) element.textContent = content;
}

// `detail` is the server's own wording: it is shown beside ours, not instead of it.
export function showMessage(key, { kind = 'note', detail = '' } = {}) {
  shown.message = { key, kind, detail };
  const element = byId('message');
  const content = key ? [text(key), detail].filter(Boolean).join(' ') : '';
  setText(element, content);
  element.dataset.kind = kind;
  element.dataset.key = key;
}

// ---------------------------------------------------------------- numbers

export function showNumbers({ fps, latency, server }) {
  const format = (value, digits, unit = '') => (Number.isFinite(value) ? value.toFixed(digits) + unit : '–');
  byId('fps').textContent = format(fps, 1);
  byId('latency').textContent = format(latency, 0, ' ms');
  byId('server-time').textContent = format(server, 1, ' ms');
}

// The frame rate and mean times of the last two seconds.
class Rates {
  #samples = [];
  #shownAt = 0;

  add(latency, server) {
    const now = performance.now();
    this.#samples.push({ now, latency, server });
    this.#samples = this.#samples.filter((sample) => now - sample.now <= RATE_WINDOW_MS);
    if (now - this.#shownAt < RATE_REFRESH_MS) return;
    this.#shownAt = now;
    showNumbers({ fps: this.#perSecond(), latency: this.#mean('latency'), server: this.#mean('server') });
  }

  clear() {
    this.#samples = [];
    showNumbers({});
  }

  #perSecond() {
    const first = this.#samples[0];
    const last = this.#samples.at(-1);
    return this.#samples.length > 1 ? (1000 * (this.#samples.length - 1)) / (last.now - first.now) : undefined;
  }

  #mean(field) {
    return this.#samples.reduce((sum, sample) => sum + sample[field], 0) / this.#samples.length;
  }
}

export const rates = new Rates();

// Tells screen readers the emotions: when they have changed and last, at most every few seconds.
class Announcer {
  #said = '';
  #heard = '';
  #heardAt = 0;
  #saidAt = 0;

  hear(faces) {
    const now = performance.now();
    const several = faces.length > 1;
    const words = faces.map((face, index) => [
      several ? text('who', faceKey(face, index)) : '', emotionName(face.emotion),
    ].filter(Boolean).join(': ')).join(', ');
    if (words !== this.#heard) [this.#heard, this.#heardAt] = [words, now];
    const lasts = now - this.#heardAt >= STEADY_MS || stage.dataset.source === 'picture';
    if (words === this.#said || !lasts || now - this.#saidAt < SILENCE_MS) return;
    [this.#said, this.#saidAt] = [words, now];
    byId('announcer').textContent = words;
  }

  clear() {
    this.#said = this.#heard = byId('announcer').textContent = '';
    this.#saidAt = -SILENCE_MS;
  }
}

const announcer = new Announcer();

// ---------------------------------------------------------------- faces

export function showAnswer({ results, frame, error }) {
  if (frame) overlay.show(results, frame, stage.classList.contains('mirrored'));
  else overlay.clear();
  cards.show(results);
  showFaceCount();
  announcer.hear(results);
  if (error) showMessage(errorKey(error.code), { kind: 'error', detail: error.message });
  else showMessage(cards.count ? '' : 'noFace');
}

export function clearAnswer() {
  overlay.clear();
  cards.clear();
  announcer.clear();
  showFaceCount();
}

function showFaceCount() {
  setText(byId('count'), text('faces', cards.count));
}

// ---------------------------------------------------------------- stage and controls

// source: 'none', 'camera' or 'picture'
export function showSource(source) {
  stage.dataset.source = source;
  video.hidden = source !== 'camera';
  picture.hidden = source !== 'picture';
  if (source !== 'picture') releasePicture(picture);
  if (source !== 'camera') stage.classList.remove('mirrored');
  if (source === 'none') stage.style.aspectRatio = '';
}

export function fitStage(width, height) {
  if (width && height) stage.style.aspectRatio = `${width} / ${height}`;
}

export function showCameraControls(running) {
  const focused = [byId('start'), byId('stop')].includes(document.activeElement);
  byId('start').hidden = running;
  byId('stop').hidden = !running;
  if (focused) byId(running ? 'stop' : 'start').focus();    // the button that had the focus is hidden now
  if (!running) byId('cameras').hidden = byId('flip').hidden = true;
}
