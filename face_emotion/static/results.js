// The faces of the moment that is shown: boxes, cards, time line and summary; and the history of the session.

import { Announcer } from './announcer.js';
import { Cards } from './cards.js';
import { FaceOverlay, Palette, percent } from './faces.js';
import { History, shares } from './history.js';
import { showModelNote } from './about.js';
import { judged } from './preferences.js';
import { emotionName, text } from './texts.js';
import { Timeline } from './timeline.js';
import { errorKey } from './upload.js';
import { byId, setText, showMessage, stage } from './view.js';

const colors = await fetch(new URL('palette.json', import.meta.url)).then((response) => response.json());
export const palette = new Palette(colors);
export const overlay = new FaceOverlay(byId('overlay'), palette, emotionName);
export let history = new History();
const cards = new Cards(byId('faces'), palette, (key) => timeline.choose(key));
const announcer = new Announcer(byId('announcer'));
const player = { onPause() {}, onSeek() {} };          // of the source on the stage
let shown = null;                                      // the moment that is shown

const timeline = new Timeline(palette, {
  onPause: (paused) => player.onPause(paused),
  onSeek: (time) => player.onSeek(time),
  onChoose: () => redraw(),
});

// A new camera session, video or set of pictures. handlers: onPause(paused), onSeek(time); moments: known already
export function beginHistory(handlers = {}, duration = null, moments = []) {
  history = new History();
  for (const moment of moments) history.add(moment);
  Object.assign(player, { onPause() {}, onSeek() {} }, handlers);
  timeline.start(history, duration);
  byId('summary').hidden = true;
  byId('export').hidden = !moments.length;
}

// The answer of the server for the newest frame.
export function receive(answer, time, source) {
  if (answer.error || !answer.frame) return showProblem(answer.error);
  const moment = history.add({ time, source, frame: answer.frame, faces: answer.results });
  byId('export').hidden = false;
  if (time !== null) timeline.update();
  showMoment(moment);
  announcer.hear(judged(moment.faces), stage.dataset.source === 'picture');
  showMessage(cards.count ? '' : 'noFace');
  return moment;
}

function showProblem(error) {
  overlay.clear();
  if (error) showMessage(errorKey(error.code), { kind: 'error', detail: error.message });
}

// exact: faces that are missing now lose their card at once
export function showMoment(moment, { exact = false } = {}) {
  shown = moment;
  const faces = judged(moment.faces);
  overlay.show(faces, moment.frame, stage.classList.contains('mirrored'), timeline.chosen);
  cards.show(faces, { exact, chosen: timeline.chosen, choosable: !byId('timeline').hidden });
  setText(byId('count'), text('faces', cards.count));
  if (cards.count) showModelNote();
}

// Looks at a moment of the past.
export function lookAt(time, { boxes = true } = {}) {
  const moment = history.at(time);
  if (!moment) return;
  timeline.look(time);
  showMoment(moment, { exact: true });
  if (!boxes) overlay.clear();             // the picture of that moment is gone
}

export function showPaused(paused) {
  timeline.showPaused(paused);
}

// After a change of language, threshold, mirror or chosen face.
export function redraw() {
  if (shown) showMoment(shown, { exact: true });
  timeline.draw();
  if (!byId('summary').hidden) showSummary();
}

export function translateResults() {
  cards.translate();
  timeline.translate();
  setText(byId('count'), text('faces', cards.count));
  redraw();
}

export function clearFaces() {
  shown = null;
  overlay.clear();
  cards.clear();
  announcer.clear();
  setText(byId('count'), text('faces', cards.count));
}

// Share of each emotion of the chosen face in the whole video.
export function showSummary() {
  const { total, shares: found } = shares(history.moments, timeline.chosen, judged);
  byId('summary').hidden = total === 0;
  byId('summary-title').textContent = text('summary', timeline.chosen, total, history.moments.length);
  byId('shares').replaceChildren(...found.map(({ emotion, share }) => {
    const bar = byId('bar').content.firstElementChild.cloneNode(true);
    bar.style.setProperty('--hue', palette.of(emotion));
    bar.querySelector('.name').textContent = emotionName(emotion);
    bar.querySelector('.fill').style.transform = `scaleX(${share})`;
    bar.querySelector('.value').textContent = percent(share);
    return bar;
  }));
}

stage.addEventListener('click', (event) => {
  const { left, top } = byId('overlay').getBoundingClientRect();
  const key = overlay.faceAt(event.clientX - left, event.clientY - top);
  if (key !== undefined && !byId('timeline').hidden) timeline.choose(key);
});
