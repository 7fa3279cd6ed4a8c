// The page /model-card: the facts of the model that the server runs, in English and Korean, and the card beside it.

import { endpoint } from './connection.js';
import { Palette } from './faces.js';
import { addTexts, emotionName, language, learnKoreanNames, nextLanguage, sourceName, text, translatePage } from './texts.js';

addTexts({
  en: {
    loading: 'Loading…',
    about: (name) => `This server runs ${name}.`,
    classes: 'Classes', trainedOn: (what) => `trained on ${what}`,
    facts: 'Network', backbone: 'Backbone', input: 'Input', trained: 'Made', nTrain: 'Training faces', file: 'File',
    temperature: 'Temperature', versions: 'Versions',
    results: 'Results', set: 'Faces of', n: 'Number', accuracy: 'Accuracy', f1: 'Macro F1', ece: 'Calibration error',
    recall: 'Share of each class that is found', data: 'Training data', allData: 'Everything that the metadata say', card: 'The card of its authors', cardNote: '',
    noMetrics: 'No results are stored with this model. Run face-emotion evaluate --update to measure it.',
  },
  ko: {
    loading: '불러오는 중…',
    about: (name) => `이 서버는 ${name} 모델을 사용합니다.`,
    classes: '클래스', trainedOn: (what) => `학습 데이터의 라벨: ${what}`,
    facts: '네트워크', backbone: '백본', input: '입력', trained: '만든 날', nTrain: '학습한 얼굴', file: '파일',
    temperature: '온도', versions: '버전',
    results: '측정 결과', set: '얼굴 데이터', n: '개수', accuracy: '정확도', f1: '매크로 F1', ece: '보정 오차(ECE)',
    recall: '클래스별 재현율', data: '학습 데이터', allData: '메타데이터 전체 보기', card: '제작자가 쓴 모델 카드', cardNote: '아래 내용은 영어로 쓰여 있습니다.',
    noMetrics: '이 모델에는 저장된 측정 결과가 없습니다. face-emotion evaluate --update로 측정하세요.',
  },
});

const byId = (id) => document.getElementById(id);
let facts = null;
let messageKey = 'loading';

// An element with its children, which are elements or texts.
function make(tag, className, ...children) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  element.append(...children);
  return element;
}

const isPlain = (value) => value === null || typeof value !== 'object';
const percent = (value) => (Number.isFinite(value) ? `${(100 * value).toFixed(1)}%` : '–');
const word = (value) => (typeof value === 'number' ? value.toLocaleString(language) : String(value));
const title = (key) => key.replaceAll('_', ' ').replace(/^./, (letter) => letter.toUpperCase());

function section(key, ...children) {
  return make('section', '', make('h2', '', text(key)), ...children);
}

// rows: arrays of texts; the first of each row is its heading. The box around the table scrolls on a phone.
function table(label, head, rows) {
  const cells = rows.map(([first, ...others]) => {
    const heading = make('th', '', first);
    heading.scope = 'row';
    return make('tr', '', heading, ...others.map((value) => make('td', '', value)));
  });
  const heads = head.map((name) => Object.assign(make('th', '', name), { scope: 'col' }));
  const box = make('div', 'table', make('table', '', make('thead', '', make('tr', '', ...heads)), make('tbody', '', ...cells)));
  box.tabIndex = 0;
  box.setAttribute('role', 'group');
  box.setAttribute('aria-label', label);
  return box;
}

// Names and values; a value may be a list or names and values again.
function definitions(values) {
  const list = make('dl', 'facts');
  for (const [key, value] of Object.entries(values)) {
    if (value === '' || value === null || value === undefined) continue;
    list.append(make('div', '', make('dt', '', title(key)), make('dd', '', ...describe(value))));
  }
  return list;
}

function describe(value) {
  if (isPlain(value)) return [word(value)];
  if (!Array.isArray(value)) return [definitions(value)];
  if (value.every(isPlain)) return [value.map(word).join(', ')];
  return value.map((one) => definitions(isPlain(one) ? { '–': one } : one));
}

// ---------------------------------------------------------------- sections

function classes() {
  const palette = new Palette(facts.palette);
  palette.classNames = facts.class_names;
  const items = facts.class_names.map((name) => {
    const item = make('li', '', emotionName(name));
    item.style.setProperty('--hue', palette.of(name));
    const source = facts.trained_on[name];
    if (source) item.append(' ', make('span', 'note', text('trainedOn', sourceName(source))));
    return item;
  });
  return section('classes', make('ul', 'classes', ...items));
}

function network() {
  const [height, width] = facts.input;
  const created = facts.created ? new Date(facts.created).toLocaleDateString(language) : '';
  return section('facts', definitions({
    [text('backbone')]: facts.backbone,
    [text('input')]: `${width} × ${height}`,
    [text('temperature')]: facts.temperature,
    [text('trained')]: created,
    [text('nTrain')]: facts.data.n_train,
    [text('file')]: facts.file,
    [text('versions')]: Object.entries(facts.versions).map(([name, version]) => `${name} ${version}`),
  }));
}

// Results of one set may be given for one view of a face, and for the mean of the face and its mirror image.
const headline = (measured) => measured.one_view ?? measured;

function results() {
  const sets = Object.entries(facts.metrics).filter(([, measured]) => !isPlain(measured));
  if (!sets.length) return section('results', make('p', '', text('noMetrics')));
  const rows = sets.map(([name, measured]) => {
    const { accuracy, macro_f1: f1, ece } = headline(measured);
    return [title(name), Number.isFinite(measured.n) ? word(measured.n) : '–', percent(accuracy), percent(f1), percent(ece)];
  });
  const parts = [table(text('results'), ['set', 'n', 'accuracy', 'f1', 'ece'].map((key) => text(key)), rows)];
  const withRecall = sets.filter(([, measured]) => measured.recall);
  if (withRecall.length) {
    const recalls = withRecall.map(([name, { recall }]) => [title(name), ...facts.class_names.map((c) => percent(recall[c]))]);
    const head = [text('set'), ...facts.class_names.map(emotionName)];
    parts.push(make('h3', '', text('recall')), table(text('recall'), head, recalls));
  }
  return section('results', ...parts);
}

// In short where a card tells it at length.
function trainingData(data) {
  if (!facts.card) return section('data', definitions(data));
  const { train, licence, ...rest } = data;
  const all = make('details', '', make('summary', '', text('allData')), definitions(rest));
  return section('data', definitions({ train, licence }), all);
}

function show() {
  translatePage();
  document.title = `${text('modelCard')} · ${text('title')}`;
  byId('lang').lang = nextLanguage();
  byId('lang').textContent = text('otherLanguage');
  byId('message').textContent = facts ? text('about', facts.file) : text(messageKey);
  if (!facts) return;
  const { n_train: counted, ...data } = facts.data;
  const parts = [classes(), network(), results()];
  if (Object.keys(data).length) parts.push(trainingData(data));
  if (facts.card) parts.push(section('card', ...(text('cardNote') ? [make('p', '', text('cardNote'))] : [])));
  byId('facts').replaceChildren(...parts);
}

async function load() {
  show();
  const [answer, palette] = await Promise.all([
    fetch(endpoint('model-card.json')), fetch(new URL('palette.json', import.meta.url)).then((response) => response.json()),
  ]);
  const content = await answer.json();
  if (answer.ok) {
    facts = { ...content, palette };
    learnKoreanNames(facts.labels_ko);
    byId('card').innerHTML = facts.card ?? '';           // made by the server without scripts, see serving/card
  } else {
    messageKey = 'noModel';
  }
}

byId('lang').addEventListener('click', () => {
  nextLanguage({ choose: true });
  show();
});
load().catch(() => { messageKey = 'unreachable'; }).finally(() => {
  show();
  document.documentElement.dataset.ready = 'true';
});
