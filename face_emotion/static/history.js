// What the faces showed since the camera, a video or a set of pictures began. Plain data, without the page.

import { faceKey } from './faces.js';

const MOST_MOMENTS = 200_000;              // nearly two hours at 30 frames a second; then the oldest are forgotten

// A moment: { time, source, frame, faces }. time: seconds; source: 'camera' or a file name; faces as the server sends them.
export class History {
  moments = [];
  forgotten = 0;
  startedAt = new Date();

  add(moment) {
    const at = this.moments.at(-1);
    if (at && moment.time < at.time) return this.#insert(moment);
    this.moments.push(moment);
    if (this.moments.length > 1.1 * MOST_MOMENTS) {
      this.forgotten += this.moments.length - MOST_MOMENTS;
      this.moments = this.moments.slice(-MOST_MOMENTS);
    }
    return moment;
  }

  #insert(moment) {
    this.moments.splice(this.indexAfter(moment.time), 0, moment);
    return moment;
  }

  get end() {
    return this.moments.length ? this.moments.at(-1).time : 0;
  }

  // The index of the first moment later than `time`.
  indexAfter(time) {
    let [low, high] = [0, this.moments.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.moments[middle].time <= time) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  // The last moment that is not later than `time`; the first one for an earlier time.
  at(time) {
    return this.moments[Math.max(0, this.indexAfter(time) - 1)];
  }

  between(from, to) {
    return this.moments.slice(Math.max(0, this.indexAfter(from) - 1), this.indexAfter(to));
  }

  // Keys of the faces between two times, in the order of their numbers.
  keys(from = -Infinity, to = Infinity) {
    const keys = new Set();
    for (const { faces } of this.between(from, to)) faces.forEach((face, index) => keys.add(faceKey(face, index)));
    return [...keys].sort((a, b) => a - b);
  }
}

export function faceOf(moment, key) {
  return moment.faces.find((face, index) => faceKey(face, index) === key);
}

// For one face: share of the moments in which each emotion was the strongest, from large to small.
export function shares(moments, key, judge) {
  const counts = new Map();
  for (const moment of moments) {
    const face = faceOf(moment, key);
    if (!face) continue;
    const [{ emotion }] = judge([face]);
    counts.set(emotion, (counts.get(emotion) ?? 0) + 1);
  }
  const total = [...counts.values()].reduce((sum, count) => sum + count, 0);
  const sorted = [...counts].sort(([, a], [, b]) => b - a);
  return { total, shares: sorted.map(([emotion, count]) => ({ emotion, share: count / total })) };
}
