"""The page at every width and for everybody: no text is cut off, nothing jumps, screen readers hear what changes."""

import json
import shutil

import pytest
from page import MARKS, WAIT_MS, WIDTHS, cut_off, expect, picture_bytes, start_camera, upload, violations, wait_for_face
from serving import ServerProcess

from face_emotion.core.config import BUNDLED_MODEL

pytestmark = MARKS

DENIED = "navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException('', 'NotAllowedError'));"


@pytest.mark.parametrize("locale", ["en-US", "ko-KR"])
def test_no_text_is_cut_off(plain_browser, open_page, locale):
    "Nothing chosen, a camera that is blocked, one on an insecure page, and a picture with its card."
    page = open_page(plain_browser, locale=locale, script=DENIED).page
    problems = {}

    def look(state):
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 640})
            problems[state, width] = cut_off(page)

    look("nothing chosen")
    page.click("#start")
    expect(page.locator("#message")).to_have_attribute("data-key", "denied")
    look("camera blocked")
    page.evaluate("Object.defineProperty(window, 'isSecureContext', { value: false })")
    page.click("#start")
    expect(page.locator("#message")).to_have_attribute("data-key", "insecure")
    look("insecure page")
    upload(page, picture_bytes())
    wait_for_face(page)
    look("a picture")
    assert {where: texts for where, texts in problems.items() if texts} == {}


@pytest.mark.parametrize("width, touch", [(390, True), (390, False), (1280, False)])
def test_stage_does_not_jump_when_the_camera_starts(face_browser, open_page, width, touch):
    page = open_page(face_browser, viewport={"width": width, "height": 800}, is_mobile=touch, has_touch=touch).page
    before = page.locator("#stage").bounding_box()
    start_camera(page)
    wait_for_face(page)
    assert page.locator("#stage").bounding_box() == before


def test_screen_readers_hear_the_emotion_and_no_repetition(face_browser, open_page):
    "The emotion is announced once while it lasts, and the status is not written again by each attempt to reconnect."
    watched = open_page(face_browser)
    page = watched.page
    page.evaluate("""() => {
        window.written = { announcer: [], status: [] };
        for (const id of Object.keys(written)) {
            const observer = new MutationObserver(() => written[id].push(document.getElementById(id).textContent));
            observer.observe(document.getElementById(id), { childList: true, characterData: true, subtree: true });
        }
    }""")
    start_camera(page)
    wait_for_face(page)
    expect(page.locator("#announcer")).to_have_text("Happy", timeout=WAIT_MS)
    page.wait_for_function("count => sent.length > count", arg=len(watched.sent()) + 20)
    assert page.evaluate("written.announcer") == ["Happy"]
    page.evaluate("""() => {
        window.WebSocket = class { close() {} constructor() { setTimeout(() => this.onclose?.({ reason: '' }), 1); } };
        sockets.at(-1).onclose({ reason: '' });
        sockets.at(-1).close();
    }""")
    page.wait_for_timeout(2000)
    assert page.evaluate("written.status") == ["Connecting", "Connected", "Reconnecting"]


@pytest.mark.parametrize("locale, scheme", [("en-US", "light"), ("ko-KR", "dark")])
def test_axe_finds_nothing(plain_browser, open_page, server, locale, scheme):
    "The page before anything, with a picture, and the model card."
    page = open_page(plain_browser, locale=locale, color_scheme=scheme).page
    broken = {"first view": violations(page)}
    upload(page, picture_bytes())
    wait_for_face(page)
    broken["picture"] = violations(page)
    page.goto(server.url + "/model-card")
    page.wait_for_selector("html[data-ready]", state="attached")
    broken["model card"] = violations(page)
    assert {where: rules for where, rules in broken.items() if rules} == {}


def test_model_card_of_another_model_in_both_languages(plain_browser, open_page, tmp_path):
    "The loaded model's own classes and training data, and its own card, not the bundled one's."
    bundled = BUNDLED_MODEL
    for ending in (".json", ".tflite"):
        shutil.copy(bundled.with_name(bundled.name + ending), tmp_path / f"mine{ending}")
    facts = json.loads((tmp_path / "mine.json").read_text())
    facts["files"] = {"mine.tflite": facts["files"][f"{bundled.name}.tflite"]}
    facts["data"] = {"mapping": {"sad": "grief"}, "train": "photographs of my own"}
    (tmp_path / "mine.json").write_text(json.dumps(facts))
    (tmp_path / "mine.md").write_text("# Mine\n\n## Limits\n\nOnly for **me**.\n")
    with ServerProcess(tmp_path, "--model", str(tmp_path / "mine")) as server:
        page = open_page(plain_browser, server.url + "/model-card").page
        expect(page.locator("#message")).to_have_text("This server runs mine.")
        expect(page.locator(".classes")).to_contain_text("Sad trained on grief")
        expect(page.locator("#facts")).to_contain_text("photographs of my own")
        expect(page.locator("#card h3")).to_have_text("Limits")
        assert cut_off(page) == []
        page.click("#lang")
        expect(page.locator("#message")).to_have_text("이 서버는 mine 모델을 사용합니다.")
        expect(page.locator(".classes")).to_contain_text("행복")
