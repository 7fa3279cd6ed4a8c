// The browser's half of face_emotion.webcam: frames to the kernel, answers to the view.

import {
  cameraProblem, fillCameras, fitInto, nextVideoFrame, openCamera, releaseCamera, toJpeg,
} from './camera.js';
import { faceKey } from './faces.js';
import { HISTORY_MS, WidgetView } from './webcam_view.js';

const SILENCE_MS = 4000;                   // no answer for this long: the kernel is gone
const RATE_MS = 2000;                      // answers are counted over this time
const PAINT_MS = 120;                      // bars, history and numbers change at most this often; boxes always
const LARGEST_UPLOAD = 4e6;                // bytes; a larger picture is made smaller before it is sent
const UPLOAD_SIDE = 2048;
const GAP_MS = 1000;                       // a face unseen for longer interrupts its lines
const LEAVES_MS = 3000;                    // a face unseen for so long gives way to another, unless it was chosen

// From left to right as they are seen.
function inViewOrder(faces, mirrored) {
  const center = ({ bbox: [x, , width] }) => (x + width / 2) * (mirrored ? -1 : 1);
  return [...faces].sort((a, b) => center(a) - center(b));
}

function largest(faces) {
  const area = ({ bbox: [, , width, height] }) => width * height;
  const index = faces.reduce((best, face, k) => (area(face) > area(faces[best] ?? face) ? k : best), 0);
  return faces.length ? faceKey(faces[index], index) : undefined;
}

function saveText(text, name) {
  const link = document.createElement('a');
  Object.assign(link, { href: URL.createObjectURL(new Blob([text], { type: 'text/csv' })), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

class WebcamWidget {
  constructor(model, parent) {
    this.model = model;
    this.view = new WidgetView(model, parent);
    this.canvas = document.createElement('canvas');
    this.id = Math.random().toString(36).slice(2);   // of this view: a widget may be shown twice
    this.pending = new Map();              // number of a frame -> when it was sent
    this.answerTimes = [];
    this.clearHistory();
    this.number = this.total = this.paintedAt = 0;
    this.attempt = 0;                      // counts starts and stops, so that a late camera is not kept
    this.listen();
  }

  listen() {
    const { view } = this;
    view.start.onclick = () => (this.active ? this.stop() : this.start());
    view.shot.onclick = () => this.sendSnapshot();
    view.upload.onclick = () => view.file.click();
    view.file.onchange = () => {
      this.sendPicture(view.file.files[0]);
      view.file.value = '';                // so that the same file can be chosen again
    };
    view.cameras.onchange = () => this.start();
    view.csv.onclick = () => this.model.send({ kind: 'csv' });
    view.onChoose = (key) => this.choose(key);
    this.listeners = {
      'msg:custom': (message) => this.receive(message),
      comm_live_update: () => this.expectAnswerSoon(),
    };
    for (const [name, listener] of Object.entries(this.listeners)) this.model.on(name, listener);
    this.watchdog = setInterval(() => this.checkKernel(), 500);
  }

  get active() {
    return Boolean(this.stream || this.starting);
  }

  // ---------------------------------------------------------------- the camera

  async start() {
    const { view } = this;
    const attempt = this.release();
    const deviceId = view.cameras.value;
    this.starting = true;
    view.start.textContent = view.words.stop;
    view.say('starting', view.words.starting);
    try {
      const size = { width: { ideal: 640 }, height: { ideal: 480 } };
      const stream = await openCamera(deviceId ? { ...size, deviceId: { exact: deviceId } } : size);
      if (attempt === this.attempt) await this.run(stream);
      else releaseCamera(stream);
    } catch (error) {
      const { key, detail } = cameraProblem(error);
      if (key === 'noCamera') view.cameras.value = '';
      if (attempt === this.attempt) this.fail(view.words[key], detail);
    }
  }

  async run(stream) {
    const { view } = this;
    this.stream = stream;
    this.starting = false;
    stream.getVideoTracks()[0].onended = () => this.stream === stream && this.fail(view.words.cameraLost);
    view.video.srcObject = stream;
    await view.video.play();
    if (this.stream !== stream) return;
    view.showCamera(this.model.get('mirror'));
    view.shot.disabled = false;
    view.say('running', '');
    this.lastAnswer = performance.now();
    this.setRunning(true);
    this.watchVideo();
    view.cameras.hidden = await fillCameras(view.cameras, stream, String) < 2;
  }

  release() {
    const { view } = this;
    releaseCamera(this.stream);
    this.stream = null;
    this.starting = false;
    this.pending.clear();
    view.video.srcObject = null;
    view.shot.disabled = true;
    view.start.textContent = view.words.start;
    view.rate.textContent = '';
    view.overlay.clear();
    this.attempt += 1;
    return this.attempt;
  }

  stop() {
    this.release();
    this.view.showCards([]);
    this.view.say('stopped', this.view.words.stopped);
    this.setRunning(false);
  }

  fail(...text) {
    this.release();
    this.view.say('error', text.join(' ').trim());
    this.setRunning(false);
  }

  setRunning(value) {
    if (this.disconnected || this.model.get('running') === value) return;
    try {
      this.model.set('running', value);
      this.model.save_changes();
    } catch {
      this.disconnected = true;
    }
  }

  // ---------------------------------------------------------------- frames and pictures out

  watchVideo() {
    nextVideoFrame(this.view.video, () => {
      if (!this.stream) return;
      const room = this.pending.size < this.model.get('in_flight');
      if (room && !this.encoding && !document.hidden) this.sendFrame();
      this.watchVideo();
    });
  }

  async sendFrame() {
    const { stream, view: { video } } = this;
    const width = Math.min(this.model.get('frame_width'), video.videoWidth);
    const height = Math.round((width * video.videoHeight) / video.videoWidth);
    const startedAt = performance.now();
    this.encoding = true;
    try {
      const frame = await toJpeg(video, [width, height], this.model.get('quality'), this.canvas);
      if (!frame || this.stream !== stream) return;
      this.number += 1;
      const number = `${this.id}:${this.number}`;
      this.pending.set(number, startedAt);
      this.send({ kind: 'frame', number }, await frame.arrayBuffer());
    } finally {
      this.encoding = false;
    }
  }

  send(message, bytes) {
    if (this.disconnected) return;
    try {
      this.model.send(message, undefined, [bytes]);
    } catch {
      this.disconnected = true;            // no more messages: no kernel would read them
      if (this.active) this.fail(this.view.words.kernel);
    }
  }

  async sendSnapshot() {
    const { video } = this.view;
    if (!this.stream || !video.videoWidth) return;
    const picture = await toJpeg(video, [video.videoWidth, video.videoHeight], 0.95);
    this.send({ kind: 'snapshot' }, await picture.arrayBuffer());
  }

  async sendPicture(file) {
    const { view } = this;
    if (!file) return;
    this.release();
    this.setRunning(false);
    this.clearHistory();
    const bitmap = await createImageBitmap(file).catch(() => null);   // Python may still read it
    const size = bitmap ? fitInto(bitmap.width, bitmap.height, UPLOAD_SIDE) : [];
    const large = file.size > LARGEST_UPLOAD;
    if (large && !bitmap) return this.fail(view.words.unreadable);
    const content = large ? await toJpeg(bitmap, size, 0.92) : file;
    view.showStill(bitmap, size);
    view.say('picture', file.name);
    this.send({ kind: 'picture', name: file.name }, await content.arrayBuffer());
  }

  // ---------------------------------------------------------------- answers in

  receive(message) {
    const { view } = this;
    if (message.kind === 'result') this.showResult(message);
    else if (message.kind === 'picture' && view.root.dataset.state === 'picture') this.showPicture(message);
    else if (message.kind === 'csv') saveText(message.text, 'faces.csv');
    else if (message.kind === 'taken') view.flash(view.words.taken);
    else if (message.kind === 'error') this.showError(message);
    else if (message.kind === 'start' && latest.get(this.model.get('key')) === this && !this.active) this.start();
    else if (message.kind === 'stop' && this.active) this.stop();
  }

  // The time at which the frame of a message was sent; undefined for a frame from before a stop.
  settle({ number, dropped = [] }) {
    const sentAt = this.pending.get(number);
    for (const settled of [...dropped, number]) this.pending.delete(settled);
    return sentAt;
  }

  showResult(message) {
    const { view } = this;
    const { results, frame } = message;
    const now = performance.now();
    const sentAt = this.settle(message);
    if (!this.stream || sentAt === undefined) return;
    this.lastAnswer = now;
    this.total += 1;
    const mirrored = this.model.get('mirror');
    const faces = inViewOrder(results, mirrored);
    this.remember(faces, now);
    view.overlay.show(faces, frame, mirrored, this.chosen);
    const rate = this.countAnswer(now);
    if (now - this.paintedAt < PAINT_MS) return;
    this.paintedAt = now;
    view.csv.disabled = false;
    view.showRate(rate, now - sentAt, this.total);
    view.showCards(faces, this.chosen);
    view.count(faces);
    view.plot(this.tracks.get(this.chosen) ?? [], now, this.tracks.size > 1 ? this.chosen : null);
  }

  // Answers a second, this one included.
  countAnswer(now) {
    this.answerTimes = [...this.answerTimes.filter((time) => now - time <= RATE_MS), now];
    const { length, 0: first } = this.answerTimes;
    return length < 2 ? 0 : (1000 * (length - 1)) / (now - first);
  }

  showPicture({ results, frame }) {
    this.view.overlay.show(results, frame);
    this.view.showCards(results);
    this.view.count(results);
  }

  // ---------------------------------------------------------------- the history of each face

  clearHistory() {
    this.tracks = new Map();               // key of a face -> its points
    this.chosen = null;                    // key of the face that is shown
    this.chosenByUser = false;
  }

  remember(faces, now) {
    faces.forEach((face, index) => {
      const key = faceKey(face, index);
      const points = this.tracks.get(key) ?? [];
      const gap = now - (points.at(-1)?.time ?? -Infinity) > GAP_MS;
      points.push({ time: now, probabilities: face.probabilities, gap });
      this.tracks.set(key, points);
    });
    for (const [key, points] of this.tracks) {
      while (points.length && now - points[0].time > HISTORY_MS) points.shift();
      if (!points.length) this.tracks.delete(key);
    }
    if (!this.keepsChosen(now)) this.chosen = largest(faces) ?? this.chosen;
  }

  // A face that was chosen stays while it has a history; another one gives way when it has left.
  keepsChosen(now) {
    const last = this.tracks.get(this.chosen)?.at(-1);
    if (!last) this.chosenByUser = false;
    return last && (this.chosenByUser || now - last.time <= LEAVES_MS);
  }

  choose(key) {
    if (!this.tracks.has(key)) return;
    this.chosen = key;
    this.chosenByUser = true;
    this.paintedAt = 0;                    // show it with the next answer
  }

  showError(message) {
    this.settle(message);
    this.lastAnswer = performance.now();
    this.view.notice(message.message);
    if (!this.stream) this.view.say('error', message.message);
  }

  // ---------------------------------------------------------------- the kernel

  checkKernel() {
    if (!this.stream) return;
    const now = performance.now();
    if (document.hidden || this.pending.size === 0) this.lastAnswer = now;
    else if (now - this.lastAnswer > SILENCE_MS) this.fail(this.view.words.kernel);
  }

  // The connection to the kernel changed: wait one more second for an answer.
  expectAnswerSoon() {
    this.lastAnswer = Math.min(this.lastAnswer ?? 0, performance.now() - SILENCE_MS + 1000);
  }

  dispose() {
    clearInterval(this.watchdog);
    for (const [name, listener] of Object.entries(this.listeners)) this.model.off(name, listener);
    this.release();
    this.setRunning(false);
    this.view.root.remove();
  }
}

const latest = new Map();                  // for each widget the view that was shown last: only it obeys start()

function render({ model, el }) {
  const widget = new WebcamWidget(model, el);
  const key = model.get('key');
  latest.set(key, widget);
  return () => {
    if (latest.get(key) === widget) latest.delete(key);
    widget.dispose();
  };
}

export default { render };
