"""The webcam widget in a real JupyterLab, with a recorded face as chromium's camera."""

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import cv2
import nbformat
import pytest
from browser import launch, needs_chromium, record_face, record_faces, skimage_data, sync_api
from serving import ROOT, fetch, free_port, wait_until

pytest.importorskip("jupyterlab", reason="JupyterLab is not installed")
expect = sync_api.expect
pytestmark = [needs_chromium, pytest.mark.timeout(300)]

WAIT_MS = 60_000
CELLS = [
    "from face_emotion.webcam import Webcam\nw = Webcam(lang='en')\nw",
    """import sys
print(f"SNAPSHOT {w.snapshot.frame.shape} {w.snapshot.results.emotion.tolist()} HISTORY {len(w.history) > 20}",
      f"TF {'tensorflow' in sys.modules} RUNNING {w.running} DROPPED {w.dropped}")""",
]


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    "The address of a notebook in a JupyterLab that is started for these tests."
    folder, port = tmp_path_factory.mktemp("lab"), free_port()
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(c) for c in CELLS],
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}},
    )
    nbformat.write(notebook, folder / "webcam.ipynb")
    shutil.copy(ROOT / "nbs" / "08_webcam.ipynb", folder)
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "JUPYTER_CONFIG_DIR": str(folder / "config"),
        "JUPYTER_DATA_DIR": str(folder / "data"),
        "HOME": str(folder),
    }
    command = [
        sys.executable,
        "-m",
        "jupyter",
        "lab",
        "--no-browser",
        "--ip=127.0.0.1",
        f"--port={port}",
        "--IdentityProvider.token=test",
        "--allow-root",
        "--expose-app-in-browser",
        "--LabApp.news_url=",
        "--LabApp.check_for_updates_class=jupyterlab.handlers.announcements.NeverCheckForUpdate",
    ]
    with open(folder / "lab.txt", "wb") as output:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=output, stderr=output)
    try:
        wait_until(lambda: process.poll() is not None or fetch(f"http://127.0.0.1:{port}/api?token=test")[0] == 200, 90)
        assert process.poll() is None, (folder / "lab.txt").read_text(errors="replace")[-2000:]
        yield f"http://127.0.0.1:{port}/lab/tree/webcam.ipynb?token=test&reset"
    finally:
        process.terminate()
        process.wait(timeout=60)


@pytest.fixture(scope="module")
def browser(playwright, tmp_path_factory):
    "A browser whose camera shows a face."
    browser = launch(playwright, *record_face(tmp_path_factory.mktemp("camera") / "face.mjpeg", left=30))
    yield browser
    browser.close()


@pytest.fixture
def notebook(lab, browser):
    "A function that opens the notebook, runs its first cell and returns the page; `complaints` lists its errors."
    contexts = []

    def open_notebook(script=""):
        context = browser.new_context(viewport={"width": 1280, "height": 800}, permissions=["camera"])
        contexts.append(context)
        page = context.new_page()
        page.complaints = []
        page.on("pageerror", lambda error: page.complaints.append(str(error)))
        page.add_init_script(script)
        open_lab(page, lab)
        run_cell(page, 0)
        expect(page.locator(".fe-webcam")).to_be_visible(timeout=WAIT_MS)
        return page

    yield open_notebook
    for context in contexts:
        context.close()


def open_lab(page, url):
    "Open a notebook, and accept the kernel if JupyterLab asks for one, as it does when its start takes long."
    dialog = page.locator(".jp-Dialog", has_text="Select Kernel")
    page.add_locator_handler(dialog, lambda shown: shown.locator("button.jp-mod-accept").click())
    page.goto(url)


def run_cell(page, number):
    cell = page.locator(".jp-Notebook .jp-Cell").nth(number)
    cell.locator(".cm-content").click(timeout=WAIT_MS)
    expect(page.locator(".jp-Notebook-ExecutionIndicator").first).to_have_attribute(
        "data-status", "idle", timeout=WAIT_MS
    )
    page.keyboard.press("Control+Enter")


def restart_kernel(page):
    page.get_by_role("menuitem", name="Kernel", exact=True).click()
    page.get_by_text("Restart Kernel…", exact=True).click()
    page.get_by_role("button", name="Confirm Kernel Restart").click()


def start(page):
    page.locator(".fe-start").click()
    expect(page.locator(".fe-webcam")).to_have_attribute("data-state", "running", timeout=WAIT_MS)
    expect(page.locator(".fe-face")).to_have_count(1, timeout=WAIT_MS)


def live_tracks(page):
    return page.evaluate("tracks.filter((track) => track.readyState === 'live').length")


KEEP_TRACKS = """
    window.tracks = [];
    const open = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
    navigator.mediaDevices.getUserMedia = async (constraints) => {
        const stream = await open(constraints);
        tracks.push(...stream.getTracks());
        return stream;
    };
"""


def test_live_snapshot_stop_rerun_restart(notebook, tmp_path):
    page = notebook(KEEP_TRACKS)
    start(page)
    expect(page.locator(".fe-face")).to_have_attribute("data-emotion", "happy")
    expect(page.locator(".fe-overlay")).to_have_attribute("data-boxes", "1")

    before, begun = int(page.get_attribute(".fe-rate", "data-total")), time.monotonic()
    wait_until(lambda: int(page.get_attribute(".fe-rate", "data-total")) >= before + 60, WAIT_MS / 1000)
    rate = (int(page.get_attribute(".fe-rate", "data-total")) - before) / (time.monotonic() - begun)
    print(f"answers a second at 640x480: {rate:.1f}, round trip {page.get_attribute('.fe-rate', 'data-ms')} ms")
    page.screenshot(path=tmp_path / "live.png")
    page.locator(".fe-webcam").screenshot(path=tmp_path / "widget.jpg", type="jpeg", quality=80)

    page.locator(".fe-shot").click()
    expect(page.locator(".fe-status")).to_contain_text("Snapshot taken", timeout=WAIT_MS)
    run_cell(page, 1)
    output = page.locator(".jp-Cell").nth(1).locator(".jp-OutputArea-output")
    expect(output).to_contain_text(
        "SNAPSHOT (480, 640, 3) ['happy'] HISTORY True TF False RUNNING True", timeout=WAIT_MS
    )
    print(output.inner_text())

    page.locator(".fe-start").click()
    expect(page.locator(".fe-webcam")).to_have_attribute("data-state", "stopped")
    assert live_tracks(page) == 0, "stop frees the camera"

    start(page)
    run_cell(page, 0)
    expect(page.locator(".fe-webcam")).to_have_attribute("data-state", "idle", timeout=WAIT_MS)
    assert live_tracks(page) == 0, "running the cell again frees the camera"

    start(page)
    restart_kernel(page)
    expect(page.locator(".fe-webcam")).to_have_attribute("data-state", "error", timeout=WAIT_MS)
    expect(page.locator(".fe-status")).to_contain_text("Run the cell again")
    assert live_tracks(page) == 0, "a kernel restart frees the camera"
    run_cell(page, 0)
    expect(page.locator(".fe-webcam")).to_have_attribute("data-state", "idle", timeout=WAIT_MS)
    start(page)
    assert page.complaints == []


ERRORS = {
    "NotFoundError": "No camera was found",
    "NotAllowedError": "is blocked",
    "NotReadableError": "in use by another program",
    "TypeError": "could not be started. Try again, or choose a picture. (odd)",
    "insecure": "https or localhost",
}
BREAK_CAMERA = """(name) => {
    if (name === 'insecure') Object.defineProperty(window, 'isSecureContext', { value: false, configurable: true });
    navigator.mediaDevices.getUserMedia = () => Promise.reject(Object.assign(new Error('odd'), { name }));
}"""


def choose(page, file):
    page.locator(".fe-file").set_input_files(file)


def test_without_a_camera(lab, playwright, tmp_path):
    browser = launch(playwright)
    try:
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        open_lab(page, lab)
        run_cell(page, 0)
        widget, status = page.locator(".fe-webcam"), page.locator(".fe-status")
        expect(widget).to_be_visible(timeout=WAIT_MS)
        page.locator(".fe-start").click()
        expect(widget).to_have_attribute("data-state", "error", timeout=WAIT_MS)
        expect(status).to_contain_text("choose a picture")

        choose(page, skimage_file(tmp_path / "얼굴.png", 1))
        expect(page.locator(".fe-face")).to_have_attribute("data-emotion", "happy", timeout=WAIT_MS)
        expect(page.locator(".fe-overlay")).to_have_attribute("data-boxes", "1")
        page.screenshot(path=tmp_path / "picture.png")
        large = skimage_file(tmp_path / "large.png", 4)
        assert large.stat().st_size > 4e6, "larger than what is sent as it is"
        choose(page, large)
        expect(page.locator(".fe-overlay")).to_have_attribute("data-boxes", "1", timeout=WAIT_MS)
        expect(page.locator(".fe-still")).to_have_attribute("width", "2048")

        (tmp_path / "notes.jpg").write_text("hello")
        choose(page, tmp_path / "notes.jpg")
        expect(status).to_contain_text("not a picture", timeout=WAIT_MS)
        for name, words in ERRORS.items():
            page.evaluate(BREAK_CAMERA, name)
            page.locator(".fe-start").click()
            expect(status).to_contain_text(words)
            expect(widget).to_have_attribute("data-state", "error")
    finally:
        browser.close()


def skimage_file(path, scale):
    picture = cv2.resize(cv2.cvtColor(skimage_data.astronaut(), cv2.COLOR_RGB2BGR), None, fx=scale, fy=scale)
    path.write_bytes(cv2.imencode(".png", picture)[1].tobytes())
    return path


CUT_OFF = """() => [...document.querySelectorAll('.fe-webcam *')]
    .filter((e) => e.clientWidth && e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).display !== 'inline')
    .map((e) => e.className + ' ' + e.textContent)"""


def test_several_faces(lab, playwright, tmp_path):
    "Three faces in a narrow JupyterLab: numbers as they are seen, nothing cut off, the course of a chosen face, CSV."
    browser = launch(playwright, *record_faces(tmp_path / "faces.mjpeg", 3))
    try:
        page = browser.new_page(viewport={"width": 800, "height": 900}, accept_downloads=True)
        open_lab(page, lab)
        run_cell(page, 0)
        page.locator(".fe-start").click(timeout=WAIT_MS)
        cards, chart = page.locator(".fe-face"), page.locator(".fe-history")
        expect(cards).to_have_count(3, timeout=WAIT_MS)
        expect(page.locator(".fe-overlay")).to_have_attribute("data-boxes", "3")
        assert [card.get_attribute("data-key") for card in cards.all()] == ["1", "2", "3"]
        assert page.evaluate(CUT_OFF) == []
        sizes = [card.bounding_box() for card in cards.all()]
        stage = page.locator(".fe-stage").bounding_box()
        assert all(s["x"] >= stage["x"] - 1 and s["width"] >= 150 for s in sizes)

        cards.nth(2).click()
        expect(chart).to_have_attribute("data-key", "3")
        expect(page.locator(".fe-title")).to_have_text("Face 3, last 30 seconds")
        expect(cards.nth(2)).to_have_attribute("aria-pressed", "true")
        page.locator(".fe-overlay").click(position={"x": stage["width"] / 6, "y": stage["height"] / 2.4})
        expect(chart).to_have_attribute("data-key", "1")
        with page.expect_download() as download:
            page.locator(".fe-csv").click()
        assert Path(download.value.path()).read_text().startswith("time,face_id,box,")
        page.set_viewport_size({"width": 1280, "height": 800})
        assert page.evaluate(CUT_OFF) == []
        page.screenshot(path=tmp_path / "several.png")
    finally:
        browser.close()


def test_the_whole_notebook(lab, browser):
    "All cells of nbs/08_webcam run in JupyterLab; its first code cell shows the widget."
    page = browser.new_context(viewport={"width": 1280, "height": 900}, permissions=["camera"]).new_page()
    open_lab(page, lab.replace("webcam.ipynb", "08_webcam.ipynb"))
    status = page.locator(".jp-Notebook-ExecutionIndicator").first
    expect(page.locator(".jp-Toolbar-kernelName").first).to_contain_text("Python 3", timeout=WAIT_MS)
    expect(status).to_have_attribute("data-status", "idle", timeout=WAIT_MS)
    page.evaluate("() => { window.jupyterapp.commands.execute('notebook:run-all-cells'); }")
    start_button = page.locator(".jp-CodeCell").first.locator(".fe-start")
    expect(start_button).to_have_text(re.compile("Start|시작"), timeout=WAIT_MS)
    start_button.click()
    expect(page.locator(".fe-webcam").first).to_have_attribute("data-state", "running", timeout=WAIT_MS)
    expect(status).to_have_attribute("data-status", "idle", timeout=120_000)
    assert page.locator("[data-mime-type='application/vnd.jupyter.error']").count() == 0
    page.context.close()
