"""The local runner as a process: images, videos, settings from the environment, and errors."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from skimage import data

ROOT = Path(__file__).resolve().parents[1]


def run(*args: str, cwd: Path, **env: str) -> subprocess.CompletedProcess:
    clean = {
        k: v
        for k, v in os.environ.items()
        if k not in ("TEST_MODE", "INPUT_PATH", "MODEL_PATH", "MIN_CONFIDENCE", "DISPLAY", "WAYLAND_DISPLAY")
    }
    return subprocess.run(
        [sys.executable, "-m", "face_emotion.predict", *args],
        cwd=cwd,
        env={**clean, "PYTHONPATH": str(ROOT), **env},
        capture_output=True,
        text=True,
        timeout=120,
    )


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
    assert [p.name for p in written] == ["웃음_emotions.png", "웃음_emotions.csv", "웃음_emotions.parquet"]
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
    import pyarrow.parquet

    done = run("--output", str(tmp_path), cwd=tmp_path, TEST_MODE="video", INPUT_PATH=str(folder / "clip.mp4"))
    assert done.returncode == 0, done.stderr
    table = rows(tmp_path / "clip_emotions.csv")
    assert [int(r["frame"]) for r in table] == list(range(20))
    assert [int(r["frame"]) for r in table if not r["face_id"]] == [0, 10]
    assert {r["face_id"] for r in table} == {"", "1"}, "a face that is away for one frame keeps its id"
    assert pyarrow.parquet.read_table(tmp_path / "clip_emotions.parquet").num_rows == 20
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
