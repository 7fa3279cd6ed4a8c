// A video file: every frame is analysed once, then it can be played and searched with its results.

import { fitInto, nextVideoFrame, toJpeg } from './camera.js';
import { Connection } from './connection.js';
import { rates } from './numbers.js';
import { beginHistory, lookAt, receive, showPaused, showSummary } from './results.js';
import { explainLoss, FaceNumbers, FRAME_SIDE, greet } from './session.js';
import { problem } from './upload.js';
import { byId, fitStage, showMessage, showRunning, showSource, showStatus, video } from './view.js';

const JPEG_QUALITY = 0.8;
const PROBE_MS = 1000, PROBE_SPEED = 0.5;  // the frame rate is measured by playing for so long, at so much of the speed
const USUAL_FRAME_S = 1 / 25;
const OPEN_WITHIN_MS = 15_000;
const ENDINGS = /\.(mp4|m4v|mov|webm|mkv|avi|ogv|3gp)$/i;

export function isVideo(file) {
  return file.type.startsWith('video/') || (!file.type && ENDINGS.test(file.name));
}

// Resolves at the first of the events; rejects when the video reports an error or nothing happens.
function once(...events) {
  return new Promise((resolve, reject) => {
    const end = new AbortController();
    const done = (call) => () => { end.abort(); clearTimeout(timer); call(); };
    const fail = done(() => reject(problem('notAVideo')));
    const timer = setTimeout(fail, OPEN_WITHIN_MS);
    for (const event of events) video.addEventListener(event, done(resolve), { signal: end.signal });
    video.addEventListener('error', fail, { signal: end.signal });
  });
}

export class Film {
  #file;
  #connection = new Connection({
    onHello: (hello) => this.#greet(hello),
    onAnswer: (answer) => this.#answered?.(this.#numbers.apply(answer)),
    onLost: (reason) => this.#lose(reason),
  });
  #numbers = new FaceNumbers();
  #canvas = document.createElement('canvas');
  #ready = null;                           // called when the server has greeted
  #answered = null;                        // called with the next answer
  #stopped = false;                        // no more frames are analysed
  #closed = false;                         // something else is on the stage

  constructor(file) {
    this.#file = file;
  }

  // Shows the video and analyses it. Raises an error with `key`.
  async run() {
    await this.#open();
    if (this.#closed) return;
    beginHistory({
      onPause: (paused) => this.#play(!paused),
      onSeek: (time) => this.#seek(time),
    }, video.duration);
    showRunning('stopAnalysis');
    byId('pause').hidden = byId('scrub').disabled = true;
    await this.#analyse();
    this.#finish();
  }

  // Ends the analysis; what was found stays.
  stop() {
    this.#stopped = true;
    this.#answered?.(null);
    this.#ready?.();
  }

  close() {
    this.#closed = true;
    this.stop();
    this.#connection.close();
    video.pause();
    if (video.src) URL.revokeObjectURL(video.src);
    video.removeAttribute('src');
    video.load();
    byId('progress').hidden = true;
  }

  get analysing() {
    return !this.#stopped;
  }

  async #open() {
    video.srcObject = null;
    video.src = URL.createObjectURL(this.#file);
    await once('loadeddata');
    if (!video.videoWidth) throw problem('notAVideo');
    if (!Number.isFinite(video.duration)) await this.#findEnd();
    if (this.#closed) return;
    fitStage(video.videoWidth, video.videoHeight);
    showSource('video');
    showMessage('');
  }

  // The recordings of browsers do not tell their length until one has been at the end.
  async #findEnd() {
    video.currentTime = 1e7;
    await once('seeked');
    if (!Number.isFinite(video.duration)) throw problem('notAVideo');
  }

  // ---------------------------------------------------------------- analysis

  async #analyse() {
    const step = await this.#frameSeconds();
    showStatus('connecting');
    const connected = new Promise((resolve) => { this.#ready = resolve; });
    this.#connection.open();
    await connected;
    byId('progress').hidden = false;
    for (let time = 0; time < video.duration - step / 4 && !this.#stopped; time += step) {
      byId('progress').value = time / video.duration;
      const answer = await this.#answerAt(Math.min(time + step / 2, video.duration));
      if (answer && !this.#stopped) receive(answer, time, this.#file.name);
    }
  }

  // Seconds between two frames, measured by playing the beginning slowly, so that a busy machine shows most frames.
  async #frameSeconds() {
    if (!video.requestVideoFrameCallback) return USUAL_FRAME_S;
    const shown = [];                                     // time, and number of the frame
    const note = (_, { mediaTime, presentedFrames }) => {
      shown.push([mediaTime, presentedFrames]);
      video.requestVideoFrameCallback(note);
    };
    const handle = video.requestVideoFrameCallback(note);
    video.playbackRate = PROBE_SPEED;
    await video.play();
    await Promise.race([once('ended').catch(() => {}), new Promise((resolve) => { setTimeout(resolve, PROBE_MS); })]);
    video.pause();
    video.playbackRate = 1;
    video.cancelVideoFrameCallback(handle);
    const steps = shown.slice(1).map(([time, n], i) => (time - shown[i][0]) / Math.max(1, n - shown[i][1]))
      .filter((step) => step > 0.001);
    if (!steps.length) return USUAL_FRAME_S;
    return Math.max(1 / 60, Math.min(0.5, ...steps));     // the smallest: a slow machine skips frames
  }

  // The answer for the frame at `time`; asked again when the connection was lost meanwhile.
  async #answerAt(time) {
    video.currentTime = time;
    await once('seeked');
    const size = fitInto(video.videoWidth, video.videoHeight, FRAME_SIDE);
    const frame = await toJpeg(video, size, JPEG_QUALITY, this.#canvas);
    let answer = 'lost';
    while (answer === 'lost' && !this.#stopped) {
      if (!this.#connection.ready) await new Promise((resolve) => { this.#ready = resolve; });
      if (this.#stopped) return null;
      const sentAt = performance.now();
      answer = await new Promise((resolve) => {
        this.#answered = resolve;
        this.#connection.send(frame);
      });
      if (answer?.timings) rates.add(performance.now() - sentAt, answer.timings.total);
    }
    return answer === 'lost' ? null : answer;
  }

  #greet(hello) {
    this.#numbers.renew();
    greet(hello);
    this.#ready?.();
  }

  #lose(reason) {
    explainLoss(reason);
    this.#answered?.('lost');
  }

  // ---------------------------------------------------------------- after it

  #finish() {
    if (this.#closed) return;
    this.#stopped = true;
    this.#connection.close();
    byId('progress').hidden = true;
    showStatus('idle');
    showMessage('');
    showRunning(null);
    byId('pause').hidden = byId('scrub').disabled = false;
    showPaused(true);
    showSummary();
    video.onended = () => showPaused(true);
    this.#seek(0);
  }

  #seek(time) {
    if (!this.#stopped) return;
    video.currentTime = time;
    lookAt(time);
  }

  #play(playing) {
    if (!this.#stopped) return;
    showPaused(!playing);
    if (!playing) return video.pause();
    if (video.ended) video.currentTime = 0;
    video.play();
    this.#follow();
  }

  // While it plays, the results are those of the frame that is seen.
  #follow() {
    nextVideoFrame(video, () => {
      if (this.#closed || video.paused) return;
      lookAt(video.currentTime);
      this.#follow();
    });
  }
}
