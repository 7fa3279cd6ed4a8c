// The page of face_emotion: camera or picture in, a box and a card for each face out.

const PROTOCOL = 'emotion.v2';
const FRAME_WIDTH = 640;                   // longer side of a sent frame; the server's hello may ask for less
const JPEG_QUALITY = 0.7;
const FIRST_RETRY_MS = 500;
const LONGEST_RETRY_MS = 5000;
const ANSWER_TIMEOUT_MS = 10000;           // a silent server is treated as a lost one
const LARGEST_UPLOAD = { bytes: 2 * 1024 * 1024, side: 4096 };
const SHRUNK_UPLOAD_SIDE = 1920;
const GRACE_MS = 400;                      // a face missed for a frame or two keeps its card
const RATE_WINDOW_MS = 2000;
const RATE_REFRESH_MS = 400;
const TOKEN = new URLSearchParams(window.location.hash.slice(1)).get('token');   // #token=…, for servers that ask for one

// Chosen to stay apart for readers with any common colour vision, on light and dark ground.
const COLOURS = {
  happy: '#cd8900', sad: '#747ff0', neutral: '#9397a3', embarrassed: '#ae317c', anxiety: '#2fb582',
  anger: '#cf381c', hurt: '#7551c6',
  uncertain: '#5b6069',
};
const UNCERTAIN = 'uncertain';              // what the server answers below its MIN_CONFIDENCE
const SPARE_COLOURS = ['#3a9fc4', '#8c6d46', '#6f8f2f', '#b5838d', '#4c5fa0'];
const DARK_INK = '#14171a';
const LIGHT_INK = '#ffffff';

const TEXT = {
  en: {
    title: 'Face emotion', viewTitle: 'Camera or picture', more: 'More',
    start: 'Start camera', stop: 'Stop camera', upload: 'Choose picture', flip: 'Switch camera', cameras: 'Camera',
    camera: (n) => `Camera ${n}`,
    fps: 'Frames per second', latency: 'Latency, end to end', serverTime: 'Server time',
    faces: (n) => (n === 0 ? 'Faces' : n === 1 ? '1 face' : `${n} faces`),
    who: (id) => `Face ${id}`,
    placeholder: 'Each face gets a card here, with the probability of every emotion.',
    privacy: 'Frames go only to this server and are not stored.',
    api: 'API', modelCard: 'Model card',
    'status.idle': 'Ready', 'status.connecting': 'Connecting', 'status.connected': 'Connected',
    'status.reconnecting': 'Reconnecting', 'status.noModel': 'No model',
    welcome: 'Start the camera, or choose, drop or paste a picture.',
    asking: 'Please allow the camera in your browser.',
    noFace: 'No face in view',
    analysing: 'Looking for faces…',
    lost: 'The connection was lost. Trying again…',
    noModel: 'The server has no model loaded, so it cannot recognise emotions.',
    insecure: 'Browsers give the camera only to https or localhost pages. Open this page that way, or choose a picture.',
    noCameraApi: 'This browser offers no camera to web pages. You can still choose a picture.',
    denied: 'The camera is blocked. Allow it in the browser’s site settings, or choose a picture.',
    noCamera: 'No camera was found. Connect one, or choose a picture.',
    busy: 'The camera is in use by another program, or does not answer. Close that program and try again.',
    cameraFailed: 'The camera could not be started.',
    cameraLost: 'The camera was disconnected.',
    notAPicture: 'This file is not a picture that the browser can open.',
    badPicture: 'The server could not read this picture.',
    tooLarge: 'This picture is too large for the server.',
    overloaded: 'The server is busy. Please try again in a moment.',
    unreachable: 'The server cannot be reached. Please try again.',
    refused: 'The server could not process this.',
  },
  ko: {
    title: '얼굴 감정', viewTitle: '카메라 또는 사진', more: '더 보기',
    start: '카메라 시작', stop: '카메라 중지', upload: '사진 선택', flip: '카메라 전환', cameras: '카메라',
    camera: (n) => `카메라 ${n}`,
    fps: '초당 프레임', latency: '전체 지연 시간', serverTime: '서버 처리 시간',
    faces: (n) => (n === 0 ? '얼굴' : `얼굴 ${n}개`),
    who: (id) => `얼굴 ${id}`,
    placeholder: '얼굴마다 카드가 하나씩 나타나 감정별 확률을 보여 줍니다.',
    privacy: '영상은 이 서버로만 전송되며 저장되지 않습니다.',
    api: 'API', modelCard: '모델 카드',
    'status.idle': '준비됨', 'status.connecting': '연결 중', 'status.connected': '연결됨',
    'status.reconnecting': '다시 연결 중', 'status.noModel': '모델 없음',
    welcome: '카메라를 시작하거나, 사진을 선택하거나 끌어다 놓거나 붙여 넣으세요.',
    asking: '브라우저에서 카메라 사용을 허용해 주세요.',
    noFace: '얼굴이 보이지 않습니다',
    analysing: '얼굴을 찾는 중…',
    lost: '연결이 끊어졌습니다. 다시 연결하고 있습니다…',
    noModel: '서버에 모델이 로드되지 않아 감정을 인식할 수 없습니다.',
    insecure: '브라우저는 https 또는 localhost 페이지에서만 카메라를 허용합니다. 그렇게 열거나 사진을 선택하세요.',
    noCameraApi: '이 브라우저에서는 카메라를 쓸 수 없습니다. 대신 사진을 선택할 수 있습니다.',
    denied: '카메라가 차단되었습니다. 브라우저의 사이트 설정에서 허용하거나 사진을 선택하세요.',
    noCamera: '카메라를 찾을 수 없습니다. 카메라를 연결하거나 사진을 선택하세요.',
    busy: '다른 프로그램이 카메라를 쓰고 있거나 카메라가 응답하지 않습니다. 그 프로그램을 닫고 다시 시도하세요.',
    cameraFailed: '카메라를 시작할 수 없습니다.',
    cameraLost: '카메라 연결이 끊어졌습니다.',
    notAPicture: '브라우저가 열 수 있는 사진 파일이 아닙니다.',
    badPicture: '서버가 이 사진을 읽을 수 없습니다.',
    tooLarge: '서버가 받기에는 사진이 너무 큽니다.',
    overloaded: '서버가 바쁩니다. 잠시 후 다시 시도해 주세요.',
    unreachable: '서버에 연결할 수 없습니다. 다시 시도해 주세요.',
    refused: '서버가 요청을 처리하지 못했습니다.',
  },
};

// Names for pictures uploaded before any hello; the server's own names win.
const KOREAN_NAMES = {
  happy: '행복', sad: '슬픔', neutral: '중립', embarrassed: '당황', anxiety: '불안', anger: '분노', hurt: '상처',
  uncertain: '불확실',
};

const CAMERA_ERRORS = {
  NotAllowedError: 'denied', SecurityError: 'denied',
  NotFoundError: 'noCamera', OverconstrainedError: 'noCamera',
  NotReadableError: 'busy', AbortError: 'busy',
};
const UPLOAD_ERRORS = { 400: 'badPicture', 413: 'tooLarge', 415: 'badPicture', 422: 'badPicture', 429: 'overloaded', 503: 'noModel' };

const byId = (id) => document.getElementById(id);
const stage = byId('stage');
const video = byId('video');
const picture = byId('picture');
const overlay = byId('overlay');
const faceList = byId('faces');

const page = {
  language: 'en',
  status: 'idle',
  message: { key: 'welcome' },
  classNames: [],
  koreanNames: { ...KOREAN_NAMES },
  answer: null,                            // what the overlay shows, kept for resizing and the language switch
};
let session = null;                        // the running camera
let startNumber = 0;                       // tells a camera that opens late that it is no longer wanted
let upload = null;                         // AbortController of the picture under way

// ---------------------------------------------------------------- language

function text(key, ...values) {
  const entry = TEXT[page.language][key];
  return typeof entry === 'function' ? entry(...values) : entry;
}

function emotionName(name) {
  if (page.language === 'ko' && page.koreanNames[name]) return page.koreanNames[name];
  return name.charAt(0).toUpperCase() + name.slice(1);
}

function firstLanguage() {
  const chosen = readSetting('face_emotion.language');
  if (chosen in TEXT) return chosen;
  return navigator.language.toLowerCase().startsWith('ko') ? 'ko' : 'en';
}

// Storage throws where the browser forbids it; the page works without.
function readSetting(name) {
  try { return localStorage.getItem(name); } catch { return null; }
}

function keepSetting(name, value) {
  try { localStorage.setItem(name, value); } catch { /* the choice lasts until reload */ }
}

function setLanguage(language) {
  page.language = language;
  document.documentElement.lang = language;
  document.title = text('title');
  for (const element of document.querySelectorAll('[data-text]')) element.textContent = text(element.dataset.text);
  for (const element of document.querySelectorAll('[data-label]')) element.setAttribute('aria-label', text(element.dataset.label));
  const other = language === 'ko' ? 'en' : 'ko';
  byId('lang').lang = other;
  byId('lang').textContent = other === 'ko' ? '한국어' : 'English';
  showStatus(page.status);
  showMessage(page.message.key, page.message);
  translateCards();
  showFaceCount();
  drawOverlay();
}

// ---------------------------------------------------------------- status, message, numbers

function showStatus(status) {
  page.status = status;
  byId('status').dataset.state = status;
  byId('status').textContent = text(`status.${status}`);
}

// `detail` is the server's own wording: it is shown beside ours, not instead of it.
function showMessage(key, { kind = 'note', detail = '' } = {}) {
  page.message = { key, kind, detail };
  const element = byId('message');
  const content = key ? [text(key), detail].filter(Boolean).join(' ') : '';
  if (element.textContent !== content) element.textContent = content;   // announced once, not per frame
  element.dataset.kind = kind;
  element.dataset.key = key;
}

class Rates {
  #samples = [];
  #shownAt = 0;

  add(latency, server) {
    const now = performance.now();
    this.#samples.push({ now, latency, server });
    this.#samples = this.#samples.filter((sample) => now - sample.now <= RATE_WINDOW_MS);
    if (now - this.#shownAt < RATE_REFRESH_MS) return;      // readable numbers do not flicker
    this.#shownAt = now;
    showNumbers({ fps: this.#perSecond(), latency: this.#mean('latency'), server: this.#mean('server') });
  }

  clear() {
    this.#samples = [];
    showNumbers({});
  }

  #perSecond() {
    const first = this.#samples[0];
    const last = this.#samples.at(-1);
    return this.#samples.length > 1 ? (1000 * (this.#samples.length - 1)) / (last.now - first.now) : undefined;
  }

  #mean(field) {
    return this.#samples.reduce((sum, sample) => sum + sample[field], 0) / this.#samples.length;
  }
}

const rates = new Rates();

function showNumbers({ fps, latency, server }) {
  const format = (value, digits, unit = '') => (Number.isFinite(value) ? value.toFixed(digits) + unit : '–');
  byId('fps').textContent = format(fps, 1);
  byId('latency').textContent = format(latency, 0, ' ms');
  byId('server-time').textContent = format(server, 1, ' ms');
}

// ---------------------------------------------------------------- drawing: camera and picture alike

function showAnswer(answer) {
  page.answer = answer;
  drawOverlay();
  updateCards(answer.results);
  if (answer.error) showMessage('refused', { kind: 'error', detail: answer.error.message });
  else showMessage(faceList.children.length ? '' : 'noFace');
}

function clearAnswer() {
  page.answer = null;
  drawOverlay();
  faceList.replaceChildren();
  showFaceCount();
}

function colourOf(name) {
  const spare = page.classNames.filter((other) => !(other in COLOURS)).indexOf(name);
  return COLOURS[name] ?? SPARE_COLOURS[Math.max(0, spare) % SPARE_COLOURS.length];
}

function inkOn(colour) {
  const [red, green, blue] = [1, 3, 5].map((at) => (parseInt(colour.slice(at, at + 2), 16) / 255) ** 2.2);
  const luminance = 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  return luminance > 0.18 ? DARK_INK : LIGHT_INK;           // 0.18: where both inks contrast equally
}

function faceKey(face, index) {
  return String(face.face_id ?? index + 1);
}

function percent(probability) {
  return `${Math.round(probability * 100)}%`;
}

// "Uncertain 45%" would read as how uncertain it is.
function sureness(face) {
  return face.emotion === UNCERTAIN ? '' : percent(face.confidence);
}

function drawOverlay() {
  const { clientWidth: width, clientHeight: height } = overlay;
  const ratio = window.devicePixelRatio || 1;
  overlay.width = Math.round(width * ratio);                // also clears it
  overlay.height = Math.round(height * ratio);
  const faces = page.answer?.frame ? page.answer.results : [];
  overlay.dataset.boxes = faces.length;
  if (!faces.length) return;
  const context = overlay.getContext('2d');
  context.scale(ratio, ratio);
  const boxes = faces.map((face) => placeBox(face.bbox, page.answer.frame, width, height));
  faces.forEach((face, index) => drawBox(context, boxes[index], colourOf(face.emotion)));
  faces.forEach((face, index) => drawLabel(context, boxes[index], face, index));
}

// From pixels of the sent frame to the overlay, where the frame lies centred and may be mirrored.
function placeBox([x, y, boxWidth, boxHeight], [frameWidth, frameHeight], width, height) {
  const scale = Math.min(width / frameWidth, height / frameHeight);
  const left = stage.classList.contains('mirrored') ? frameWidth - x - boxWidth : x;
  return {
    x: (width - frameWidth * scale) / 2 + left * scale,
    y: (height - frameHeight * scale) / 2 + y * scale,
    width: boxWidth * scale,
    height: boxHeight * scale,
  };
}

function drawBox(context, box, colour) {
  const radius = Math.min(12, box.width / 8);
  // A dark halo keeps the line visible on a background of its own colour.
  for (const [style, line] of [['rgb(0 0 0 / 0.35)', 5], [colour, 2.5]]) {
    context.beginPath();
    context.roundRect(box.x, box.y, box.width, box.height, radius);
    context.strokeStyle = style;
    context.lineWidth = line;
    context.stroke();
  }
}

// Numbers tell several faces apart; on a phone they take the place of the percentage.
function labelOf(face, index) {
  const several = page.answer.results.length > 1;
  const parts = [emotionName(face.emotion)];
  if (several) parts.unshift(faceKey(face, index), '·');
  if (!several || !isNarrow()) parts.push(sureness(face));
  return parts.join(' ').trim();
}

function isNarrow() {
  return overlay.clientWidth < 500;
}

function drawLabel(context, box, face, index) {
  const size = isNarrow() ? 12 : 14;
  const height = size + 10;
  const label = labelOf(face, index);
  context.font = `600 ${size}px ${getComputedStyle(document.body).fontFamily}`;
  const width = context.measureText(label).width + 16;
  const x = Math.max(2, Math.min(box.x, overlay.clientWidth - width - 2));
  const y = box.y - height - 4 >= 2 ? box.y - height - 4 : Math.max(2, box.y + 4);
  const colour = colourOf(face.emotion);
  context.beginPath();
  context.roundRect(x, y, width, height, 7);
  context.fillStyle = colour;
  context.fill();
  context.fillStyle = inkOn(colour);
  context.textBaseline = 'middle';
  context.fillText(label, x + 8, y + height / 2 + 0.5);
}

// ---------------------------------------------------------------- cards

function updateCards(results) {
  const now = performance.now();
  results.forEach((face, index) => {
    const key = faceKey(face, index);
    const card = findCard(key) ?? addCard(key);
    card.lastSeen = now;
    fillCard(card, face);
  });
  for (const card of [...faceList.children]) {
    if (now - card.lastSeen > GRACE_MS) card.remove();
  }
  showFaceCount();
}

function findCard(key) {
  return [...faceList.children].find((card) => card.dataset.faceId === key);
}

function addCard(key) {
  const card = byId('card').content.firstElementChild.cloneNode(true);
  card.dataset.faceId = key;
  card.querySelector('.bars').append(...page.classNames.map(newBar));
  faceList.append(card);
  translateCard(card);
  return card;
}

function newBar(name) {
  const bar = byId('bar').content.firstElementChild.cloneNode(true);
  bar.dataset.probability = name;
  bar.style.setProperty('--hue', colourOf(name));
  return bar;
}

function fillCard(card, face) {
  card.dataset.emotion = face.emotion;
  card.style.setProperty('--hue', colourOf(face.emotion));
  card.querySelector('.emotion').textContent = emotionName(face.emotion);
  card.querySelector('.confidence').textContent = sureness(face);
  for (const bar of card.querySelectorAll('[data-probability]')) {
    const probability = face.probabilities[bar.dataset.probability] ?? 0;
    bar.dataset.value = probability;
    bar.classList.toggle('top', bar.dataset.probability === face.emotion);
    bar.querySelector('.fill').style.width = `${100 * probability}%`;
    bar.querySelector('.value').textContent = percent(probability);
  }
}

function translateCard(card) {
  card.querySelector('.who').textContent = text('who', card.dataset.faceId);
  if (card.dataset.emotion) card.querySelector('.emotion').textContent = emotionName(card.dataset.emotion);
  for (const bar of card.querySelectorAll('[data-probability]')) {
    bar.querySelector('.name').textContent = emotionName(bar.dataset.probability);
  }
}

function translateCards() {
  for (const card of faceList.children) translateCard(card);
}

function showFaceCount() {
  const count = faceList.children.length;
  faceList.classList.toggle('several', count > 1);
  faceList.classList.toggle('many', count > 3);
  const content = text('faces', count);
  if (byId('count').textContent !== content) byId('count').textContent = content;
}

// ---------------------------------------------------------------- connection

function endpoint(path) {
  return new URL(path, document.baseURI);                   // relative, so that the page also works under a prefix
}

class Connection {
  ready = false;
  #handlers;
  #socket = null;
  #sent = 0;
  #retry = null;
  #watchdog = null;
  #delay = FIRST_RETRY_MS;

  constructor(handlers) {
    this.#handlers = handlers;
  }

  open() {
    const url = endpoint('ws/emotion?smoothing=0.5');        // steadier bars; the boxes are never delayed
    url.protocol = url.protocol.replace('http', 'ws');
    if (TOKEN) url.searchParams.set('ticket', TOKEN);       // a browser's WebSocket sends no headers
    this.#retry = null;
    this.#sent = 0;
    this.#socket = new WebSocket(url, PROTOCOL);
    this.#socket.onmessage = (event) => this.#receive(JSON.parse(event.data));
    this.#socket.onclose = (event) => this.#lose(event.reason);
    this.#expectAnswer();
  }

  // Returns the number by which the server's answer names this frame.
  send(frame) {
    this.#socket.send(frame);
    this.#expectAnswer();
    this.#sent += 1;
    return this.#sent;
  }

  retryNow() {
    if (this.#retry === null) return;
    clearTimeout(this.#retry);
    this.open();
  }

  close() {
    clearTimeout(this.#retry);
    this.#detach();
  }

  #receive(answer) {
    clearTimeout(this.#watchdog);
    if (answer.results) this.#handlers.onAnswer(answer);
    if (answer.type === 'hello') this.#welcome(answer);
  }

  #welcome(hello) {
    this.ready = true;
    this.#delay = FIRST_RETRY_MS;
    this.#handlers.onHello(hello);
  }

  #expectAnswer() {
    clearTimeout(this.#watchdog);
    this.#watchdog = setTimeout(() => this.#lose(''), ANSWER_TIMEOUT_MS);
  }

  #lose(reason) {
    this.#detach();
    this.#retry = setTimeout(() => this.open(), this.#delay);
    this.#delay = Math.min(2 * this.#delay, LONGEST_RETRY_MS);
    this.#handlers.onLost(reason);
  }

  #detach() {
    this.ready = false;
    clearTimeout(this.#watchdog);
    this.#socket.onmessage = null;
    this.#socket.onclose = null;
    this.#socket.close();
  }
}

// ---------------------------------------------------------------- camera

function nextVideoFrame(callback) {
  if (video.requestVideoFrameCallback) video.requestVideoFrameCallback(callback);
  else requestAnimationFrame(callback);
}

// One frame at a time: the newest picture is encoded and sent as soon as the answer to the one before is there.
class CameraSession {
  #stream;
  #connection;
  #canvas = document.createElement('canvas');
  #frameWidth = FRAME_WIDTH;
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

  get track() {
    return this.#stream.getVideoTracks()[0];
  }

  start() {
    this.track.onended = () => stopCamera('cameraLost', { kind: 'error' });
    showStatus('connecting');
    this.#connection.open();
    this.#watchVideo();
  }

  stop() {
    this.#stopped = true;
    for (const track of this.#stream.getTracks()) track.stop();
    this.#connection.close();
  }

  // Called when the page becomes visible or the network returns.
  wake() {
    rates.clear();
    this.#connection.retryNow();
    this.#next();
  }

  #watchVideo() {
    nextVideoFrame(() => {
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

  #capture() {
    if (!video.videoWidth) return;         // no picture yet
    this.#step = 'capture';
    this.#fresh = false;
    const capturedAt = performance.now();
    const scale = Math.min(1, this.#frameWidth / Math.max(video.videoWidth, video.videoHeight));
    drawScaled(video, video.videoWidth * scale, video.videoHeight * scale, this.#canvas);
    this.#canvas.toBlob((frame) => this.#send(frame, capturedAt), 'image/jpeg', JPEG_QUALITY);
  }

  #send(frame, capturedAt) {
    this.#step = 'rest';
    if (!frame || !this.#maySend()) return;
    this.#step = 'answer';
    this.#pending = { seq: this.#connection.send(frame), capturedAt };
  }

  #greet(hello) {
    this.#frameWidth = Math.min(hello.frame_width ?? FRAME_WIDTH, FRAME_WIDTH);
    page.classNames = hello.class_names;
    Object.assign(page.koreanNames, hello.labels_ko);
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

function drawScaled(source, width, height, canvas) {
  canvas.width = Math.round(width);
  canvas.height = Math.round(height);
  canvas.getContext('2d').drawImage(source, 0, 0, canvas.width, canvas.height);
}

async function startCamera(choice = { facingMode: 'user' }) {
  stopCamera('asking');
  const number = startNumber;
  showCameraControls(true);
  try {
    const stream = await openCamera(choice);
    if (number === startNumber) await runCamera(stream);
    else for (const track of stream.getTracks()) track.stop();
  } catch (error) {
    if (number === startNumber) stopCamera(CAMERA_ERRORS[error.name] ?? error.key ?? 'cameraFailed', { kind: 'error' });
  }
}

async function openCamera(choice) {
  if (!navigator.mediaDevices?.getUserMedia) {
    throw Object.assign(new Error('no camera'), { key: window.isSecureContext ? 'noCameraApi' : 'insecure' });
  }
  const size = { width: { ideal: 1280 }, height: { ideal: 720 }, frameRate: { ideal: 30 } };
  return navigator.mediaDevices.getUserMedia({ video: { ...size, ...choice }, audio: false });
}

async function runCamera(stream) {
  session = new CameraSession(stream);
  const { facingMode } = session.track.getSettings();
  stage.classList.toggle('mirrored', facingMode !== 'environment');
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

function showSource(source) {
  stage.dataset.source = source;
  video.hidden = source !== 'camera';
  picture.hidden = source !== 'picture';
  if (source !== 'picture') releasePicture();
  if (source !== 'camera') stage.classList.remove('mirrored');
  if (source === 'none') stage.style.aspectRatio = '';
}

function fitStage(width, height) {
  if (width && height) stage.style.aspectRatio = `${width} / ${height}`;
}

function showCameraControls(running) {
  const focused = [byId('start'), byId('stop')].includes(document.activeElement);
  byId('start').hidden = running;
  byId('stop').hidden = !running;
  if (focused) byId(running ? 'stop' : 'start').focus();    // the focused button has just gone
  if (!running) byId('cameras').hidden = byId('flip').hidden = true;
}

async function listCameras() {
  if (!session) return;
  const devices = await navigator.mediaDevices.enumerateDevices();
  const cameras = devices.filter((device) => device.kind === 'videoinput');
  if (!session) return;                    // stopped meanwhile
  const { deviceId } = session.track.getSettings();
  const options = cameras.map((camera, index) => new Option(camera.label || text('camera', index + 1), camera.deviceId));
  byId('cameras').replaceChildren(...options);
  byId('cameras').value = deviceId;
  byId('cameras').hidden = byId('flip').hidden = cameras.length < 2;
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
    await loadPicture(file);
    if (signal.aborted) return;
    const sentAt = performance.now();
    const answer = await predict(await fitForUpload(file), signal);
    if (signal.aborted) return;
    page.classNames = Object.keys(answer.results[0]?.probabilities ?? {});
    showAnswer(answer);
    showNumbers({ latency: performance.now() - sentAt, server: answer.timings?.total });
  } catch (error) {
    if (!signal.aborted) showMessage(error.key ?? 'unreachable', { kind: 'error', detail: error.detail });
  }
}

function problem(key, detail) {
  return Object.assign(new Error(key), { key, detail });
}

async function loadPicture(file) {
  picture.src = URL.createObjectURL(file);
  try {
    await picture.decode();
  } catch {
    releasePicture();
    throw problem('notAPicture');
  }
  fitStage(picture.naturalWidth, picture.naturalHeight);
  showSource('picture');
}

function releasePicture() {
  if (!picture.hasAttribute('src')) return;
  URL.revokeObjectURL(picture.src);
  picture.removeAttribute('src');
}

// Photographs of phones exceed what the server takes; faces need far fewer pixels.
async function fitForUpload(file) {
  const longest = Math.max(picture.naturalWidth, picture.naturalHeight);
  if (file.size <= LARGEST_UPLOAD.bytes && longest <= LARGEST_UPLOAD.side) return file;
  const scale = Math.min(1, SHRUNK_UPLOAD_SIDE / longest);
  const canvas = document.createElement('canvas');
  drawScaled(picture, picture.naturalWidth * scale, picture.naturalHeight * scale, canvas);
  return new Promise((resolve) => { canvas.toBlob((blob) => resolve(blob ?? file), 'image/jpeg', 0.9); });
}

async function predict(image, signal) {
  const form = new FormData();
  form.append('file', image, image.name ?? 'picture.jpg');
  const headers = TOKEN ? { Authorization: `Bearer ${TOKEN}` } : {};
  const response = await fetch(endpoint('api/predict'), { method: 'POST', body: form, headers, signal });
  const answer = await response.json().catch(() => ({}));
  if (!response.ok || !answer.results) throw problem(UPLOAD_ERRORS[response.status] ?? 'refused', answer.error?.message);
  return answer;
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
byId('lang').addEventListener('click', (event) => {
  setLanguage(event.target.lang);
  keepSetting('face_emotion.language', page.language);
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
for (const event of ['loadedmetadata', 'resize']) {
  video.addEventListener(event, () => fitStage(video.videoWidth, video.videoHeight));
}
new ResizeObserver(drawOverlay).observe(overlay);

setLanguage(firstLanguage());
