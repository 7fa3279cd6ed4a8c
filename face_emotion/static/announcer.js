// Tells screen readers the emotions: when they have changed and last, at most every few seconds.

import { faceKey } from './faces.js';
import { emotionName, text } from './texts.js';

const STEADY_MS = 1000;                    // an emotion that lasts so long is announced
const SILENCE_MS = 4000;                   // between two announcements

export class Announcer {
  #element;
  #said = '';
  #heard = '';
  #heardAt = 0;
  #saidAt = -SILENCE_MS;

  // element: with role="status"
  constructor(element) {
    this.#element = element;
  }

  // atOnce: for a picture, which does not change
  hear(faces, atOnce = false) {
    const now = performance.now();
    const words = faces.map((face, index) => this.#name(face, index, faces.length)).join(', ');
    if (words !== this.#heard) [this.#heard, this.#heardAt] = [words, now];
    if (words === this.#said || !(atOnce || this.#lasts(now))) return;
    [this.#said, this.#saidAt] = [words, now];
    this.#element.textContent = words;
  }

  clear() {
    this.#said = this.#heard = this.#element.textContent = '';
    this.#saidAt = -SILENCE_MS;
  }

  #lasts(now) {
    return now - this.#heardAt >= STEADY_MS && now - this.#saidAt >= SILENCE_MS;
  }

  #name(face, index, count) {
    const emotion = emotionName(face.emotion);
    return count > 1 ? `${text('who', faceKey(face, index))}: ${emotion}` : emotion;
  }
}
