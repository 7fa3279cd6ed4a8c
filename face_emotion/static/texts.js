// The words of the page in English and Korean, and the names of the emotions.

import { CAMERA_TEXT } from './camera.js';

const TEXT = {
  en: {
    title: 'Face emotion', viewTitle: 'Camera or picture', more: 'More',
    start: 'Start camera', stop: 'Stop camera', stopAnalysis: 'Stop', upload: 'Choose files', flip: 'Switch camera',
    cameras: 'Camera', sample: 'Try a sample',
    camera: (n) => `Camera ${n}`,
    fps: 'Frames per second', latency: 'Latency, end to end', serverTime: 'Server time',
    faces: (n) => (n === 0 ? 'Faces' : n === 1 ? '1 face' : `${n} faces`),
    who: (id) => `Face ${id}`,
    snapshot: 'Snapshot', csv: 'CSV', json: 'JSON', exportAs: 'Export', fullscreen: 'Full screen', options: 'Options',
    smoothing: 'Steady values', mirror: 'Mirror the camera', threshold: 'Call it uncertain below', never: 'Off',
    timeline: 'Time line', chosen: 'Face in the time line', scrub: 'Moment', progress: 'Part that is analysed',
    pause: 'Pause', resume: 'Resume', play: 'Play', ago: (seconds) => `${seconds} s ago`,
    summary: (id, seen, all) => `Face ${id}: seen in ${seen} of ${all} frames`,
    previous: 'Previous file', next: 'Next file', position: (n, all, name) => `${n} of ${all} · ${name}`,
    modelName: (name) => `Model: ${name}.`, trainedOn: (name, source) => `“${name}” was trained on ${source}.`,
    placeholder: 'Each face gets a card here with the probability of every emotion.',
    privacy: 'Frames go only to this server and are not stored.',
    api: 'API', modelCard: 'Model card', otherLanguage: '한국어',
    'status.idle': 'Ready', 'status.connecting': 'Connecting', 'status.connected': 'Connected',
    'status.reconnecting': 'Reconnecting', 'status.noModel': 'No model',
    welcome: 'Start the camera, or choose, drop or paste pictures or a video.',
    asking: 'Please allow the camera in your browser.',
    noFace: 'No face in view',
    analysing: 'Looking for faces…',
    lost: 'The connection was lost. Reconnecting…',
    noModel: 'The server runs without a model. Its terminal says why: check --model, MODEL_PATH and CLASS_NAMES, '
      + 'then start it again.',
    notAPicture: 'This file is not a picture that the browser can open.',
    notAVideo: 'The browser cannot play this video. The command face-emotion predict reads more formats.',
    badPicture: 'The server could not read this picture.',
    tooLarge: 'This picture is too large for the server.',
    overloaded: 'The server is busy. Please try again in a moment.',
    workerLost: 'The server took too long for this picture. Please try again.',
    unauthorized: 'This server asks for a token. Open the page with #token=… at the end of its address.',
    unreachable: 'The server cannot be reached. Please try again.',
    refused: 'The server could not process this.',
    ...CAMERA_TEXT.en,
  },
  ko: {
    title: '얼굴 감정', viewTitle: '카메라 또는 사진', more: '더 보기',
    start: '카메라 시작', stop: '카메라 중지', stopAnalysis: '중지', upload: '파일 선택', flip: '카메라 전환', cameras: '카메라',
    sample: '예시 사진 보기',
    camera: (n) => `카메라 ${n}`,
    fps: '초당 프레임', latency: '전체 지연 시간', serverTime: '서버 처리 시간',
    faces: (n) => (n === 0 ? '얼굴' : `얼굴 ${n}개`),
    who: (id) => `얼굴 ${id}`,
    snapshot: '스냅샷', csv: 'CSV', json: 'JSON', exportAs: '내보내기', fullscreen: '전체 화면', options: '설정',
    smoothing: '확률 흔들림 줄이기', mirror: '카메라 좌우 반전', threshold: '불확실로 표시할 기준', never: '끔',
    timeline: '시간별 감정', chosen: '그래프로 볼 얼굴', scrub: '시점', progress: '분석 진행률',
    pause: '일시 정지', resume: '계속', play: '재생', ago: (seconds) => `${seconds}초 전`,
    summary: (id, seen, all) => `얼굴 ${id}: ${all}개 프레임 중 ${seen}개에서 확인`,
    previous: '이전 파일', next: '다음 파일', position: (n, all, name) => `${all}개 중 ${n}번째 · ${name}`,
    modelName: (name) => `모델: ${name}.`, trainedOn: (name, source) => `‘${name}’ 감정은 ‘${source}’ 표정 사진으로 학습했습니다.`,
    placeholder: '얼굴마다 카드가 하나씩 나타나 감정별 확률을 보여 줍니다.',
    privacy: '영상은 이 서버로만 전송되며 저장되지 않습니다.',
    api: 'API', modelCard: '모델 카드', otherLanguage: 'English',
    'status.idle': '준비됨', 'status.connecting': '연결 중', 'status.connected': '연결됨',
    'status.reconnecting': '다시 연결 중', 'status.noModel': '모델 없음',
    welcome: '카메라를 시작하거나, 사진이나 동영상을 선택하거나 끌어다 놓으세요.',
    asking: '브라우저에서 카메라 사용을 허용해 주세요.',
    noFace: '얼굴이 보이지 않습니다',
    analysing: '얼굴을 찾는 중…',
    lost: '연결이 끊어졌습니다. 다시 연결하는 중…',
    noModel: '서버에 모델이 로드되지 않았습니다. 이유는 서버의 터미널에 있습니다. --model, MODEL_PATH, CLASS_NAMES를 '
      + '확인한 뒤 서버를 다시 시작하세요.',
    notAPicture: '브라우저가 열 수 있는 사진 파일이 아닙니다.',
    notAVideo: '브라우저가 재생할 수 없는 동영상입니다. face-emotion predict 명령은 더 많은 형식을 읽습니다.',
    badPicture: '서버가 이 사진을 읽을 수 없습니다.',
    tooLarge: '사진이 너무 커서 서버가 받을 수 없습니다.',
    overloaded: '서버가 바쁩니다. 잠시 후 다시 시도해 주세요.',
    workerLost: '서버가 이 사진을 처리하는 데 시간이 너무 오래 걸렸습니다. 다시 시도해 주세요.',
    unauthorized: '이 서버는 토큰이 필요합니다. 주소 끝에 #token=…을 붙여 페이지를 여세요.',
    unreachable: '서버에 연결할 수 없습니다. 다시 시도해 주세요.',
    refused: '서버가 요청을 처리하지 못했습니다.',
    ...CAMERA_TEXT.ko,
  },
};

// For pictures uploaded before the camera's first message; the names that the server sends replace these.
const koreanNames = {
  happy: '행복', sad: '슬픔', neutral: '중립', embarrassed: '당황', anxiety: '불안', anger: '분노', hurt: '상처',
  uncertain: '불확실',
};

const KOREAN_SOURCES = { surprise: '놀람', fear: '두려움', happiness: '행복', sadness: '슬픔', neutral: '무표정', anger: '분노' };

// What a class was trained on, in the language of the page.
export function sourceName(name) {
  return (language === 'ko' && KOREAN_SOURCES[name]) || name;
}

const SETTING = 'face_emotion.language';
export let language = firstLanguage();

export function text(key, ...values) {
  const entry = TEXT[language][key];
  return typeof entry === 'function' ? entry(...values) : entry;
}

// Words of a page of its own: { en: {…}, ko: {…} }
export function addTexts(words) {
  for (const [name, entries] of Object.entries(words)) Object.assign(TEXT[name], entries);
}

export function emotionName(name) {
  if (language === 'ko' && koreanNames[name]) return koreanNames[name];
  return name.charAt(0).toUpperCase() + name.slice(1);
}

export function learnKoreanNames(names) {
  Object.assign(koreanNames, names);
}

// Storage throws an error where the browser forbids it; the page works without.
function firstLanguage() {
  let chosen = null;
  try { chosen = localStorage.getItem(SETTING); } catch { /* no earlier choice */ }
  if (chosen in TEXT) return chosen;
  return navigator.language.toLowerCase().startsWith('ko') ? 'ko' : 'en';
}

// The language that is not shown; `choose` makes it the one that is.
export function nextLanguage({ choose = false } = {}) {
  const next = language === 'ko' ? 'en' : 'ko';
  if (!choose) return next;
  language = next;
  try { localStorage.setItem(SETTING, next); } catch { /* the choice lasts until reload */ }
  return next;
}

// Puts the words into the elements that name them with data-text or data-label.
export function translatePage() {
  document.documentElement.lang = language;
  document.title = text('title');
  for (const element of document.querySelectorAll('[data-text]')) {
    element.textContent = text(element.dataset.text);
  }
  for (const element of document.querySelectorAll('[data-label]')) {
    element.setAttribute('aria-label', text(element.dataset.label));
  }
}
