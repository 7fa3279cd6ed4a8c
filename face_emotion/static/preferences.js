// Switches that the page remembers: smoothing, threshold, mirror.

const STORED = 'face_emotion.preferences';
const UNCERTAIN = 'uncertain';

// smoothing: steadier probabilities; threshold: below this confidence a face is uncertain; mirror: like a mirror
export const preferences = { smoothing: true, threshold: 0, mirror: true, ...recall() };

// Storage throws an error where the browser forbids it; the page works without.
function recall() {
  try { return JSON.parse(localStorage.getItem(STORED)) ?? {}; } catch { return {}; }
}

export function remember(change) {
  Object.assign(preferences, change);
  try { localStorage.setItem(STORED, JSON.stringify(preferences)); } catch { /* the choice lasts until reload */ }
}

// Weight of the past in the probabilities, for the server.
export function smoothingWeight() {
  return preferences.smoothing ? 0.5 : 0;
}

// The faces as they are shown: uncertain below the threshold.
export function judged(faces) {
  if (!preferences.threshold) return faces;
  return faces.map((face) => (face.confidence < preferences.threshold ? { ...face, emotion: UNCERTAIN } : face));
}
