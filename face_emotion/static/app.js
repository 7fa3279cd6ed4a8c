// The page of face_emotion: camera or picture in, a box and a card for each face out.

import { cameraProblem, fillCameras, openCamera, releaseCamera } from './camera.js';
import { CameraSession } from './session.js';
import { nextLanguage, text } from './texts.js';
import { loadPicture, predict } from './upload.js';
import {
  byId, clearAnswer, fitStage, palette, picture, rates, showAnswer, showCameraControls, showLanguage, showMessage,
  showNumbers, showSource, showStatus, stage, video,
} from './view.js';

const CAMERA_SIZE = { width: { ideal: 1280 }, height: { ideal: 720 }, frameRate: { ideal: 30 } };

let session = null;                        // the running camera
let startNumber = 0;                       // tells a camera that opens late that it is no longer wanted
let upload = null;                         // AbortController of the picture under way

// ---------------------------------------------------------------- camera

async function startCamera(choice = { facingMode: 'user' }) {
  stopCamera('asking');
  const number = startNumber;
  showCameraControls(true);
  try {
    const stream = await openCamera({ ...CAMERA_SIZE, ...choice });
    if (number === startNumber) await runCamera(stream);
    else releaseCamera(stream);
  } catch (error) {
    const { key, detail } = cameraProblem(error);
    if (number === startNumber) stopCamera(key, { kind: 'error', detail });
  }
}

async function runCamera(stream) {
  session = new CameraSession(stream);
  const [track] = stream.getVideoTracks();
  track.onended = () => stopCamera('cameraLost', { kind: 'error' });
  stage.classList.toggle('mirrored', track.getSettings().facingMode !== 'environment');
  video.srcObject = stream;
  showSource('camera');
  showMessage('');
  session.start();
  await listCameras();
}

// Also ends a picture under way: only one source is on the stage.
function stopCamera(messageKey = 'welcome', options = {}) {
  startNumber += 1;
  session?.stop();
  session = null;
  upload?.abort();
  upload = null;
  video.srcObject = null;
  showSource('none');
  showCameraControls(false);
  clearAnswer();
  rates.clear();
  showStatus('idle');
  showMessage(messageKey, options);
}

async function listCameras() {
  if (!session) return;
  const count = await fillCameras(byId('cameras'), session.stream, (number) => text('camera', number));
  if (session) byId('cameras').hidden = byId('flip').hidden = count < 2;   // it may have stopped meanwhile
}

function flipCamera() {
  const selfie = stage.classList.contains('mirrored');
  startCamera({ facingMode: selfie ? 'environment' : 'user' });
}

// ---------------------------------------------------------------- picture

async function showPicture(file) {
  if (!file) return;
  stopCamera('analysing');
  upload = new AbortController();
  const { signal } = upload;
  try {
    const content = await loadPicture(picture, file);
    fitStage(picture.naturalWidth, picture.naturalHeight);
    showSource('picture');
    if (signal.aborted) return;
    const sentAt = performance.now();
    const answer = await predict(picture, content, signal);
    if (signal.aborted) return;
    palette.classNames = Object.keys(answer.results[0]?.probabilities ?? {});
    showAnswer(answer);
    showNumbers({ latency: performance.now() - sentAt, server: answer.timings?.total });
  } catch (error) {
    if (!signal.aborted) showMessage(error.key ?? 'unreachable', { kind: 'error', detail: error.detail });
  }
}

function pictureIn(transfer) {
  return [...(transfer?.files ?? [])][0];
}

// ---------------------------------------------------------------- events

byId('start').addEventListener('click', () => startCamera());
byId('stop').addEventListener('click', () => stopCamera());
byId('flip').addEventListener('click', flipCamera);
byId('cameras').addEventListener('change', (event) => startCamera({ deviceId: { exact: event.target.value } }));
byId('upload').addEventListener('change', (event) => {
  showPicture(event.target.files[0]);
  event.target.value = '';                 // so that the same file can be chosen again
});
byId('lang').addEventListener('click', () => {
  nextLanguage({ choose: true });
  showLanguage();
});

document.addEventListener('dragover', (event) => {
  event.preventDefault();
  stage.classList.add('dropping');
});
document.addEventListener('dragleave', (event) => {
  if (!event.relatedTarget) stage.classList.remove('dropping');
});
document.addEventListener('drop', (event) => {
  event.preventDefault();
  stage.classList.remove('dropping');
  showPicture(pictureIn(event.dataTransfer));
});
document.addEventListener('paste', (event) => showPicture(pictureIn(event.clipboardData)));
document.addEventListener('visibilitychange', () => {
  if (document.visibilityState === 'visible') session?.wake();
});
window.addEventListener('online', () => session?.wake());
navigator.mediaDevices?.addEventListener('devicechange', listCameras);

showLanguage();
showPicture(byId('upload').files[0]);      // one that was chosen while the page was loading
document.documentElement.dataset.ready = 'true';
