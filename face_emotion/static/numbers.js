// Frame rate and times below the picture.

import { byId } from './view.js';

const RATE_WINDOW_MS = 2000;
const RATE_REFRESH_MS = 400;               // readable numbers do not flicker

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
