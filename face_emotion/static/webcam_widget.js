// The browser's half of face_emotion.webcam: the camera, the frames, and what is drawn over them.

const WORDS = {
  en: {
    start: "Start", stop: "Stop", snapshot: "Snapshot", upload: "Picture…", camera: "Camera", history: "Last 30 seconds",
    idle: "Press Start, or choose a picture.", starting: "Waiting for the camera…", stopped: "Stopped.", taken: "Snapshot taken: see .snapshot",
    noFace: "No face in view", oneFace: "1 face", faces: "{n} faces", rate: "{rate}/s · {ms} ms",
    insecure: "The browser gives a camera only to pages from https:// or localhost. Open JupyterLab that way, or choose a picture.",
    denied: "The camera was refused. Allow it at the camera sign in the address bar and press Start again, or choose a picture.",
    none: "The browser found no camera. Connect one and press Start again, or choose a picture.",
    busy: "The camera is in use by another program. Close that one and press Start again, or choose a picture.",
    lost: "The camera went away. Connect it and press Start again, or choose a picture.",
    failed: "The camera did not start: {why}. Choose a picture instead.",
    kernel: "The kernel does not answer. Run the cell again.",
    unreadable: "This file is not a picture that can be read.",
  },
  ko: {
    start: "시작", stop: "정지", snapshot: "저장", upload: "사진…", camera: "카메라", history: "최근 30초",
    idle: "시작을 누르거나 사진을 고르세요.", starting: "카메라를 기다리는 중…", stopped: "멈췄습니다.", taken: "저장했습니다: .snapshot을 보세요",
    noFace: "얼굴이 보이지 않습니다", oneFace: "얼굴 1개", faces: "얼굴 {n}개", rate: "초당 {rate}번 · {ms} ms",
    insecure: "브라우저는 https:// 나 localhost 주소에서만 카메라를 허락합니다. 그런 주소로 주피터랩을 열거나 사진을 고르세요.",
    denied: "카메라가 거부되었습니다. 주소창의 카메라 표시에서 허용하고 다시 시작하거나 사진을 고르세요.",
    none: "카메라를 찾지 못했습니다. 연결하고 다시 시작하거나 사진을 고르세요.",
    busy: "다른 프로그램이 카메라를 쓰고 있습니다. 그 프로그램을 닫고 다시 시작하거나 사진을 고르세요.",
    lost: "카메라가 끊어졌습니다. 연결하고 다시 시작하거나 사진을 고르세요.",
    failed: "카메라를 켜지 못했습니다: {why}. 사진을 고르세요.",
    kernel: "커널이 대답하지 않습니다. 셀을 다시 실행하세요.",
    unreadable: "읽을 수 있는 사진이 아닙니다.",
  },
};
const ERRORS = {
  NotAllowedError: "denied", SecurityError: "denied", NotFoundError: "none", DevicesNotFoundError: "none",
  OverconstrainedError: "none", NotReadableError: "busy", TrackStartError: "busy", AbortError: "busy",
};
const SILENCE_MS = 4000;        // no answer for this long: the kernel is gone
const HISTORY_MS = 30000;
const RATE_MS = 2000;           // answers are counted over this time
const PAINT_MS = 120;           // bars, history and numbers change no more often; boxes follow every answer
const NOTICE_MS = 2500;          // what a click or the kernel brought up stays this long over the count of faces
const LARGEST_UPLOAD = 4e6;     // bytes; a larger picture is made smaller before it is sent
const UPLOAD_SIDE = 2048;
const UNCERTAIN = "uncertain";  // as face_emotion.config has it
const GREY = [82, 85, 92];

const fill = (text, values) => text.replace(/\{(\w+)\}/g, (_, name) => values[name]);
const rgb = (color) => `rgb(${color.join(" ")})`;

function element(tag, className, attributes = {}) {
  const node = document.createElement(tag);
  node.className = className;
  return Object.assign(node, attributes);
}

function toJpeg(source, width, height, quality) {
  const canvas = element("canvas", "", { width, height });
  canvas.getContext("2d").drawImage(source, 0, 0, width, height);
  return new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", quality)).then((blob) => blob.arrayBuffer());
}

// ------------------------------------------------------------------ what is seen

class Screen {
  constructor(model, el) {
    this.model = model;
    this.lang = model.get("lang") || (navigator.language.startsWith("ko") ? "ko" : "en");
    this.words = WORDS[this.lang] ?? WORDS.en;
    this.root = element("div", "fe-webcam");
    this.build();
    el.append(this.root);
  }

  build() {
    const w = this.words;
    this.bar = element("div", "fe-bar");
    this.start = element("button", "fe-start", { type: "button", textContent: w.start });
    this.shot = element("button", "fe-shot", { type: "button", textContent: w.snapshot, disabled: true });
    this.file = element("input", "fe-file", { type: "file", accept: "image/*", hidden: true });
    this.upload = element("button", "fe-upload", { type: "button", textContent: w.upload });
    this.cameras = element("select", "fe-cameras", { hidden: true, ariaLabel: w.camera });
    this.rate = element("span", "fe-rate");
    this.bar.append(this.start, this.shot, this.upload, this.file, this.cameras, this.rate);

    this.stage = element("div", "fe-stage");
    this.video = element("video", "fe-video", { muted: true, playsInline: true });
    this.still = element("canvas", "fe-still", { hidden: true });
    this.overlay = element("canvas", "fe-overlay");
    this.stage.append(this.video, this.still, this.overlay);

    this.status = element("p", "fe-status", { ariaLive: "polite" });
    this.faces = element("div", "fe-faces");
    this.historyTitle = element("p", "fe-title", { textContent: w.history });
    this.history = element("canvas", "fe-history", { width: 360, height: 90 });
    this.legend = element("div", "fe-legend");
    this.names().forEach((name, i) => {
      const item = element("span", "", { textContent: name });
      item.style.setProperty("--color", rgb(this.color(i)));
      this.legend.append(item);
    });
    const side = element("div", "fe-side");
    side.append(this.status, this.faces, this.historyTitle, this.history, this.legend);
    this.root.append(this.bar, this.stage, side);
    this.say("idle", w.idle);
  }

  names() {
    const labels = this.model.get("labels_ko");
    return this.model.get("class_names").map((name) => (this.lang === "ko" ? labels[name] ?? name : name));
  }

  // What is shown of a face: a grey box and no emotion, if Python says that the model is not sure.
  verdict(face) {
    const best = face.p.indexOf(Math.max(...face.p));
    if (!face.uncertain) return { best, key: this.model.get("class_names")[best], name: this.names()[best], color: this.color(best) };
    return { best: -1, key: UNCERTAIN, name: this.lang === "ko" ? this.model.get("labels_ko")[UNCERTAIN] ?? UNCERTAIN : UNCERTAIN, color: GREY };
  }

  color(i) {
    const colors = this.model.get("colors");
    return colors[i % colors.length];
  }

  say(state, text) {
    this.root.dataset.state = state;
    this.notice(text, 0);
  }

  notice(text, stays = NOTICE_MS) {
    this.status.textContent = text;
    this.noticeEnds = performance.now() + stays;
  }

  count(n) {
    if (performance.now() < this.noticeEnds) return;
    this.status.textContent = n === 0 ? this.words.noFace : n === 1 ? this.words.oneFace : fill(this.words.faces, { n });
  }

  draw(faces, width, height, mirrored) {
    const canvas = this.overlay;
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    const ctx = canvas.getContext("2d");
    ctx.clearRect(0, 0, width, height);
    const unit = Math.max(width, height) / 640;
    ctx.lineWidth = 2.5 * unit;
    ctx.font = `600 ${Math.round(15 * unit)}px system-ui, sans-serif`;
    ctx.textBaseline = "middle";
    for (const face of faces) this.drawFace(ctx, face, mirrored ? width : 0, unit);
    canvas.dataset.boxes = faces.length;
  }

  drawFace(ctx, face, flip, unit) {
    const [left, y, w, h] = face.box;
    const x = flip ? flip - left - w : left;
    const { name, color } = this.verdict(face);
    const text = face.uncertain ? name : `${name} ${Math.round(Math.max(...face.p) * 100)}%`;   // "uncertain 45%" would read as how uncertain
    const tall = 22 * unit;
    const top = y - tall >= 0 ? y - tall : y + h;
    ctx.strokeStyle = ctx.fillStyle = rgb(color);
    ctx.strokeRect(x, y, w, h);
    ctx.fillRect(x - ctx.lineWidth / 2, top, ctx.measureText(text).width + 12 * unit, tall);
    ctx.fillStyle = "white";
    ctx.fillText(text, x + 5 * unit, top + tall / 2);
  }

  bars(faces) {
    while (this.faces.children.length > faces.length) this.faces.lastChild.remove();
    while (this.faces.children.length < faces.length) this.faces.append(this.card());
    faces.forEach((face, i) => this.fillCard(this.faces.children[i], face, i));
  }

  card() {
    const card = element("div", "fe-face");
    card.append(element("b", ""));
    this.names().forEach((name, i) => {
      const row = element("div", "fe-row", { textContent: name });
      const meter = element("span", "fe-meter", { role: "presentation" });
      meter.append(element("i", ""));
      meter.style.setProperty("--color", rgb(this.color(i)));
      row.append(meter, element("output", ""));
      card.append(row);
    });
    return card;
  }

  fillCard(card, face, i) {
    const { best, key, name } = this.verdict(face);
    card.dataset.emotion = key;
    card.dataset.id = face.id ?? "";
    card.querySelector("b").textContent = `${face.id ?? i + 1}: ${name}`;
    card.querySelectorAll(".fe-row").forEach((row, k) => {
      row.classList.toggle("fe-best", k === best);
      row.querySelector("i").style.transform = `scaleX(${face.p[k]})`;
      row.querySelector("output").textContent = `${Math.round(face.p[k] * 100)}%`;
    });
  }

  plot(points, now) {
    const { width, height } = this.history;
    const ctx = this.history.getContext("2d");
    ctx.clearRect(0, 0, width, height);
    ctx.strokeStyle = "rgb(128 128 128 / 0.35)";
    ctx.lineWidth = 1;
    for (const y of [0.5, height / 2, height - 0.5]) ctx.strokeRect(0, y, width, 0);
    ctx.lineWidth = 2;
    this.names().forEach((_, k) => {
      ctx.strokeStyle = rgb(this.color(k));
      ctx.beginPath();
      points.forEach(({ t, p, gap }, i) => {
        const x = width * (1 - (now - t) / HISTORY_MS), y = (height - 2) * (1 - p[k]) + 1;
        if (i === 0 || gap) ctx.moveTo(x, y); else ctx.lineTo(x, y);
      });
      ctx.stroke();
    });
    this.history.dataset.points = points.length;
  }
}

// ------------------------------------------------------------------ what happens

class Camera {
  constructor(model, el) {
    this.model = model;
    this.screen = new Screen(model, el);
    this.pending = new Map();   // name of a frame -> when it was sent
    this.answers = [];          // when answers came
    this.points = [];           // the history
    this.number = this.total = this.painted = 0;
    this.id = Math.random().toString(36).slice(2);   // of this view: a widget may be shown twice
    this.attempt = 0;           // counts starts and stops, so that a late camera is not kept
    this.wire();
  }

  wire() {
    const s = this.screen;
    this.on(s.start, "click", () => (this.stream || this.starting ? this.stop() : this.begin()));
    this.on(s.shot, "click", () => this.snapshot());
    this.on(s.upload, "click", () => s.file.click());
    this.on(s.file, "change", () => { this.picture(s.file.files[0]); s.file.value = ""; });
    this.on(s.cameras, "change", () => this.begin());
    this.listeners = { "msg:custom": (message) => this.hear(message), comm_live_update: () => this.hurry() };
    for (const [name, f] of Object.entries(this.listeners)) this.model.on(name, f);
    this.watch = setInterval(() => this.check(), 500);
  }

  on(node, event, f) { node.addEventListener(event, f); }

  // ---- the camera

  async begin() {
    const { words } = this.screen, attempt = this.release();
    if (!window.isSecureContext || !navigator.mediaDevices?.getUserMedia) return this.fail(words.insecure);
    this.starting = true;
    this.screen.start.textContent = words.stop;
    this.screen.say("starting", words.starting);
    try {
      const wanted = this.screen.cameras.value;
      const size = { width: { ideal: 640 }, height: { ideal: 480 } };
      const stream = await navigator.mediaDevices.getUserMedia({ video: wanted ? { ...size, deviceId: { exact: wanted } } : size });
      if (attempt !== this.attempt) return stream.getTracks().forEach((track) => track.stop());
      await this.show(stream);
    } catch (error) {
      if (attempt !== this.attempt) return;
      const key = ERRORS[error.name];
      if (key === "none") this.screen.cameras.value = "";
      this.fail(key ? words[key] : fill(words.failed, { why: error.message || error.name }));
    }
  }

  async show(stream) {
    const s = this.screen;
    this.stream = stream;
    this.starting = false;
    stream.getVideoTracks()[0].addEventListener("ended", () => this.stream === stream && (this.release(), this.fail(s.words.lost)));
    s.video.srcObject = stream;
    s.still.hidden = true;
    s.video.hidden = false;
    s.stage.classList.toggle("fe-mirror", this.model.get("mirror"));
    await s.video.play();
    if (this.stream !== stream) return;
    s.stage.style.aspectRatio = `${s.video.videoWidth} / ${s.video.videoHeight}`;
    s.shot.disabled = false;
    s.say("running", "");
    this.lastAnswer = performance.now();
    this.setRunning(true);
    this.next();
    await this.listCameras();
  }

  async listCameras() {
    const devices = (await navigator.mediaDevices.enumerateDevices()).filter((d) => d.kind === "videoinput");
    const current = this.stream?.getVideoTracks()[0]?.getSettings().deviceId;
    const { cameras } = this.screen;
    cameras.replaceChildren(...devices.map((d, i) => element("option", "", { value: d.deviceId, textContent: d.label || `${i + 1}` })));
    if (current) cameras.value = current;
    cameras.hidden = devices.length < 2;
  }

  release() {
    this.stream?.getTracks().forEach((track) => track.stop());
    this.stream = null;
    this.starting = false;
    this.pending.clear();
    const s = this.screen;
    s.video.srcObject = null;
    s.shot.disabled = true;
    s.start.textContent = s.words.start;
    s.rate.textContent = "";
    s.draw([], s.overlay.width, s.overlay.height, false);
    return ++this.attempt;
  }

  stop() {
    this.release();
    this.screen.bars([]);
    this.screen.say("stopped", this.screen.words.stopped);
    this.setRunning(false);
  }

  fail(text) {
    this.release();
    this.screen.say("error", text);
    this.setRunning(false);
  }

  setRunning(value) {
    if (this.dead || this.model.get("running") === value) return;
    try {
      this.model.set("running", value);
      this.model.save_changes();
    } catch {
      this.dead = true;
    }
  }

  // ---- frames out

  next() {
    const { video } = this.screen, again = () => this.pump();
    if (video.requestVideoFrameCallback) video.requestVideoFrameCallback(again);
    else requestAnimationFrame(again);
  }

  pump() {
    if (!this.stream) return;
    if (this.pending.size < this.model.get("in_flight") && !this.encoding && !document.hidden) this.sendFrame();
    this.next();
  }

  async sendFrame() {
    const { video } = this.screen, stream = this.stream;
    const width = Math.min(this.model.get("frame_width"), video.videoWidth);
    const height = Math.round((width * video.videoHeight) / video.videoWidth);
    this.encoding = true;
    const number = `${this.id}:${++this.number}`;
    this.pending.set(number, performance.now());
    try {
      const bytes = await this.encode(video, width, height);
      if (this.stream === stream) this.post({ kind: "frame", number }, bytes);
    } finally {
      this.encoding = false;
    }
  }

  async encode(video, width, height) {
    if (this.canvas?.width !== width || this.canvas.height !== height) this.canvas = new OffscreenCanvas(width, height);
    this.canvas.getContext("2d", { alpha: false, willReadFrequently: true }).drawImage(video, 0, 0, width, height);
    const blob = await this.canvas.convertToBlob({ type: "image/jpeg", quality: this.model.get("quality") });
    return blob.arrayBuffer();
  }

  post(message, bytes) {
    if (this.dead) return;
    try {
      this.model.send(message, undefined, bytes ? [bytes] : []);
    } catch {
      this.orphan();
    }
  }

  async snapshot() {
    const { video } = this.screen;
    if (!this.stream || !video.videoWidth) return;
    this.post({ kind: "snapshot" }, await toJpeg(video, video.videoWidth, video.videoHeight, 0.95));
  }

  async picture(file) {
    const s = this.screen;
    if (!file) return;
    this.release();
    this.setRunning(false);
    this.points = [];
    let bitmap, bytes = await file.arrayBuffer();
    try {
      bitmap = await createImageBitmap(file);
    } catch {
      bitmap = null;            // Python may still read it
    }
    if (bitmap) {
      const scale = Math.min(1, UPLOAD_SIDE / Math.max(bitmap.width, bitmap.height));
      const [width, height] = [Math.round(bitmap.width * scale), Math.round(bitmap.height * scale)];
      if (bytes.byteLength > LARGEST_UPLOAD) bytes = await toJpeg(bitmap, width, height, 0.92);
      Object.assign(s.still, { width, height }).getContext("2d").drawImage(bitmap, 0, 0, width, height);
    } else if (bytes.byteLength > LARGEST_UPLOAD) {
      return this.fail(s.words.unreadable);
    }
    s.still.hidden = !bitmap;
    s.video.hidden = Boolean(bitmap);
    s.stage.classList.remove("fe-mirror");
    if (bitmap) s.stage.style.aspectRatio = `${bitmap.width} / ${bitmap.height}`;
    s.say("picture", file.name);
    this.post({ kind: "picture", name: file.name }, bytes);
  }

  // ---- answers in

  hear(message) {
    if (message.kind === "result") this.result(message);
    else if (message.kind === "picture" && this.screen.root.dataset.state === "picture") this.showPicture(message);
    else if (message.kind === "taken") this.taken();
    else if (message.kind === "error") this.refused(message);
    else if (message.kind === "start" && latest.get(this.model.get("key")) === this && !this.stream && !this.starting) this.begin();
    else if (message.kind === "stop" && (this.stream || this.starting)) this.stop();
  }

  result(message) {
    const now = performance.now(), sent = this.pending.get(message.number);
    for (const number of [...message.dropped, message.number]) this.pending.delete(number);
    if (!this.stream || sent === undefined) return;
    this.lastAnswer = now;
    this.answers.push(now);
    while (this.answers[0] < now - RATE_MS) this.answers.shift();
    const rate = this.answers.length < 2 ? 0 : ((this.answers.length - 1) * 1000) / (now - this.answers[0]);
    this.total += 1;
    this.screen.draw(message.faces, message.width, message.height, this.model.get("mirror"));
    this.remember(message.faces, now);
    if (now - this.painted < PAINT_MS) return;
    this.painted = now;
    this.screen.rate.textContent = fill(this.screen.words.rate, { rate: rate.toFixed(0), ms: (now - sent).toFixed(0) });
    Object.assign(this.screen.rate.dataset, { ms: (now - sent).toFixed(1), total: this.total });
    this.screen.bars(message.faces);
    this.screen.count(message.faces.length);
    this.screen.plot(this.points, now);
  }

  showPicture({ faces, width, height }) {
    this.screen.draw(faces, width, height, false);
    this.screen.bars(faces);
    this.screen.count(faces.length);
  }

  remember(faces, now) {
    const largest = faces.reduce((a, b) => (a && a.box[2] * a.box[3] >= b.box[2] * b.box[3] ? a : b), null);
    this.gap ||= !largest;
    if (largest) {
      this.points.push({ t: now, p: largest.p, gap: this.gap });
      this.gap = false;
    }
    while (this.points.length && this.points[0].t < now - HISTORY_MS) this.points.shift();
  }

  taken() {
    const s = this.screen;
    s.stage.classList.add("fe-flash");
    s.notice(s.words.taken);
    setTimeout(() => s.stage.classList.remove("fe-flash"), 150);
  }

  refused(message) {
    for (const number of [...(message.dropped ?? []), message.number]) this.pending.delete(number);
    this.lastAnswer = performance.now();
    this.screen.notice(message.message);
    if (!this.stream) this.screen.say("error", message.message);
  }

  // ---- the kernel

  check() {
    if (!this.stream) return;
    if (document.hidden || this.pending.size === 0) this.lastAnswer = performance.now();
    else if (performance.now() - this.lastAnswer > SILENCE_MS) this.fail(this.screen.words.kernel);
  }

  hurry() {                     // the connection to the kernel changed: believe in it for a second more
    this.lastAnswer = Math.min(this.lastAnswer ?? 0, performance.now() - SILENCE_MS + 1000);
  }

  orphan() {
    this.dead = true;           // no more messages: there is nobody to read them
    if (this.stream || this.starting) this.fail(this.screen.words.kernel);
  }

  dispose() {
    clearInterval(this.watch);
    for (const [name, f] of Object.entries(this.listeners)) this.model.off(name, f);
    this.release();
    this.setRunning(false);
    this.screen.root.remove();
  }
}

const latest = new Map();   // of each widget the view that was shown last: it alone answers start()

function render({ model, el }) {
  const camera = new Camera(model, el), key = model.get("key");
  latest.set(key, camera);
  return () => {
    if (latest.get(key) === camera) latest.delete(key);
    camera.dispose();
  };
}

export default { render };
