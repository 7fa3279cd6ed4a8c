// Buttons below the picture: snapshot, export, full screen, and the switches that are remembered.

import { modelFacts } from './about.js';
import { download, snapshot, toCsv, toJson } from './export.js';
import { judged, preferences, remember } from './preferences.js';
import { history, overlay, palette, redraw } from './results.js';
import { byId, picture, stage, video } from './view.js';

async function saveSnapshot() {
  const source = stage.dataset.source === 'picture' ? picture : video;
  const image = await snapshot(source, overlay, stage.classList.contains('mirrored'));
  if (image) download(image, 'face_emotion', 'png');
}

function saveCsv() {
  download(toCsv(history, palette.classNames, judged), 'face_emotion', 'csv', 'text/csv');
}

function saveJson() {
  const about = { ...modelFacts(), smoothing: preferences.smoothing, threshold: preferences.threshold };
  download(toJson(history, palette.classNames, judged, about), 'face_emotion', 'json', 'application/json');
}

function toggleFullScreen() {
  if (document.fullscreenElement) document.exitFullscreen();
  else stage.requestFullscreen();
}

// handlers: onSmoothing(), onMirror()
export function listenToTools({ onSmoothing, onMirror }) {
  byId('snapshot').addEventListener('click', saveSnapshot);
  byId('csv').addEventListener('click', saveCsv);
  byId('json').addEventListener('click', saveJson);
  byId('fullscreen').addEventListener('click', toggleFullScreen);
  byId('fullscreen').hidden = !document.fullscreenEnabled;

  byId('smoothing').checked = preferences.smoothing;
  byId('mirror').checked = preferences.mirror;
  byId('threshold').value = String(preferences.threshold);
  byId('smoothing').addEventListener('change', (event) => {
    remember({ smoothing: event.target.checked });
    onSmoothing();
  });
  byId('mirror').addEventListener('change', (event) => {
    remember({ mirror: event.target.checked });
    onMirror();
  });
  byId('threshold').addEventListener('change', (event) => {
    remember({ threshold: Number(event.target.value) });
    redraw();
  });
}
