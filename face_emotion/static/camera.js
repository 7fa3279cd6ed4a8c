// The browser's camera: opening it, naming what goes wrong, taking frames. For the page and the notebook widget.

export const CAMERA_TEXT = {
  en: {
    insecure: 'Browsers allow the camera only on https or localhost pages. '
      + 'Open this page that way, or choose a picture.',
    noCameraApi: 'This browser does not let web pages use a camera. You can still choose a picture.',
    denied: 'The camera is blocked. Allow it in the browser’s site settings and try again, or choose a picture.',
    noCamera: 'No camera was found. Connect one and try again, or choose a picture.',
    busy: 'The camera is in use by another program or does not respond. Close that program and try again.',
    cameraLost: 'The camera was disconnected. Connect it and try again, or choose a picture.',
    cameraFailed: 'The camera could not be started. Try again, or choose a picture.',
  },
  ko: {
    insecure: '브라우저는 https 또는 localhost 페이지에서만 카메라를 허용합니다. 그런 주소로 열거나 사진을 선택하세요.',
    noCameraApi: '이 브라우저에서는 웹 페이지가 카메라를 쓸 수 없습니다. 대신 사진을 선택할 수 있습니다.',
    denied: '카메라가 차단되었습니다. 브라우저의 사이트 설정에서 허용한 뒤 다시 시도하거나 사진을 선택하세요.',
    noCamera: '카메라를 찾을 수 없습니다. 카메라를 연결한 뒤 다시 시도하거나 사진을 선택하세요.',
    busy: '다른 프로그램이 카메라를 쓰고 있거나 카메라가 응답하지 않습니다. 그 프로그램을 닫고 다시 시도하세요.',
    cameraLost: '카메라 연결이 끊어졌습니다. 다시 연결한 뒤 시도하거나 사진을 선택하세요.',
    cameraFailed: '카메라를 시작할 수 없습니다. 다시 시도하거나 사진을 선택하세요.',
  },
};

const CAMERA_ERRORS = {
  NotAllowedError: 'denied', SecurityError: 'denied',
  NotFoundError: 'noCamera', DevicesNotFoundError: 'noCamera', OverconstrainedError: 'noCamera',
  NotReadableError: 'busy', TrackStartError: 'busy', AbortError: 'busy',
};

// constraints: of the video track. An error of this function has a meaning for `cameraProblem`.
export async function openCamera(constraints) {
  if (!window.isSecureContext || !navigator.mediaDevices?.getUserMedia) {
    throw Object.assign(new Error('no camera'), { key: window.isSecureContext ? 'noCameraApi' : 'insecure' });
  }
  return navigator.mediaDevices.getUserMedia({ video: constraints, audio: false });
}

// The key in CAMERA_TEXT for an error of `openCamera`, and the browser's own words where ours do not say enough.
export function cameraProblem(error) {
  const key = CAMERA_ERRORS[error.name] ?? error.key;
  return key ? { key, detail: '' } : { key: 'cameraFailed', detail: `(${error.message || error.name})` };
}

export function releaseCamera(stream) {
  for (const track of stream?.getTracks() ?? []) track.stop();
}

// Fills a <select> with the cameras of this machine and returns how many there are.
export async function fillCameras(select, stream, nameOf) {
  const devices = await navigator.mediaDevices.enumerateDevices();
  const cameras = devices.filter((device) => device.kind === 'videoinput');
  const options = cameras.map((camera, index) => new Option(camera.label || nameOf(index + 1), camera.deviceId));
  select.replaceChildren(...options);
  select.value = stream.getVideoTracks()[0].getSettings().deviceId;
  return cameras.length;
}

export function nextVideoFrame(video, callback) {
  if (video.requestVideoFrameCallback) video.requestVideoFrameCallback(callback);
  else requestAnimationFrame(callback);
}

// The size whose longer side is at most `side`.
export function fitInto(width, height, side) {
  const scale = Math.min(1, side / Math.max(width, height));
  return [Math.round(width * scale), Math.round(height * scale)];
}

// A video or picture as a JPEG blob; null where the browser cannot make one.
export function toJpeg(source, [width, height], quality, canvas = document.createElement('canvas')) {
  Object.assign(canvas, { width, height });
  canvas.getContext('2d').drawImage(source, 0, 0, width, height);
  return new Promise((resolve) => { canvas.toBlob(resolve, 'image/jpeg', quality); });
}
