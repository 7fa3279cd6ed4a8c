// The page's fixed parts: status, message, the stage with a camera, picture or video, and its buttons.

import { text } from './texts.js';
import { releasePicture } from './upload.js';

export const byId = (id) => document.getElementById(id);
export const stage = byId('stage');
export const video = byId('video');
export const picture = byId('picture');

const shown = { status: 'idle', message: { key: 'welcome' } };   // kept for a change of the language

// ---------------------------------------------------------------- words

// Screen readers announce what is written, even when it is the same: nothing is written twice.
export function setText(element, content) {
  if (element.textContent !== content) element.textContent = content;
}

export function showStatus(status) {
  shown.status = status;
  byId('status').dataset.state = status;
  setText(byId('status'), text(`status.${status}`));
}

// `detail` is the server's own wording: it is shown beside ours, not instead of it.
export function showMessage(key, { kind = 'note', detail = '' } = {}) {
  shown.message = { key, kind, detail };
  const element = byId('message');
  setText(element, key ? [text(key), detail].filter(Boolean).join(' ') : '');
  element.dataset.kind = kind;
  element.dataset.key = key;
}

export function translateView() {
  showStatus(shown.status);
  showMessage(shown.message.key, shown.message);
}

// ---------------------------------------------------------------- stage and controls

// source: 'none', 'camera', 'picture' or 'video'
export function showSource(source) {
  stage.dataset.source = source;
  video.hidden = source !== 'camera' && source !== 'video';
  picture.hidden = source !== 'picture';
  if (source !== 'picture') releasePicture(picture);
  if (source !== 'camera') stage.classList.remove('mirrored');
  if (source === 'none' || source === 'camera') stage.style.aspectRatio = '';
  byId('live-tools').hidden = source === 'none';
}

export function fitStage(width, height) {
  if (width && height) stage.style.aspectRatio = `${width} / ${height}`;
}

// what: 'stop' for a camera, 'stopAnalysis' for a video; null when nothing runs
export function showRunning(what) {
  const focused = [byId('start'), byId('stop')].includes(document.activeElement);
  byId('start').hidden = Boolean(what);
  byId('stop').hidden = !what;
  byId('stop').dataset.text = what ?? 'stop';
  setText(byId('stop'), text(what ?? 'stop'));
  if (focused) byId(what ? 'stop' : 'start').focus();       // the button that had the focus is hidden now
  if (!what) byId('cameras').hidden = byId('flip').hidden = true;
}
