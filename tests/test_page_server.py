"""The page and the terminal when the server cannot do its work: each reason is shown as what it is."""

import json
import subprocess
import sys
from io import BytesIO

from browser import skimage_data
from page import MARKS, expect, picture_bytes, upload
from PIL import Image
from serving import ROOT, ServerProcess

pytestmark = MARKS


def test_missing_model_is_said_on_the_terminal_and_on_the_page(plain_browser, open_page, tmp_path):
    with ServerProcess(tmp_path, "--model", "models/nothing_here", wait=False) as server:
        server.wait_ready(503)
        assert "Model not loaded. No model at models/nothing_here" in server.text()
        page = open_page(plain_browser, server.url).page
        page.click("#start")
        for words in ("--model, MODEL_PATH and CLASS_NAMES", "--model, MODEL_PATH, CLASS_NAMES를"):
            expect(page.locator("#message")).to_contain_text(words)
            page.click("#lang")
        page.goto(server.url + "/model-card")
        expect(page.locator("#message")).to_contain_text("The server runs without a model")


def test_what_cannot_work_is_said_before_the_start(tmp_path):
    "A certificate that is not there, as one line and without a traceback."
    command = [sys.executable, "-m", "face_emotion.serve", "--ssl-certfile", "missing.pem"]
    done = subprocess.run(
        command, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (1, "--ssl-certfile: there is no file missing.pem. Give a PEM file.\n")


def test_classes_and_addresses_on_the_terminal(tmp_path):
    "Classes that the model does not have, and addresses that a browser can open."
    with ServerProcess(tmp_path, "--host", "0.0.0.0", wait=False, CLASS_NAMES="anger,hurt") as server:
        server.wait_ready(503)
        assert "Set CLASS_NAMES to the model's classes" in server.text()
        assert f"http://localhost:{server.port}" in server.text() and "//0.0.0.0" not in server.text()


ERRORS = [  # code, HTTP status, what the page says
    ("overloaded", 503, "The server is busy", "서버가 바쁩니다"),
    ("worker_lost", 503, "took too long", "너무 오래 걸렸습니다"),
    ("no_model", 503, "runs without a model", "모델이 로드되지 않았습니다"),
    ("not_an_image", 415, "could not read this picture", "이 사진을 읽을 수 없습니다"),
]


def test_errors_of_the_server_are_told_apart(plain_browser, open_page):
    page = open_page(plain_browser).page
    for code, status, *words in ERRORS:
        body = json.dumps({"results": [], "error": {"code": code, "message": "In the server's own words."}})
        answer = {"status": status, "body": body, "content_type": "application/json"}
        page.route("**/api/predict", lambda route, *, answer=answer: route.fulfill(**answer))
        upload(page, picture_bytes())
        for expected in words:
            expect(page.locator("#message")).to_contain_text(expected)
            expect(page.locator("#message")).to_contain_text("In the server's own words.")
            page.click("#lang")


def test_a_gif_is_read_and_stands_still(plain_browser, open_page):
    "Its first picture is shown and sent, so the box fits what is seen."
    frames = [Image.fromarray(skimage_data.astronaut()), Image.new("RGB", (512, 512))]
    moving = BytesIO()
    frames[0].save(moving, "GIF", save_all=True, append_images=frames[1:], duration=50, loop=0)
    watch = """
        window.made = [];
        const make = URL.createObjectURL;
        URL.createObjectURL = (file) => { made.push(file.type); return make(file); };
    """
    page = open_page(plain_browser, script=watch).page
    upload(page, moving.getvalue(), "moving.gif", "image/gif")
    expect(page.locator("[data-face-id]")).to_have_count(1)
    assert page.evaluate("made") == ["image/gif", "image/jpeg"]
