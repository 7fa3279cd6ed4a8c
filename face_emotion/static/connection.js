// The server's addresses, and a WebSocket that reconnects.

import { smoothingWeight } from './preferences.js';

const PROTOCOL = 'emotion.v2';
const FIRST_RETRY_MS = 500;
const LONGEST_RETRY_MS = 5000;
const ANSWER_TIMEOUT_MS = 10000;           // a silent server counts as a lost connection

// #token=… in the page's address, for servers that ask for one. It is kept for this tab and taken out of the address.
export const TOKEN = takeToken();

function takeToken() {
  const given = new URLSearchParams(window.location.hash.slice(1)).get('token');
  try {
    if (given) sessionStorage.setItem('token', given);
    else return sessionStorage.getItem('token');
  } catch {                                // storage is blocked: the token must stay in the address
    return given;
  }
  history.replaceState(null, '', window.location.pathname + window.location.search);
  return given;
}

export function authorization() {
  return TOKEN ? { Authorization: `Bearer ${TOKEN}` } : {};
}

// What opens one WebSocket: a browser's WebSocket sends no headers.
async function fetchTicket() {
  const response = await fetch(endpoint('api/ticket'), { method: 'POST', headers: authorization() });
  return (await response.json()).ticket ?? '';
}

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
  #attempt = 0;

  // handlers: onHello(hello), onAnswer(answer), onLost(reason)
  constructor(handlers) {
    this.#handlers = handlers;
  }

  open() {
    const url = endpoint(`ws/emotion?smoothing=${smoothingWeight()}`);   // of the bars; boxes are never delayed
    url.protocol = url.protocol.replace('http', 'ws');
    this.#retry = null;
    this.#sent = 0;
    this.#expectAnswer();
    if (TOKEN) this.#connectWithTicket(url);
    else this.#connect(url);
  }

  async #connectWithTicket(url) {
    const attempt = this.#attempt;
    const ticket = await fetchTicket().catch(() => '');
    if (attempt !== this.#attempt) return;                  // closed meanwhile
    url.searchParams.set('ticket', ticket);
    this.#connect(url);
  }

  #connect(url) {
    this.#socket = new WebSocket(url, PROTOCOL);
    this.#socket.onmessage = (event) => this.#receive(JSON.parse(event.data));
    this.#socket.onclose = (event) => this.#lose(event.reason);
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
    this.#attempt += 1;
    clearTimeout(this.#watchdog);
    if (!this.#socket) return;             // never opened
    this.#socket.onmessage = null;
    this.#socket.onclose = null;
    this.#socket.close();
  }
}
