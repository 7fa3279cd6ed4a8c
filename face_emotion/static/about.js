// What the page says about the model: its name, and which emotions were trained on something else.

import { endpoint } from './connection.js';
import { emotionName, learnKoreanNames, sourceName, text } from './texts.js';
import { byId } from './view.js';

let asked = null;
let facts = null;

// Asks the server at the first face, so that the first view waits for nothing.
export function showModelNote() {
  asked ??= fetch(endpoint('model-card.json')).then(async (answer) => {
    if (!answer.ok) return;
    facts = await answer.json();
    learnKoreanNames(facts.labels_ko);
    translateModelNote();
  }).catch(() => { asked = null; });       // asked again at the next face
}

export function modelFacts() {
  return facts ? { model: facts.file, trained_on: facts.trained_on } : {};
}

export function translateModelNote() {
  if (!facts) return;
  const trained = Object.entries(facts.trained_on);
  const notes = trained.map(([name, source]) => text('trainedOn', emotionName(name), sourceName(source)));
  byId('model-note').textContent = [text('modelName', facts.file), ...notes].join(' ');
  byId('model-note').hidden = false;
}
