// The server's addresses, and a WebSocket that reconnects.

import { smoothingWeight } from './preferences.js';

const PROTOCOL = 'emotion.v2';
const FIRST_RETRY_MS = 500;
const LONGEST_RETRY_MS = 5000;
const ANSWER_TIMEOUT_MS = 10000;           // a silent server counts as a lost connection

// #token=… in the page's address, for servers that ask for one
export const TOKEN = new URLSearchParams(window.location.hash.slice(1)).get('token');

export function endpoint(path) {
  return new URL(path, document.baseURI);                   // relative, so that the page also works under a prefix
}

export class Connection {
  ready = false;
  #handlers;
  #socket = null;
  #sent = 0;
  #retry = null;
  #watchdog = null;
  #delay = FIRST_RETRY_MS;

  // handlers: onHello(hello), onAnswer(answer), onLost(reason)
  constructor(handlers) {
    this.#handlers = handlers;
  }

  open() {
    const url = endpoint(`ws/emotion?smoothing=${smoothingWeight()}`);   // of the bars; boxes are never delayed
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

  // A new connection in place of this one, for other options.
  reopen() {
    clearTimeout(this.#retry);
    this.#detach();
    this.open();
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
    if (!this.#socket) return;             // never opened
    this.#socket.onmessage = null;
    this.#socket.onclose = null;
    this.#socket.close();
  }
}
