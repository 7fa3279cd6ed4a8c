// The time line below the picture: a line for each emotion of one face, with pause and a slider to look back.

import { percent } from './faces.js';
import { faceOf } from './history.js';
import { judged } from './preferences.js';
import { emotionName, text } from './texts.js';

const WINDOW_S = 60;                       // the part of a live session that is shown
const DRAW_MS = 100;                       // it is drawn at most this often
const GAP_S = 1;                           // a face unseen for longer interrupts the lines
const LEAVES_S = 3;                        // a face unseen for so long gives way to one in view, unless it was chosen

const byId = (id) => document.getElementById(id);
const clock = (seconds) => `${Math.floor(seconds / 60)}:${(seconds % 60).toFixed(1).padStart(4, '0')}`;

export class Timeline {
  chosen = null;                           // key of the face whose lines are drawn
  #byUser = false;
  #palette;
  #handlers;
  #history;
  #duration = null;                        // seconds of a video; null for a camera
  #cursor = null;                          // time that is looked at; null: the end
  #paused = false;
  #drawnAt = 0;

  // handlers: onPause(paused), onSeek(time), onChoose(key)
  constructor(palette, handlers) {
    this.#palette = palette;
    this.#handlers = handlers;
    byId('pause').addEventListener('click', () => this.#handlers.onPause(!this.#paused));
    byId('scrub').addEventListener('input', (event) => this.#seek(Number(event.target.value)));
    byId('chosen').addEventListener('change', (event) => this.choose(event.target.value));
    byId('chart').addEventListener('pointerdown', (event) => this.#drag(event));
    byId('chart').addEventListener('pointermove', (event) => event.buttons && this.#drag(event));
    new ResizeObserver(() => this.draw()).observe(byId('chart'));
  }

  // duration: seconds of a video; null for a camera
  start(history, duration = null) {
    Object.assign(this, { chosen: null });
    this.#history = history;
    this.#duration = duration;
    this.#cursor = null;
    this.#byUser = false;
    byId('chosen').replaceChildren();
    byId('timeline').hidden = true;
    byId('pause').hidden = byId('scrub').disabled = false;
    this.showPaused(false);
  }

  get paused() {
    return this.#paused;
  }

  // The first and the last time that are shown.
  get span() {
    if (this.#duration) return [0, this.#duration];
    return [this.#history.end - WINDOW_S, this.#history.end];
  }

  showPaused(paused) {
    this.#paused = paused;
    const key = this.#duration ? 'play' : 'resume';
    byId('pause').textContent = text(paused ? key : 'pause');
    if (!paused) this.#cursor = null;
    this.draw();
  }

  // The moment at `time` is shown; null for the newest one.
  look(time) {
    this.#cursor = time;
    this.draw();
  }

  choose(key) {
    if (!this.#history.keys(...this.span).includes(key)) return;
    this.chosen = key;
    this.#byUser = true;
    this.draw();
    this.#handlers.onChoose(key);
  }

  // Called for every new moment.
  update() {
    if (performance.now() - this.#drawnAt >= DRAW_MS) this.draw();
  }

  draw() {
    if (!this.#history?.moments.length || this.#history.end === null) return;     // pictures have no time
    this.#drawnAt = performance.now();
    byId('timeline').hidden = false;
    this.#offerFaces();
    this.#drawLines();
    this.#showMoment();
  }

  translate() {
    byId('legend').replaceChildren();
    byId('chosen').replaceChildren();
    this.showPaused(this.#paused);
  }

  // ---------------------------------------------------------------- the face

  #offerFaces() {
    const keys = this.#history.keys(...this.span);
    if (!this.#keeps(keys)) {
      const [inView] = this.#history.keys(this.#history.end, Infinity);
      this.chosen = inView ?? keys[0] ?? null;
      this.#byUser = false;
    }
    const select = byId('chosen');
    const offered = [...select.options].map((option) => option.value);
    if (keys.join() !== offered.join()) {
      select.replaceChildren(...keys.map((key) => new Option(text('who', key), key)));
    }
    select.hidden = keys.length < 2;
    if (select.value !== this.chosen) select.value = this.chosen;
  }

  #keeps(keys) {
    if (!keys.includes(this.chosen)) return false;
    if (this.#byUser || this.#duration) return true;
    return this.#history.keys(this.#history.end - LEAVES_S, Infinity).includes(this.chosen);
  }

  // ---------------------------------------------------------------- the drawing

  #drawLines() {
    const canvas = byId('chart');
    const { clientWidth: width, clientHeight: height } = canvas;
    const ratio = window.devicePixelRatio || 1;
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    const context = canvas.getContext('2d');
    context.scale(ratio, ratio);
    const [from, to] = this.span;
    const place = (time, share) => [(width * (time - from)) / (to - from || 1), 3 + (height - 6) * (1 - share)];
    this.#drawGrid(context, width, place);
    const points = this.#points(from, to, width);
    for (const name of this.#palette.classNames) this.#drawLine(context, points, name, place);
    canvas.dataset.points = points.length;
    this.#showLegend();
    if (this.#cursor !== null) this.#drawCursor(context, place(this.#cursor, 0)[0], height);
  }

  #drawGrid(context, width, place) {
    context.strokeStyle = 'rgb(128 128 128 / 0.3)';
    for (const share of [0, 0.5, 1]) {
      const y = Math.round(place(0, share)[1]) + 0.5;
      context.strokeRect(0, y, width, 0);
    }
  }

  // Of the chosen face: at most two for a pixel. `gap`: it was out of view before.
  #points(from, to, width) {
    const seen = [];
    let last = -Infinity;
    for (const moment of this.#history.between(from, to)) {
      const face = faceOf(moment, this.chosen);
      if (!face) continue;
      seen.push({ time: moment.time, probabilities: face.probabilities, gap: moment.time - last > GAP_S });
      last = moment.time;
    }
    const stride = Math.max(1, Math.floor(seen.length / (2 * width || 1)));
    return seen.filter((point, index) => point.gap || index % stride === 0);
  }

  #drawLine(context, points, name, place) {
    context.beginPath();
    for (const { time, probabilities, gap } of points) {
      const at = place(time, probabilities[name] ?? 0);
      if (gap) context.moveTo(...at);
      context.lineTo(...at);
    }
    context.strokeStyle = this.#palette.of(name);
    context.lineWidth = 2;
    context.lineJoin = 'round';
    context.stroke();
  }

  #drawCursor(context, x, height) {
    context.fillStyle = getComputedStyle(byId('chart')).color;
    context.fillRect(Math.round(x) - 0.5, 0, 1.5, height);
  }

  #showLegend() {
    const names = this.#palette.classNames;
    const legend = byId('legend');
    if ([...legend.children].map((item) => item.dataset.name).join() === names.join()) return;
    legend.replaceChildren(...names.map((name) => {
      const item = Object.assign(document.createElement('li'), { textContent: emotionName(name) });
      item.dataset.name = name;
      item.style.setProperty('--hue', this.#palette.of(name));
      return item;
    }));
  }

  // ---------------------------------------------------------------- the slider

  #seek(time) {
    this.#handlers.onSeek(Math.max(time, this.#history.moments[0].time));
  }

  #drag(event) {
    const { left, width } = byId('chart').getBoundingClientRect();
    const [from, to] = this.span;
    const share = Math.max(0, Math.min(1, (event.clientX - left) / width));
    this.#seek(from + share * (to - from));
  }

  #showMoment() {
    const [from, to] = this.span;
    const slider = byId('scrub');
    Object.assign(slider, { min: from, max: to });
    slider.value = this.#cursor ?? to;
    const words = this.#describe(this.#cursor ?? this.#history.end);
    byId('moment').textContent = words;
    slider.setAttribute('aria-valuetext', words);
  }

  #describe(time) {
    const live = this.#cursor === null && !this.#duration;
    const when = this.#duration ? clock(time) : text('ago', (this.#history.end - time).toFixed(1));
    const face = faceOf(this.#history.at(time), this.chosen);
    const [shown] = face ? judged([face]) : [];
    const what = shown ? `${emotionName(shown.emotion)} ${percent(shown.confidence)}` : '–';
    return live ? what : `${when} · ${what}`;
  }
}
