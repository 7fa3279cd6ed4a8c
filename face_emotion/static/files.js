// The pictures and videos that were chosen, dropped or pasted: one is on the stage, the others wait behind it.

import { Film, isVideo } from './film.js';
import { showNumbers } from './numbers.js';
import { beginHistory, clearFaces, palette, receive, showMoment } from './results.js';
import { text } from './texts.js';
import { loadPicture, predict } from './upload.js';
import { byId, fitStage, picture, setText, showMessage, showRunning, showSource } from './view.js';

export class Files {
  #items;                                  // { file, moment } in the order in which they came
  #index = 0;
  #film = null;
  #work = new AbortController();           // of the picture under way
  #closed = false;

  constructor(files) {
    this.#items = files.map((file) => ({ file, moment: null }));
  }

  async start() {
    beginHistory();
    await this.show(0);
  }

  // Ends the analysis of a video; true if one was under way.
  stopAnalysis() {
    const under = Boolean(this.#film?.analysing);
    this.#film?.stop();
    return under;
  }

  close() {
    this.#closed = true;
    this.#leave();
    byId('pager').hidden = true;
  }

  step(by) {
    return this.show(Math.max(0, Math.min(this.#items.length - 1, this.#index + by)));
  }

  async show(index) {
    this.#leave();
    this.#work = new AbortController();
    this.#index = index;
    this.showPosition();
    showMessage('analysing');
    const item = this.#items[index];
    try {
      await (isVideo(item.file) ? this.#showVideo(item) : this.#showPicture(item, this.#work.signal));
    } catch (error) {
      if (this.#closed || item !== this.#items[this.#index]) return;
      showRunning(null);
      showMessage(error.key ?? 'unreachable', { kind: 'error', detail: error.detail });
    }
  }

  showPosition() {
    const { length } = this.#items;
    byId('pager').hidden = length < 2;
    setText(byId('position'), text('position', this.#index + 1, length, this.#items[this.#index].file.name));
    byId('previous').disabled = this.#index === 0;
    byId('next').disabled = this.#index === length - 1;
  }

  #leave() {
    this.#work.abort();
    if (this.#film) {
      this.#film.close();
      beginHistory({}, null, this.#items.map((item) => item.moment).filter(Boolean));
      this.#film = null;
    }
    clearFaces();
    showNumbers({});
    showRunning(null);
    showSource('none');
  }

  async #showVideo({ file }) {
    this.#film = new Film(file);
    await this.#film.run();
  }

  async #showPicture(item, signal) {
    const content = await loadPicture(picture, item.file);
    if (signal.aborted) return;
    fitStage(picture.naturalWidth, picture.naturalHeight);
    showSource('picture');
    if (item.moment) {
      showMoment(item.moment, { exact: true });
      return showMessage(item.moment.faces.length ? '' : 'noFace');
    }
    const sentAt = performance.now();
    const answer = await predict(picture, content, signal);
    if (signal.aborted) return;
    if (answer.results.length) palette.classNames = Object.keys(answer.results[0].probabilities);
    item.moment = receive(answer, null, item.file.name);
    showNumbers({ latency: performance.now() - sentAt, server: answer.timings?.total });
  }
}
