// A card for each face: its emotion, and a bar for the probability of every class.

import { faceKey, percent, shownConfidence } from './faces.js';
import { emotionName, text } from './texts.js';

const GRACE_MS = 400;                      // a face missed for a frame or two keeps its card

const copyOf = (template) => document.getElementById(template).content.firstElementChild.cloneNode(true);

function write(element, content) {
  if (element.textContent !== content) element.textContent = content;
}

export class Cards {
  #list;
  #palette;
  #onChoose;

  // onChoose: called with the key of the face whose card was chosen
  constructor(list, palette, onChoose = () => {}) {
    this.#onChoose = onChoose;
    this.#list = list;
    this.#palette = palette;
  }

  get count() {
    return this.#list.children.length;
  }

  // exact: cards of missing faces go at once; chosen: key of the face that stands out; choosable: whether one can choose
  show(faces, { exact = false, chosen = null, choosable = false } = {}) {
    const now = performance.now();
    faces.forEach((face, index) => {
      const key = faceKey(face, index);
      const card = this.#find(key) ?? this.#add(key);
      card.lastSeen = now;
      this.#fill(card, face);
      this.#mark(card, chosen === key, choosable);
    });
    for (const card of [...this.#list.children]) {
      if (now - card.lastSeen > (exact ? 0 : GRACE_MS)) card.remove();
    }
    this.#arrange();
  }

  clear() {
    this.#list.replaceChildren();
    this.#arrange();
  }

  translate() {
    for (const card of this.#list.children) this.#translateCard(card);
  }

  // Several faces get smaller cards.
  #arrange() {
    this.#list.classList.toggle('several', this.count > 1);
    this.#list.classList.toggle('many', this.count > 3);
  }

  #find(key) {
    return [...this.#list.children].find((card) => card.dataset.faceId === key);
  }

  #add(key) {
    const card = copyOf('card');
    card.dataset.faceId = key;
    card.querySelector('.who').addEventListener('click', () => this.#onChoose(key));
    card.querySelector('.bars').append(...this.#palette.classNames.map((name) => this.#newBar(name)));
    this.#list.insertBefore(card, this.#after(Number(key)));
    this.#translateCard(card);
    return card;
  }

  // The card before which a new one stands: cards are in the order of the numbers on the boxes.
  #after(number) {
    return [...this.#list.children].find((card) => Number(card.dataset.faceId) > number) ?? null;
  }

  #newBar(name) {
    const bar = copyOf('bar');
    bar.dataset.probability = name;
    bar.style.setProperty('--hue', this.#palette.of(name));
    return bar;
  }

  #mark(card, chosen, choosable) {
    const button = card.querySelector('.who');
    if (button.disabled === choosable) button.disabled = !choosable;
    const pressed = String(chosen && choosable);
    if (button.getAttribute('aria-pressed') !== pressed) button.setAttribute('aria-pressed', pressed);
  }

  #fill(card, face) {
    card.dataset.emotion = face.emotion;
    card.style.setProperty('--hue', this.#palette.of(face.emotion));
    write(card.querySelector('.emotion'), emotionName(face.emotion));
    write(card.querySelector('.confidence'), shownConfidence(face));
    for (const bar of card.querySelectorAll('[data-probability]')) {
      const probability = face.probabilities[bar.dataset.probability] ?? 0;
      bar.dataset.value = probability;
      bar.classList.toggle('top', bar.dataset.probability === face.emotion);
      bar.querySelector('.fill').style.transform = `scaleX(${probability})`;   // a width would move the whole page
      write(bar.querySelector('.value'), percent(probability));
    }
  }

  #translateCard(card) {
    card.querySelector('.who').textContent = text('who', card.dataset.faceId);
    if (card.dataset.emotion) card.querySelector('.emotion').textContent = emotionName(card.dataset.emotion);
    for (const bar of card.querySelectorAll('[data-probability]')) {
      bar.querySelector('.name').textContent = emotionName(bar.dataset.probability);
    }
  }
}
