"""`python -m face_emotion.evaluate` as a process: split, temperature, progress, page and figures."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import pytest

from face_emotion.core.artefact import Artefact
from face_emotion.data.dataset import toy_faces, write_folders

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory) -> tuple[subprocess.CompletedProcess, Path]:
    "A copy of the bundled model, evaluated on the validation split of 25 faces."
    folder = tmp_path_factory.mktemp("evaluate")
    faces, stem = toy_faces(75), Artefact("bundled").stem
    for i, split in enumerate(("train", "validation", "test")):
        write_folders(faces.take(range(25 * i, 25 * i + 25)), folder / "data" / split)
    for ending in (".json", ".tflite"):
        shutil.copy(f"{stem}{ending}", folder / f"{stem.name}{ending}")

    args = ("--model", stem.name, "--data", "data", "--split", "validation")
    done = subprocess.run(
        [sys.executable, "-m", "face_emotion.evaluate", *args],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    return done, folder


def test_a_report_on_the_set_that_chose_says_so_first(evaluated):
    done, folder = evaluated
    for text in (done.stdout, (folder / "reports" / "report.json").read_text(encoding="utf-8")):
        assert "These faces chose the epoch and fitted the temperature" in text.splitlines()[0]
    report = json.loads((folder / "reports" / "report.json").read_text(encoding="utf-8"))
    assert (report["split"], report["n"]) == ("validation", 25)


def test_the_page_holds_everything_and_says_so_first(evaluated):
    done, folder = evaluated
    path = folder / "reports" / "report.html"
    page = path.read_text(encoding="utf-8")
    assert f"Open {path} in a browser." in done.stdout
    assert "These faces chose the epoch" in page.partition("<body>")[2].splitlines()[1]
    assert page.count('src="data:image/png;base64,') == 5 and "n = 25" in page
    assert "http://" not in page and "https://" not in page and "<script" not in page
    assert "face-emotion evaluate --model=" in page and "25 validation faces are too few" in page


def test_a_temperature_of_few_faces_is_not_stored(evaluated):
    done, folder = evaluated
    assert "25 validation faces are too few, 200 are needed" in done.stdout
    bundled = Artefact("bundled")
    assert Artefact(folder / bundled.stem.name).metadata.temperature == bundled.metadata.temperature


def test_progress_is_shown_and_figures_are_1280_pixels_wide(evaluated):
    done, folder = evaluated
    assert "validation: 100%" in done.stderr and "25/25" in done.stderr
    sizes = {path.name: cv2.imread(str(path)).shape[1] for path in (folder / "reports").glob("*.png")}
    assert len(sizes) == 5 and set(sizes.values()) == {1280}, sizes
