"""The page in a real browser: Debian's chromium, driven by playwright, with a recorded face as its camera."""

import base64
import os
import re
import urllib.request
from io import BytesIO

import pytest
from browser import skimage_data
from page import (
    CLASS_NAMES,
    MARKS,
    NO_FACE,
    WAIT_MS,
    drawn,
    expect,
    number,
    picture_bytes,
    probabilities,
    start_camera,
    upload,
    wait_for_face,
    wait_until_quiet,
)
from PIL import Image
from serving import ServerProcess, wait_until

pytestmark = MARKS


# ---------------------------------------------------------------- camera


def test_camera_shows_box_card_and_numbers(face_browser, open_page):
    watched = open_page(face_browser)
    page = watched.page
    start_camera(page)
    wait_for_face(page)
    assert drawn(page)["count"] > 100
    card = page.locator("[data-face-id]").first
    assert card.get_attribute("data-emotion") in CLASS_NAMES
    shown = probabilities(page)
    assert list(shown) == CLASS_NAMES
    assert sum(shown.values()) == pytest.approx(1, abs=0.02)
    expect(page.locator("#fps")).to_have_text(re.compile(r"\d"), timeout=WAIT_MS)
    expect(page.locator("#latency")).to_have_text(re.compile(r"\d+ ms"), timeout=WAIT_MS)
    assert number(page, "#fps") > 0
    latency, in_server = page.evaluate(
        "['latency', 'server-time'].map((id) => parseFloat(document.getElementById(id).textContent))"
    )
    assert latency >= in_server - 1
    assert set(watched.sent()) == {"image/jpeg"}


def test_camera_is_mirrored_and_boxes_follow(face_browser, open_page):
    watched = open_page(face_browser)
    start_camera(watched.page)
    wait_for_face(watched.page)
    answer = next(answer for answer in watched.answers if answer.get("results"))
    x, _, width, _ = answer["results"][0]["bbox"]
    assert (x + width / 2) / answer["frame"][0] < 0.45
    assert drawn(watched.page)["x"] > 0.55


def test_one_frame_is_under_way_at_a_time(face_browser, open_page):
    "A frame is sent only after the previous one is answered, so none is dropped."
    count = """
        window.underWay = 0;
        window.mostUnderWay = 0;
        const sendFrame = WebSocket.prototype.send;
        WebSocket.prototype.send = function (frame) {
            if (!underWay) this.addEventListener('message', () => { underWay = 0; }, { once: true });
            underWay += 1;
            mostUnderWay = Math.max(mostUnderWay, underWay);
            sendFrame.call(this, frame);
        };
    """
    watched = open_page(face_browser, script=count)
    start_camera(watched.page)
    wait_for_face(watched.page)
    wait_until(lambda: len(watched.sent()) >= 10)
    numbers = [answer["seq"] for answer in watched.answers if "seq" in answer]
    assert numbers == list(range(1, len(numbers) + 1))
    assert not any(answer.get("dropped") for answer in watched.answers)
    assert watched.page.evaluate("mostUnderWay") == 1


def test_stop_releases_camera_and_connection(face_browser, open_page):
    watched = open_page(face_browser)
    page = watched.page
    start_camera(page)
    wait_for_face(page)
    page.evaluate("window.track = document.querySelector('#video').srcObject.getVideoTracks()[0]")
    page.click("#stop")
    expect(page.locator("[data-face-id]")).to_have_count(0)
    expect(page.locator("#status")).to_have_attribute("data-state", "idle")
    assert page.evaluate("track.readyState") == "ended"
    assert page.evaluate("document.querySelector('#video').srcObject") is None
    assert drawn(page)["count"] == 0
    assert page.text_content("#fps") == "–"
    wait_until(
        lambda: page.evaluate("sockets.length > 0 && sockets.every((socket) => socket.readyState === WebSocket.CLOSED)")
    )
    start_camera(page)
    wait_for_face(page)


def test_no_face_message_in_both_languages(plain_browser, open_page):
    page = open_page(plain_browser).page
    start_camera(page)
    expect(page.locator("#message")).to_have_text(NO_FACE["en"], timeout=WAIT_MS)
    expect(page.locator("[data-face-id]")).to_have_count(0)
    page.click("#lang")
    expect(page.locator("#message")).to_have_text(NO_FACE["ko"])
    expect(page.locator("html")).to_have_attribute("lang", "ko")
    page.reload()
    expect(page.locator("html")).to_have_attribute("lang", "ko")


def test_language_follows_the_browser(plain_browser, open_page):
    page = open_page(plain_browser, locale="ko-KR").page
    expect(page.locator("#start")).to_have_text("카메라 시작")
    expect(page.locator("html")).to_have_attribute("lang", "ko")


def test_choice_between_cameras(plain_browser, open_page):
    page = open_page(plain_browser).page
    expect(page.locator("#cameras")).to_be_hidden()
    start_camera(page)
    options = page.locator("#cameras option")
    expect(options).to_have_count(2)
    running = "document.querySelector('#video').srcObject?.getVideoTracks()[0].getSettings().deviceId"
    other = next(
        value for value in options.evaluate_all("all => all.map(one => one.value)") if value != page.evaluate(running)
    )
    page.select_option("#cameras", other)
    expect(page.locator("#message")).to_have_text(NO_FACE["en"], timeout=WAIT_MS)
    wait_until(lambda: page.evaluate(running) == other)


@pytest.mark.parametrize(
    "name, words",
    [
        ("NotAllowedError", "blocked"),
        ("NotFoundError", "No camera was found"),
        ("NotReadableError", "in use"),
    ],
)
def test_camera_failures_are_explained(plain_browser, open_page, name, words):
    script = f"navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException('', '{name}'));"
    page = open_page(plain_browser, script=script).page
    page.click("#start")
    expect(page.locator("#message")).to_contain_text(words)
    expect(page.locator("#start")).to_be_visible()


def test_insecure_page_explains_the_missing_camera(plain_browser, open_page):
    script = (
        "Object.defineProperty(navigator, 'mediaDevices', { value: undefined });"
        "Object.defineProperty(window, 'isSecureContext', { value: false });"
    )
    page = open_page(plain_browser, script=script).page
    page.click("#start")
    expect(page.locator("#message")).to_contain_text("https or localhost")


def test_missing_model_message_in_both_languages(face_browser, open_page):
    watched = open_page(face_browser)
    page = watched.page
    page.route_web_socket("**/ws/emotion?*", lambda route: route.close(code=1011, reason="Model not loaded"))
    page.reload()
    page.click("#start")
    expect(page.locator("#status")).to_have_attribute("data-state", "noModel")
    expect(page.locator("#message")).to_contain_text("runs without a model")
    page.click("#lang")
    expect(page.locator("#message")).to_contain_text("모델이 로드되지 않았습니다")


def test_hidden_tab_stops_sending(face_browser, open_page):
    watched = open_page(face_browser)
    page = watched.page
    start_camera(page)
    wait_for_face(page)

    def set_visibility(state):
        page.evaluate(
            """state => {
            Object.defineProperty(document, 'visibilityState', { value: state, configurable: true });
            document.dispatchEvent(new Event('visibilitychange'));
        }""",
            state,
        )

    set_visibility("hidden")
    wait_until_quiet(watched, 1.5)
    before = len(watched.sent())
    set_visibility("visible")
    wait_until(lambda: len(watched.sent()) > before)


def test_reconnects_when_the_server_returns(face_browser, open_page, tmp_path):
    with ServerProcess(tmp_path) as server:
        watched = open_page(face_browser, server.url)
        page = watched.page
        start_camera(page)
        wait_for_face(page)
    expect(page.locator("#status")).to_have_attribute("data-state", "reconnecting", timeout=WAIT_MS)
    expect(page.locator("#status")).to_have_text("Reconnecting")
    expect(page.locator("[data-face-id]")).to_have_count(0)
    with ServerProcess(tmp_path, port=server.port):
        expect(page.locator("#status")).to_have_attribute("data-state", "connected", timeout=WAIT_MS)
        wait_for_face(page)
        assert len(watched.sockets) > 1


# ---------------------------------------------------------------- picture


def test_picture_gives_a_card(plain_browser, open_page):
    page = open_page(plain_browser).page
    upload(page, picture_bytes())
    wait_for_face(page)
    assert sum(probabilities(page).values()) == pytest.approx(1, abs=0.02)
    expect(page.locator("#picture")).to_be_visible()
    expect(page.locator("#latency")).to_have_text(re.compile(r"\d+ ms"))


def test_uncertain_faces_are_grey(face_browser, open_page, tmp_path):
    "MIN_CONFIDENCE for a picture before any hello, then for the camera, in both languages."
    with ServerProcess(tmp_path, MIN_CONFIDENCE="1") as strict:
        page = open_page(face_browser, strict.url).page
        card = page.locator("[data-face-id]").first
        upload(page, picture_bytes())
        for start in (lambda: None, lambda: start_camera(page)):
            start()
            wait_for_face(page)
            expect(card).to_have_attribute("data-emotion", "uncertain")
            assert list(probabilities(page)) == CLASS_NAMES
            assert (
                page.evaluate("getComputedStyle(document.querySelector('[data-face-id]')).getPropertyValue('--hue')")
                == "#5b6069"
            )
            expect(card.locator(".confidence")).to_have_text("")
            for word in ("Uncertain", "불확실"):
                expect(card.locator(".emotion")).to_have_text(word)
                page.click("#lang")
        page.screenshot(path=os.environ.get("UNSURE_SCREENSHOT", tmp_path / "unsure.png"))


@pytest.mark.parametrize(
    "event, field, kind", [("drop", "dataTransfer", "DragEvent"), ("paste", "clipboardData", "ClipboardEvent")]
)
def test_picture_is_dropped_or_pasted(plain_browser, open_page, event, field, kind):
    page = open_page(plain_browser).page
    page.evaluate(
        """([content, event, field, kind]) => {
        const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
        const transfer = new DataTransfer();
        transfer.items.add(new File([bytes], 'face.jpg', { type: 'image/jpeg' }));
        document.dispatchEvent(new window[kind](event, { [field]: transfer, bubbles: true, cancelable: true }));
    }""",
        [base64.b64encode(picture_bytes()).decode(), event, field, kind],
    )
    wait_for_face(page)


def test_box_of_a_rotated_photograph(plain_browser, open_page):
    "EXIF orientation 6: the stored pixels are rotated by 90 degrees."
    upright = Image.fromarray(skimage_data.astronaut())
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = BytesIO()
    upright.transpose(Image.Transpose.ROTATE_90).save(turned, "JPEG", exif=exif)
    centres = []
    for content in (picture_bytes(), turned.getvalue()):
        page = open_page(plain_browser).page
        upload(page, content)
        wait_for_face(page)
        centres.append(drawn(page))
    assert centres[1]["x"] == pytest.approx(centres[0]["x"], abs=0.03)
    assert centres[1]["y"] == pytest.approx(centres[0]["y"], abs=0.03)


def test_picture_chosen_while_the_page_loads_is_not_lost(plain_browser, open_page):
    page = open_page(plain_browser).page
    held = []
    page.route("**/palette.json", lambda route: held.append(route), times=1)
    page.reload(wait_until="commit")
    upload(page, picture_bytes())
    wait_until(lambda: page.wait_for_timeout(50) or held)
    assert page.locator("html[data-ready]").count() == 0
    held[0].continue_()
    wait_for_face(page)


def test_picture_beyond_the_limit_is_shrunk(plain_browser, open_page):
    content = picture_bytes(2400, ".png")
    assert len(content) > 2 * 1024 * 1024
    page = open_page(plain_browser).page
    upload(page, content, "face.png", "image/png")
    wait_for_face(page)


def test_text_file_gives_a_readable_error(plain_browser, open_page):
    page = open_page(plain_browser).page
    upload(page, b"this is no picture", "notes.txt", "text/plain")
    expect(page.locator("#message")).to_contain_text("not a picture", timeout=WAIT_MS)
    page.click("#lang")
    expect(page.locator("#message")).to_contain_text("사진 파일이 아닙니다")
    upload(page, picture_bytes())
    wait_for_face(page)


def test_picture_replaces_the_camera(face_browser, open_page):
    watched = open_page(face_browser)
    page = watched.page
    start_camera(page)
    wait_for_face(page)
    upload(page, picture_bytes())
    expect(page.locator("#picture")).to_be_visible(timeout=WAIT_MS)
    wait_for_face(page)
    expect(page.locator("#start")).to_be_visible()
    assert page.evaluate("document.querySelector('#video').srcObject") is None


# ---------------------------------------------------------------- the page itself


def test_no_other_host_no_console_error_and_csp(server, face_browser, open_page):
    watched = open_page(face_browser)
    page = watched.page
    start_camera(page)
    wait_for_face(page)
    page.click("#lang")
    upload(page, picture_bytes())
    expect(page.locator("#picture")).to_be_visible(timeout=WAIT_MS)
    wait_for_face(page)
    urls = [*watched.requests, *(socket.url for socket in watched.sockets)]
    own = (server.url, server.url.replace("http", "ws"), f"blob:{server.url}")
    assert [url for url in urls if not url.startswith(own)] == []
    assert watched.complaints == []
    assert page.evaluate("violations") == []
    with urllib.request.urlopen(server.url) as answer:
        assert "default-src 'self'" in answer.headers["Content-Security-Policy"]


def test_links_of_the_footer_exist(server, plain_browser, open_page):
    page = open_page(plain_browser).page
    for link in page.locator("footer a").evaluate_all("links => links.map(link => link.href)"):
        assert link.startswith(server.url)
        assert page.request.get(link).status == 200


@pytest.mark.parametrize("locale", ["en-US", "ko-KR"])
def test_phone_has_no_horizontal_overflow(face_browser, open_page, locale):
    page = open_page(
        face_browser, locale=locale, viewport={"width": 390, "height": 844}, is_mobile=True, has_touch=True
    ).page
    overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert page.evaluate(overflow) == 0
    stage, message = (page.locator(f"#{name}").bounding_box() for name in ("stage", "message"))
    assert stage["x"] <= message["x"], "the message is not clipped on the left"
    assert message["x"] + message["width"] <= stage["x"] + stage["width"], "nor on the right"
    start_camera(page)
    wait_for_face(page)
    assert page.evaluate(overflow) == 0
    assert page.evaluate("document.documentElement.clientWidth") == 390
