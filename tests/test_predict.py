"""The local runner as a process: images, videos, settings from the environment, and errors."""

import contextlib
import csv
import functools
import http.server
import json
import os
import signal
import subprocess
import sys
import threading
import time
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import pytest
from skimage import data

ROOT = Path(__file__).resolve().parents[1]


COMMAND = [sys.executable, "-m", "face_emotion.predict"]


def environment(**env: str) -> dict[str, str]:
    "The environment without settings and displays."
    left_out = ("TEST_MODE", "INPUT_PATH", "MODEL_PATH", "MIN_CONFIDENCE", "DISPLAY", "WAYLAND_DISPLAY")
    clean = {k: v for k, v in os.environ.items() if k not in left_out}
    return {**clean, "PYTHONPATH": str(ROOT), **env}


def run(*args: str, cwd: Path, **env: str) -> subprocess.CompletedProcess:
    command = [*COMMAND, *args]
    return subprocess.run(command, cwd=cwd, env=environment(**env), capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    "A folder with an image and a video of the astronaut."
    d, astronaut = tmp_path_factory.mktemp("inputs"), data.astronaut()[..., ::-1]
    cv2.imwrite(str(d / "웃음.png"), astronaut)
    clip = cv2.VideoWriter(str(d / "clip.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), 10, (512, 512))
    for i in range(20):
        clip.write(np.roll(astronaut, 4 * i, axis=1) if i % 10 else np.zeros_like(astronaut))
    clip.release()
    return d


def rows(path: Path) -> list[dict]:
    with open(path, encoding="utf-8", newline="") as f:
        return list(csv.DictReader(f))


def test_picture(folder, tmp_path):
    done = run("image", "--input", str(folder / "웃음.png"), "--output", str(tmp_path / "out"), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    written = [Path(line) for line in done.stdout.splitlines()]
    parquet = ["웃음_emotions.parquet"] if find_spec("pyarrow") else []
    assert [p.name for p in written] == ["웃음_emotions.png", "웃음_emotions.csv", *parquet]
    [row] = rows(written[1])
    assert list(row)[:6] == ["frame", "time", "face_id", "box", "emotion", "confidence"]
    assert row["emotion"] == "happy"
    assert sum(float(row[c]) for c in list(row)[6:]) == pytest.approx(1, abs=1e-3)
    assert cv2.imdecode(np.fromfile(written[0], np.uint8), cv2.IMREAD_COLOR).shape == (512, 512, 3)
    assert any("face_emotion.predict - INFO" in p.read_text(encoding="utf-8") for p in (tmp_path / "logs").iterdir())


def test_uncertain_faces(folder, tmp_path):
    done = run(
        "image", "--input", str(folder / "웃음.png"), "--output", str(tmp_path), cwd=tmp_path, MIN_CONFIDENCE="1"
    )
    assert done.returncode == 0, done.stderr
    [row] = rows(tmp_path / "웃음_emotions.csv")
    assert row["emotion"] == "uncertain"
    assert float(row["happy"]) == pytest.approx(float(row["confidence"]))


def test_video_from_the_environment_keeps_frames_without_a_face(folder, tmp_path):
    pyarrow = pytest.importorskip("pyarrow.parquet", reason="pyarrow comes with the train layer")
    done = run("--output", str(tmp_path), cwd=tmp_path, TEST_MODE="video", INPUT_PATH=str(folder / "clip.mp4"))
    assert done.returncode == 0, done.stderr
    table = rows(tmp_path / "clip_emotions.csv")
    assert [int(r["frame"]) for r in table] == list(range(20))
    assert [int(r["frame"]) for r in table if not r["face_id"]] == [0, 10]
    assert {r["face_id"] for r in table} == {"", "1"}, "a face that is away for one frame keeps its id"
    assert pyarrow.read_table(tmp_path / "clip_emotions.parquet").num_rows == 20
    assert "20/20" in done.stderr, "there is a progress bar"


@pytest.mark.parametrize(
    "args, env, message",
    [
        (("image", "--input", "none.png"), {}, "Image not found: none.png"),
        (("image",), {}, "No image given. Give its path with --input or INPUT_PATH"),
        (("video", "--input", "none.mp4"), {}, "Video not found: none.mp4"),
        (("webcam", "--input", "63"), {}, "Camera 63 not found"),
        (("image", "--input", "none.png", "--model", "models/none"), {}, "No model at"),
        (("image", "--input", "none.png"), {"CLASS_NAMES": "sad,happy"}, "CLASS_NAMES asks for sad,happy"),
        (("image",), {"TEST_MODE": "radio", "BATCH_SIZE": "x"}, "BATCH_SIZE='x'"),
        (("image", "--input", "none.png"), {"MIN_CONFIDENCE": "60%"}, "MIN_CONFIDENCE='60%'"),
    ],
)
def test_errors_say_what_to_do(tmp_path, args, env, message):
    done = run(*args, cwd=tmp_path, **env)
    assert done.returncode in (1, 2)
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_no_tensorflow(tmp_path):
    code = """import sys
from face_emotion.predict import FacePrediction, FaceStream, Predictor, draw
Predictor()
print([m for m in ('tensorflow', 'keras', 'jax', 'mediapipe', 'matplotlib') if m in sys.modules])"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == "[]"


def test_any_mix_of_inputs(folder, tmp_path):
    (tmp_path / "broken.jpg").write_bytes((folder / "웃음.png").read_bytes()[:2000])
    mix = (str(folder), "broken.jpg", "none*.jpg")
    done = run(*mix, "--output", "out", "--every", "4", "--workers", "2", cwd=tmp_path)
    assert done.returncode == 1, "something could not be read"
    assert "broken.jpg: The picture is damaged" in done.stderr and "none*.jpg: File not found" in done.stderr
    assert "2 of 4 inputs could not be used" in done.stderr and "Traceback" not in done.stderr
    for line in ("웃음.png", "happy", "1 picture, 2 faces, 1 video, 5 frames", "Written: out/웃음_emotions.png"):
        assert line in done.stdout, done.stdout

    table = rows(tmp_path / "out" / "emotions.csv")
    assert list(table[0])[:5] == ["source", "frame", "time", "face_id", "box"]
    assert [r["frame"] for r in table] == ["", "0", "4", "8", "12", "16"]
    x0, y0, x1, y1 = json.loads(table[0]["box"])
    assert 0 < x0 < x1 < 512 and 0 < y0 < y1 < 512


def test_json_lines(folder, tmp_path):
    done = run(str(folder), "none.jpg", "--json", "--quiet", "--every", "10", cwd=tmp_path)
    picture, first, second, missing = map(json.loads, done.stdout.splitlines())
    assert (picture["faces"][0]["emotion"], picture["frame"], first["frame"], second["frame"]) == ("happy", None, 0, 10)
    assert first["faces"] == [] and missing["error"].startswith("File not found")
    assert done.returncode == 1 and os.listdir(tmp_path) in ([], ["logs"]), "no files without --output"


def test_interrupted(folder, tmp_path):
    "Ctrl-C keeps the frames so far, in files that can be read."
    film = cv2.VideoWriter(str(tmp_path / "long.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), 25, (256, 256))
    frame = np.ascontiguousarray(data.astronaut()[::2, ::2, ::-1])
    for _ in range(1000):
        film.write(frame)
    film.release()
    process = subprocess.Popen(
        [*COMMAND, "long.mp4", "--output", "out"],
        cwd=tmp_path,
        env=environment(),
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background job ignores it
    )
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not [f for f in tmp_path.glob("out/.*.part.*") if f.stat().st_size]:
        time.sleep(0.1)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    err = process.communicate(timeout=120)[1].decode()
    assert process.returncode == 130 and "Interrupted. The results so far are kept." in err, err
    table = rows(tmp_path / "out" / "long_emotions.csv")
    [video] = [f for f in (tmp_path / "out").iterdir() if f.suffix in (".mp4", ".webm")]
    capture, count = cv2.VideoCapture(str(video)), 0
    while capture.grab():
        count += 1
    capture.release()
    assert 0 < count < 1000 and abs(count - len(table)) <= 1
    assert not list(tmp_path.glob("out/.*")), "nothing unfinished is left"


def test_worker_processes(folder, monkeypatch):
    from face_emotion.core import run as room
    from face_emotion.core.predictor import Predictor
    from face_emotion.core.sources import IMAGE, Source

    monkeypatch.setattr(room, "THREADS", 0)
    p = Predictor(min_confidence=1)
    work = room.Run(p, workers=2, progress=False)
    results = list(room.predict_pictures(work, [Source(IMAGE, folder / "웃음.png")] * 2))
    assert results[0] == results[1] and results[0][0].label == "uncertain"
    assert results[0][0].confidence == pytest.approx(p(folder / "웃음.png")[0].confidence, abs=1e-3)


@pytest.fixture
def address(folder) -> str:
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=folder)
    handler.log_message = lambda *args: None
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_annotated_video_plays_in_a_browser(folder, address):
    from browser import CHROMIUM, launch, sync_api

    from face_emotion.predict import run_video

    if CHROMIUM is None:
        pytest.skip("no chromium on this machine (apt-get install chromium)")
    video = run_video(folder / "clip.mp4", progress=False)[0]
    with sync_api.sync_playwright() as playwright, contextlib.closing(launch(playwright)) as browser:
        page = browser.new_page()
        page.goto(f"{address}/웃음.png")
        outcome = page.evaluate(
            """file => new Promise(done => {
            const video = Object.assign(document.createElement("video"), {muted: true, src: file});
            video.onended = () => done([video.videoWidth, video.videoHeight, Math.round(video.duration * 10)]);
            video.onerror = () => done(video.error.message);
            document.body.append(video);
            video.play();
        })""",
            video.name,
        )
    assert outcome == [512, 512, 20]


def test_import_is_light():
    code = """import sys
before = set(sys.modules)
import face_emotion
heavy = ("numpy", "cv2", "PIL", "pydantic", "ai_edge_litert")
print(sorted(m for m in set(sys.modules) - before if m.split(".")[0] in heavy))
print(face_emotion.Predictor.__name__, face_emotion.Result.__name__, face_emotion.Face.__name__)
print([m for m in ("pandas", "matplotlib", "pillow_heif") if m in sys.modules])"""
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[]", "Predictor Result FacePrediction", "[]"]
