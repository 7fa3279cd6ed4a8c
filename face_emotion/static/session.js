// The camera at work: frames to the server, answers to the page.

import { fitInto, nextVideoFrame, releaseCamera, toJpeg } from './camera.js';
import { Connection } from './connection.js';
import { learnKoreanNames } from './texts.js';
import { clearAnswer, palette, rates, showAnswer, showMessage, showStatus, video } from './view.js';

const FRAME_SIDE = 640;                    // longer side of a sent frame; the server's hello may ask for less
const JPEG_QUALITY = 0.7;

// One frame at a time: the newest picture is encoded and sent as soon as the previous frame is answered.
export class CameraSession {
  #stream;
  #connection;
  #canvas = document.createElement('canvas');
  #frameSide = FRAME_SIDE;
  #step = 'rest';                          // rest, capture, answer
  #fresh = false;                          // the video shows a picture that was not sent yet
  #pending = null;
  #stopped = false;

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
    showStatus('connecting');
    this.#connection.open();
    this.#watchVideo();
  }

  stop() {
    this.#stopped = true;
    releaseCamera(this.#stream);
    this.#connection.close();
  }

  // Called when the page becomes visible or the network returns.
  wake() {
    rates.clear();
    this.#connection.retryNow();
    this.#next();
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
    return !this.#stopped && this.#connection.ready && document.visibilityState === 'visible';
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
    palette.classNames = hello.class_names;
    learnKoreanNames(hello.labels_ko);
    clearAnswer();                         // a restarted server may know other emotions
    showStatus('connected');
    showMessage('');
    this.#next();
  }

  #receive(answer) {
    const { seq, capturedAt } = this.#pending ?? {};
    if (answer.seq === seq && answer.timings) rates.add(performance.now() - capturedAt, answer.timings.total);
    if (this.#step === 'answer') this.#step = 'rest';
    this.#next();                          // first, so that the server works while the page draws
    showAnswer(answer);
  }

  #lose(reason) {
    const noModel = reason === 'Model not loaded';
    if (this.#step === 'answer') this.#step = 'rest';       // that answer will not come
    rates.clear();
    clearAnswer();
    showStatus(noModel ? 'noModel' : 'reconnecting');
    showMessage(noModel ? 'noModel' : 'lost', { kind: 'error' });
  }
}
