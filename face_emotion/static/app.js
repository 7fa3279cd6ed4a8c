// The page of face_emotion: camera, pictures or videos in, a box, a card and a time line for each face out.

import { translateModelNote } from './about.js';
import { cameraProblem, fillCameras, openCamera, releaseCamera } from './camera.js';
import { Files } from './files.js';
import { rates } from './numbers.js';
import { preferences } from './preferences.js';
import { clearFaces, redraw, translateResults } from './results.js';
import { CameraSession } from './session.js';
import { nextLanguage, text, translatePage } from './texts.js';
import { listenToTools } from './tools.js';
import {
  byId, showMessage, showRunning, showSource, showStatus, stage, translateView, video,
} from './view.js';

const CAMERA_SIZE = { width: { ideal: 1280 }, height: { ideal: 720 }, frameRate: { ideal: 30 } };

let session = null;                        // the running camera
let files = null;                          // the pictures and videos on the stage
let startNumber = 0;                       // tells a camera that opens late that it is no longer wanted

// ---------------------------------------------------------------- camera

async function startCamera(choice = { facingMode: 'user' }) {
  clearStage('asking');
  const number = startNumber;
  showRunning('stop');
  try {
    const stream = await openCamera({ ...CAMERA_SIZE, ...choice });
    if (number === startNumber) await runCamera(stream);
    else releaseCamera(stream);
  } catch (error) {
    const { key, detail } = cameraProblem(error);
    if (number === startNumber) clearStage(key, { kind: 'error', detail });
  }
}

async function runCamera(stream) {
  session = new CameraSession(stream);
  stream.getVideoTracks()[0].onended = () => clearStage('cameraLost', { kind: 'error' });
  video.srcObject = stream;
  showSource('camera');
  mirror();
  showMessage('');
  session.start();
  await listCameras();
}

// A camera that looks at its user is shown as a mirror.
function mirror() {
  const facing = session?.stream.getVideoTracks()[0].getSettings().facingMode;
  stage.classList.toggle('mirrored', Boolean(session) && preferences.mirror && facing !== 'environment');
  redraw();
}

// Ends whatever is on the stage: only one source is there at a time.
function clearStage(messageKey = 'welcome', options = {}) {
  startNumber += 1;
  session?.stop();
  session = null;
  files?.close();
  files = null;
  video.srcObject = null;
  showSource('none');
  showRunning(null);
  clearFaces();
  rates.clear();
  showStatus('idle');
  showMessage(messageKey, options);
}

function stop() {
  if (!files?.stopAnalysis()) clearStage();
}

async function listCameras() {
  if (!session) return;
  const count = await fillCameras(byId('cameras'), session.stream, (number) => text('camera', number));
  if (session) byId('cameras').hidden = byId('flip').hidden = count < 2;   // it may have stopped meanwhile
}

function flipCamera() {
  const facing = session?.stream.getVideoTracks()[0].getSettings().facingMode;
  startCamera({ facingMode: facing === 'environment' ? 'user' : 'environment' });
}

// ---------------------------------------------------------------- pictures and videos

function openFiles(chosen) {
  if (!chosen?.length) return;
  const list = [...chosen];                // the browser's own list changes when the input is emptied
  clearStage('analysing');
  files = new Files(list);
  files.start();
}

async function openSample() {
  const answer = await fetch(new URL('sample.jpg', import.meta.url));
  openFiles([new File([await answer.blob()], 'sample.jpg', { type: 'image/jpeg' })]);
}

// ---------------------------------------------------------------- events

function showLanguage() {
  translatePage();
  byId('lang').lang = nextLanguage();
  byId('lang').textContent = text('otherLanguage');
  translateView();
  translateResults();
  translateModelNote();
  files?.showPosition();
}

byId('start').addEventListener('click', () => startCamera());
byId('stop').addEventListener('click', stop);
byId('flip').addEventListener('click', flipCamera);
byId('cameras').addEventListener('change', (event) => startCamera({ deviceId: { exact: event.target.value } }));
byId('upload').addEventListener('change', (event) => {
  openFiles(event.target.files);
  event.target.value = '';                 // so that the same file can be chosen again
});
byId('sample').addEventListener('click', openSample);
byId('previous').addEventListener('click', () => files?.step(-1));
byId('next').addEventListener('click', () => files?.step(1));
byId('lang').addEventListener('click', () => {
  nextLanguage({ choose: true });
  showLanguage();
});
listenToTools({ onSmoothing: () => session?.reconnect(), onMirror: mirror });

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
  openFiles(event.dataTransfer?.files);
});
document.addEventListener('paste', (event) => openFiles(event.clipboardData?.files));
document.addEventListener('visibilitychange', () => {
  if (document.visibilityState === 'visible') session?.wake();
});
window.addEventListener('online', () => session?.wake());
navigator.mediaDevices?.addEventListener('devicechange', listCameras);

showLanguage();
openFiles(byId('upload').files);           // those that were chosen while the page was loading
document.documentElement.dataset.ready = 'true';
