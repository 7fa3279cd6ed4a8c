"""What the tests of the page share: a page that is watched, and functions that read what a user sees."""

import json
import re
import time

import cv2
import pytest
from browser import needs_chromium, skimage_data, sync_api

expect = sync_api.expect
MARKS = [needs_chromium, pytest.mark.timeout(240)]
CLASS_NAMES = ["happy", "sad", "neutral", "embarrassed", "anxiety"]
# Chromium's protocol does not report frames sent as blobs, so the page counts them.
WATCH = """
    window.violations = [];
    document.addEventListener('securitypolicyviolation', (event) => violations.push(event.violatedDirective));
    window.sent = [];
    window.sockets = [];
    const send = WebSocket.prototype.send;
    WebSocket.prototype.send = function (frame) {
        sent.push(frame.type);
        if (!sockets.includes(this)) sockets.push(this);
        send.call(this, frame);
    };
"""
NO_FACE = {"en": "No face in view", "ko": "얼굴이 보이지 않습니다"}
WAIT_MS = 30_000


class Watched:
    "A page with its requests, its sockets and the errors on its console."

    def __init__(self, browser, url, *, locale="en-US", script="", **options):
        self.context = browser.new_context(locale=locale, permissions=["camera"], **options)
        self.page = self.context.new_page()
        self.requests, self.complaints, self.sockets, self.answers = [], [], [], []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("websocket", self.watch_socket)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", self.hear)
        self.page.add_init_script(WATCH + script)
        self.page.goto(url)
        self.page.wait_for_selector("html[data-ready]", state="attached")

    def watch_socket(self, socket):
        self.sockets.append(socket)
        socket.on("framereceived", lambda payload: self.answers.append(json.loads(payload)))

    def sent(self):
        "Media types of the frames sent so far."
        return self.page.evaluate("sent")

    def hear(self, message):
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)


# ---------------------------------------------------------------- what a user sees


def start_camera(page):
    page.click("#start")
    expect(page.locator("#status")).to_have_attribute("data-state", "connected", timeout=WAIT_MS)


def wait_for_face(page):
    expect(page.locator("#faces [data-face-id]").first).to_be_visible(timeout=WAIT_MS)
    expect(page.locator("#overlay")).not_to_have_attribute("data-boxes", "0", timeout=WAIT_MS)


def probabilities(page):
    "Class -> probability, from the first card."
    return (
        page.locator("[data-face-id]")
        .first.locator("[data-probability]")
        .evaluate_all(
            "bars => Object.fromEntries(bars.map(bar => [bar.dataset.probability, Number(bar.dataset.value)]))"
        )
    )


def wait_until_quiet(watched, seconds=1.0):
    "Wait until the page has sent no frame for some time, and fail if it goes on sending."
    deadline, before = time.monotonic() + WAIT_MS / 1000, -1
    while (now := len(watched.sent())) != before:
        assert time.monotonic() < deadline, "the page goes on sending frames"
        before = now
        watched.page.wait_for_timeout(1000 * seconds)


def number(page, selector):
    return float(re.match(r"[\d.]+", page.text_content(selector)).group())


def drawn(page):
    "Number of pixels painted on the overlay, and their centre as fractions of width and height."
    return page.evaluate("""() => {
        const { width, height } = overlay;
        const data = overlay.getContext('2d').getImageData(0, 0, width, height).data;
        let count = 0, left = width, right = 0, top = height, bottom = 0;
        for (let i = 3; i < data.length; i += 4) {
            if (!data[i]) continue;
            const x = (i >> 2) % width, y = Math.floor((i >> 2) / width);
            count += 1;
            left = Math.min(left, x); right = Math.max(right, x);
            top = Math.min(top, y); bottom = Math.max(bottom, y);
        }
        return { count, x: (left + right) / 2 / width, y: (top + bottom) / 2 / height };
    }""")


def picture_bytes(size=512, extension=".jpg"):
    picture = cv2.cvtColor(skimage_data.astronaut(), cv2.COLOR_RGB2BGR)
    return cv2.imencode(extension, cv2.resize(picture, (size, size)))[1].tobytes()


def upload(page, content, name="face.jpg", mime="image/jpeg"):
    page.set_input_files("#upload", {"name": name, "mimeType": mime, "buffer": content})


# ---------------------------------------------------------------- what everybody can read

WIDTHS = (320, 390, 480, 1280)
# Texts of which a part lies outside the window, or outside an element that cuts off what sticks out.
CUT_OFF = """() => {
    const cut = [];
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
        const element = walker.currentNode.parentElement;
        if (!walker.currentNode.data.trim() || element.closest('.visually-hidden, script, noscript')) continue;
        const range = document.createRange();
        range.selectNodeContents(walker.currentNode);
        for (const rect of range.getClientRects()) {
            let [left, right, top, bottom] = [0, innerWidth, -Infinity, Infinity];
            for (let box = element; box; box = box.parentElement) {
                if (getComputedStyle(box).overflow === 'visible') continue;
                const at = box.getBoundingClientRect();
                [left, right] = [Math.max(left, at.left), Math.min(right, at.right)];
                [top, bottom] = [Math.max(top, at.top), Math.min(bottom, at.bottom)];
            }
            const across = rect.left >= left - 1 && rect.right <= right + 1;
            const inside = across && rect.top >= top - 1 && rect.bottom <= bottom + 1;
            if (rect.width && !inside) cut.push(walker.currentNode.data);
        }
    }
    return [...new Set(cut)];
}"""


def cut_off(page):
    overflow = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    return page.evaluate(CUT_OFF) + ["the page scrolls sideways"] * (overflow > 0)


def violations(page):
    "Rules of axe-core that the page breaks, with the elements."
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    found = axe.Axe().run(page).response["violations"]
    return {rule["id"]: [node["html"][:120] for node in rule["nodes"]] for rule in found}
