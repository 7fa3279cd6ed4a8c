"""`python -m face_emotion.robustness` and the thresholds of `evaluate`, as processes on small folders."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from skimage import data

from face_emotion import evaluate
from face_emotion.learning import robustness

ROOT = Path(__file__).resolve().parents[1]
MODEL = ROOT / "face_emotion" / "assets" / "emotion_classifier_5_classes.tflite"
CLASSES = ("happy", "sad", "neutral", "embarrassed", "anxiety")
pytestmark = pytest.mark.timeout(300)


def run(*args: str, cwd: Path, module: str = "robustness") -> subprocess.CompletedProcess:
    env = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    return subprocess.run(
        [sys.executable, "-m", f"face_emotion.{module}", *args],
        cwd=cwd,
        env=env,
        capture_output=True,
        text=True,
        timeout=240,
    )


@pytest.fixture(scope="module")
def crops(tmp_path_factory) -> Path:
    "A folder per class, a few crops of the astronaut in each, of several sizes."
    folder, face = tmp_path_factory.mktemp("crops"), data.astronaut()[60:190, 160:290, ::-1]
    for i, name in enumerate(CLASSES):
        (folder / name).mkdir()
        for k, side in enumerate((48, 130)):
            cv2.imwrite(str(folder / name / f"{k}.png"), cv2.resize(np.roll(face, i, 1), (side, side)))
    return folder


def test_robustness_writes_the_same_report_twice(crops, tmp_path):
    reports = []
    for name in ("a", "b"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "model_card.md").write_text("# A model\n", encoding="utf-8")
        done = run("--data", str(crops), "--out", name, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert "| mask " in done.stdout
        assert "| mask " in (folder / "model_card.md").read_text(encoding="utf-8")
        reports.append((folder / "robustness.json").read_text(encoding="utf-8"))

    assert reports[0] == reports[1]
    report = json.loads(reports[0])
    assert (report["n"], report["seed"], report["format"], len(report["conditions"])) == (10, 0, ".tflite", 17)


def test_evaluate_puts_the_thresholds_into_a_card(crops, tmp_path):
    card = tmp_path / "CARD.md"
    card.write_text("# A model\n", encoding="utf-8")
    args = ("--model", str(MODEL), "--no-update", "--data", str(crops), "--card", "CARD.md")
    done = run(*args, cwd=tmp_path, module="evaluate")
    assert done.returncode == 0, done.stderr

    text = card.read_text(encoding="utf-8")
    [name] = re.findall(r"<!-- measured: (coverage .*_all) -->", text)
    assert text.startswith("# A model\n\n") and "| 0.9 " in text and text.endswith(f"<!-- end of {name} -->\n")
    assert (tmp_path / "reports" / "coverage.png").stat().st_size > 3000
    assert "| 0.9 " in (tmp_path / "reports" / "model_card.md").read_text(encoding="utf-8")


def test_evaluate_names_a_card_that_is_missing(crops, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert evaluate.main(["--data", str(crops), "--card", "none.md"]) == 1
    assert "There is no model card none.md" in capsys.readouterr().err


@pytest.mark.parametrize(
    "args, message",
    [
        (("--data", "nowhere"), "nowhere does not exist"),
        (("--data", "nowhere", "--model", "models/none"), "No model at"),
        (("--data", "{crops}", "--per-class", "1", "--card", "none.md"), "There is no model card none.md"),
    ],
)
def test_a_mistake_gives_exit_code_1_and_is_named(crops, tmp_path, monkeypatch, capsys, args, message):
    monkeypatch.chdir(tmp_path)
    assert robustness.main([arg.format(crops=crops) for arg in args]) == 1
    assert message in capsys.readouterr().err
