"""What the page keeps of a session: time line, export, snapshot, videos, several files, remembered switches."""

import csv
import io
import json

import cv2
import numpy as np
import pytest
from browser import skimage_data
from page import (
    CLASS_NAMES,
    MARKS,
    WAIT_MS,
    WIDTHS,
    cut_off,
    expect,
    picture_bytes,
    start_camera,
    upload,
    violations,
    wait_for_face,
    wait_until_quiet,
)

from face_emotion.core.files import csv_cell

pytestmark = MARKS
FRAMES, RATE = 12, 10  # of the video


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    "A WebM video of two faces side by side."
    path = tmp_path_factory.mktemp("clip") / "pair.webm"
    face = cv2.cvtColor(skimage_data.astronaut()[:300, 90:390], cv2.COLOR_RGB2BGR)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"VP80"), RATE, (600, 300))
    if not writer.isOpened():
        pytest.skip("this OpenCV writes no WebM")
    for _ in range(FRAMES):
        writer.write(cv2.hconcat([face[:, ::-1], face]))
    writer.release()
    return path


def save(page, button):
    "The content of the file that a button saves."
    with page.expect_download() as saved:
        page.click(button)
    with open(saved.value.path(), "rb") as file:
        return file.read()


def rows_of(content):
    return list(csv.DictReader(io.StringIO(content.decode())))


def seek(page, seconds):
    "Move the slider: from the end for a camera, from the start for a video."
    page.evaluate(
        """seconds => {
            scrub.value = seconds < 0 ? Number(scrub.max) + seconds : seconds;
            scrub.dispatchEvent(new Event('input'));
        }""",
        seconds,
    )


def look(page):
    "What is wrong with the page as it stands: texts that are cut off at some width, rules of axe-core that it breaks."
    found = {"axe": violations(page)}
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 800})
        found[width] = cut_off(page)
    return {where: problems for where, problems in found.items() if problems}


def test_time_line_pause_and_export_of_a_camera(face_browser, open_page):
    watched = open_page(face_browser)
    page = watched.page
    expect(page.locator("#timeline")).to_be_hidden()
    start_camera(page)
    wait_for_face(page)
    page.wait_for_function("() => Number(chart.dataset.points) > 20", timeout=WAIT_MS)
    page.click("#pause")
    wait_until_quiet(watched)  # a paused page sends nothing
    before = len(watched.sent())
    seek(page, -0.5)
    expect(page.locator("#moment")).to_contain_text("0.5 s ago · Happy")
    expect(page.locator("#overlay")).to_have_attribute(
        "data-boxes", "0"
    )  # of another picture than the one that is shown
    assert len(watched.sent()) == before, "nor when one moves through the time line"
    assert look(page) == {}
    page.set_viewport_size({"width": 1280, "height": 800})
    page.click("#pause")
    page.wait_for_function("count => sent.length > count + 3", arg=before)

    image = cv2.imdecode(np.frombuffer(save(page, "#snapshot"), np.uint8), cv2.IMREAD_COLOR)
    assert image.shape == (480, 640, 3)
    hue = np.array([0x00, 0x89, 0xCD])  # of happy, blue first
    assert (np.abs(image.astype(int) - hue).max(axis=2) < 12).mean() > 0.005, "the box and its label are in the picture"

    page.click("#stop")
    rows = rows_of(save(page, "#csv"))
    faces = [row for row in rows if row["face_id"]]
    assert list(rows[0]) == ["source", "time", "face_id", "box", "score", "emotion", "confidence", *CLASS_NAMES]
    assert {row["source"] for row in rows} == {"camera"} and {row["emotion"] for row in faces} == {"happy"}
    assert [float(row["time"]) for row in rows] == sorted(float(row["time"]) for row in rows)
    assert sum(float(faces[-1][name]) for name in CLASS_NAMES) == pytest.approx(1, abs=0.01)
    session = json.loads(save(page, "#json"))
    assert session["class_names"] == CLASS_NAMES and session["trained_on"]["anxiety"] == "fear"
    assert sum(len(moment["faces"]) for moment in session["moments"]) == len(faces)
    assert session["moments"][-1]["faces"][0]["box"] == json.loads(faces[-1]["box"])


def test_a_file_name_is_no_formula_in_the_table(face_browser, open_page):
    page = open_page(face_browser).page
    names = ["=1+1.jpg", "+1", "-1", "@SUM(A1)", "\tx", "\rx", "'=1", "'x", "face.jpg"]
    code = """async (names) => {
        const { toCsv, toJson } = await import('/static/export.js');
        const moments = names.map((source) => ({ source, time: -1, frame: 0, faces: [] }));
        const history = { moments, startedAt: new Date(), forgotten: 0 };
        return [toCsv(history, ['=sad', 'happy'], (f) => f), toJson(history, ['=sad'], (f) => f, {})];
    }"""
    table, raw = page.evaluate(code, names)
    rows = list(csv.DictReader(io.StringIO(table, newline="")))
    assert [row["source"] for row in rows] == [csv_cell(name) for name in names]
    assert rows[0]["time"] == "-1.000" and "'=sad" in rows[0] and "happy" in rows[0]
    assert [moment["source"] for moment in json.loads(raw)["moments"]] == names


def test_switches_are_remembered(face_browser, open_page):
    watched = open_page(face_browser)
    page = watched.page
    start_camera(page)
    wait_for_face(page)
    assert watched.sockets[-1].url.endswith("smoothing=0.5")
    page.click("#options summary")
    page.uncheck("#mirror")
    page.uncheck("#smoothing")
    expect(page.locator("#stage")).not_to_have_class("stage mirrored")
    wait_for_face(page)
    assert watched.sockets[-1].url.endswith("smoothing=0")
    page.reload()
    page.wait_for_selector("html[data-ready]", state="attached")
    start_camera(page)
    wait_for_face(page)
    assert watched.sockets[-1].url.endswith("smoothing=0")
    expect(page.locator("#stage")).not_to_have_class("stage mirrored")


def test_video_is_analysed_frame_by_frame(plain_browser, open_page, clip):
    page = open_page(plain_browser).page
    page.set_input_files("#upload", clip)
    expect(page.locator("#summary")).to_be_visible(timeout=2 * WAIT_MS)
    rows = rows_of(save(page, "#csv"))
    times = sorted({float(row["time"]) for row in rows})
    assert {row["source"] for row in rows} == {"pair.webm"}
    assert len(times) == FRAMES and times[-1] == pytest.approx((FRAMES - 1) / RATE, abs=0.02)
    assert len(rows) == 2 * FRAMES and {row["emotion"] for row in rows} == {"happy"}

    expect(page.locator("#summary-title")).to_have_text(f"Face 1: seen in {FRAMES} of {FRAMES} frames")
    expect(page.locator("#shares")).to_contain_text("100%")
    expect(page.locator("[data-face-id]")).to_have_count(2)
    seek(page, 0.8)
    expect(page.locator("#moment")).to_contain_text("0:00.8 · Happy")
    expect(page.locator("#overlay")).to_have_attribute("data-boxes", "2")

    page.click("[data-face-id='2'] .who")
    expect(page.locator("#summary-title")).to_have_text(f"Face 2: seen in {FRAMES} of {FRAMES} frames")
    expect(page.locator("#chosen")).to_have_value("2")
    expect(page.locator("#chart")).to_have_attribute("data-points", str(FRAMES))
    expect(page.locator("[data-face-id='2'] .who")).to_have_attribute("aria-pressed", "true")
    stage = page.locator("#stage").bounding_box()
    x0, y0, x1, y1 = json.loads(next(row["box"] for row in rows if row["face_id"] == "1"))  # of a clip of 600x300
    middle = {"x": (x0 + x1) / 2 / 600 * stage["width"], "y": (y0 + y1) / 2 / 300 * stage["height"]}
    page.locator("#stage").click(position=middle)
    expect(page.locator("#chosen"), "a click on a box chooses its face").to_have_value("1")

    page.click("#options summary")
    assert look(page) == {}
    page.select_option("#threshold", "0.8")
    page.click("#pause")
    page.wait_for_function("() => video.ended", timeout=WAIT_MS)
    expect(page.locator("#pause")).to_have_text("Play")
    page.click("#lang")
    expect(page.locator("#summary-title")).to_contain_text(f"{FRAMES}개 프레임 중")


def test_several_files_a_sample_and_a_video_that_cannot_be_played(plain_browser, open_page):
    page = open_page(plain_browser).page
    page.click("#sample")
    wait_for_face(page)
    expect(page.locator("[data-face-id]")).to_have_attribute("data-emotion", "happy")
    expect(page.locator("#model-note")).to_contain_text("“Anxiety” was trained on fear.")
    expect(page.locator("#timeline")).to_be_hidden()
    page.set_input_files(
        "#upload",
        [
            {"name": "a.jpg", "mimeType": "image/jpeg", "buffer": picture_bytes()},
            {"name": "broken.mp4", "mimeType": "video/mp4", "buffer": b"no video"},
            {"name": "c.png", "mimeType": "image/png", "buffer": picture_bytes(256, ".png")},
        ],
    )
    wait_for_face(page)
    expect(page.locator("#position")).to_have_text("1 of 3 · a.jpg")
    page.click("#next")
    expect(page.locator("#message")).to_contain_text("cannot play this video", timeout=WAIT_MS)
    page.click("#next")
    wait_for_face(page)
    expect(page.locator("#position")).to_have_text("3 of 3 · c.png")
    assert [row["source"] for row in rows_of(save(page, "#csv"))] == ["a.jpg", "c.png"]
    upload(page, picture_bytes())
    expect(page.locator("#pager")).to_be_hidden()
