// The camera at work: frames to the server, answers to the page.

import { fitInto, nextVideoFrame, releaseCamera, toJpeg } from './camera.js';
import { Connection } from './connection.js';
import { rates } from './numbers.js';
import { beginHistory, clearFaces, lookAt, palette, receive, showPaused } from './results.js';
import { learnKoreanNames } from './texts.js';
import { byId, showMessage, showStatus, video } from './view.js';

export const FRAME_SIDE = 640;             // longer side of a sent frame; the server's hello may ask for less
const JPEG_QUALITY = 0.7;

// What a server says of itself, for everything that has a connection.
export function greet(hello) {
  palette.classNames = hello.class_names;
  learnKoreanNames(hello.labels_ko);
  showStatus('connected');
  showMessage('');
}

// Says why there is no connection.
export function explainLoss(reason) {
  const noModel = reason === 'Model not loaded';
  showStatus(noModel ? 'noModel' : 'reconnecting');
  showMessage(noModel ? 'noModel' : 'lost', { kind: 'error' });
}

// A new connection counts its faces from 1 again. This keeps their numbers apart from those before.
export class FaceNumbers {
  #before = 0;
  #highest = 0;

  renew() {
    this.#before = this.#highest;
  }

  apply(answer) {
    for (const face of answer.results) {
      face.face_id += this.#before;
      this.#highest = Math.max(this.#highest, face.face_id);
    }
    return answer;
  }
}

// One frame at a time: the newest picture is encoded and sent as soon as the previous frame is answered.
export class CameraSession {
  #stream;
  #connection;
  #numbers = new FaceNumbers();
  #canvas = document.createElement('canvas');
  #frameSide = FRAME_SIDE;
  #step = 'rest';                          // rest, capture, answer
  #fresh = false;                          // the video shows a picture that was not sent yet
  #pending = null;
  #paused = false;
  #stopped = false;
  #startedAt = performance.now();

  constructor(stream) {
    this.#stream = stream;
    this.#connection = new Connection({
      onHello: (hello) => this.#greet(hello),
      onAnswer: (answer) => this.#receive(answer),
      onLost: (reason) => this.#lose(reason),
    });
  }

  get stream() {
    return this.#stream;
  }

  start() {
    beginHistory({
      onPause: (paused) => this.#pause(paused),
      onSeek: (time) => this.#lookBack(time),
    });
    showStatus('connecting');
    this.#connection.open();
    this.#watchVideo();
  }

  stop() {
    this.#stopped = true;
    releaseCamera(this.#stream);
    this.#connection.close();
    byId('pause').hidden = true;
  }

  // For another smoothing.
  reconnect() {
    this.#step = 'rest';
    this.#connection.reopen();
  }

  // Called when the page becomes visible or the network returns.
  wake() {
    rates.clear();
    this.#connection.retryNow();
    this.#next();
  }

  // A pause stops the picture, so nothing is sent either.
  #pause(paused) {
    this.#paused = paused;
    showPaused(paused);
    if (this.#stopped) return;
    if (paused) video.pause();
    else video.play();
    rates.clear();
    this.#next();
  }

  #lookBack(time) {
    if (!this.#paused) this.#pause(true);
    lookAt(time, { boxes: false });
  }

  #watchVideo() {
    nextVideoFrame(video, () => {
      if (this.#stopped) return;
      this.#fresh = true;
      this.#next();
      this.#watchVideo();
    });
  }

  #next() {
    if (this.#step === 'rest' && this.#fresh && this.#maySend()) this.#capture();
  }

  #maySend() {
    return !this.#stopped && !this.#paused && this.#connection.ready && document.visibilityState === 'visible';
  }

  async #capture() {
    if (!video.videoWidth) return;         // no picture yet
    this.#step = 'capture';
    this.#fresh = false;
    const capturedAt = performance.now();
    const size = fitInto(video.videoWidth, video.videoHeight, this.#frameSide);
    this.#send(await toJpeg(video, size, JPEG_QUALITY, this.#canvas), capturedAt);
  }

  #send(frame, capturedAt) {
    this.#step = 'rest';
    if (!frame || !this.#maySend()) return;
    this.#step = 'answer';
    this.#pending = { seq: this.#connection.send(frame), capturedAt };
  }

  #greet(hello) {
    this.#frameSide = Math.min(hello.frame_width ?? FRAME_SIDE, FRAME_SIDE);
    this.#numbers.renew();
    clearFaces();                          // a restarted server may know other emotions
    greet(hello);
    this.#next();
  }

  #receive(answer) {
    const { seq, capturedAt } = this.#pending ?? {};
    if (answer.seq === seq && answer.timings) rates.add(performance.now() - capturedAt, answer.timings.total);
    if (this.#step === 'answer') this.#step = 'rest';
    this.#next();                          // first, so that the server works while the page draws
    if (!this.#paused) receive(this.#numbers.apply(answer), (capturedAt - this.#startedAt) / 1000, 'camera');
  }

  #lose(reason) {
    if (this.#step === 'answer') this.#step = 'rest';       // that answer will not come
    rates.clear();
    clearFaces();
    explainLoss(reason);
  }
}
