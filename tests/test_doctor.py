"""`face-emotion doctor` as a process: a healthy machine, faults of each kind, JSON, and what it leaves alone."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from serving import ROOT

from face_emotion.core.config import BUNDLED_MODEL, Settings
from face_emotion.serving.transport import free_port

needs_training = pytest.mark.skipif(find_spec("tensorflow") is None, reason="needs the training packages")


class Doctor:
    "The command in a folder, with a free port and a `.env` of its own."

    def __init__(self, folder: Path):
        self.folder, self.env = folder, {"SERVER_PORT": str(free_port())}

    def run(self, *args: str) -> subprocess.CompletedProcess:
        (self.folder / ".env").write_text("\n".join(f"{k}={v}" for k, v in self.env.items()), encoding="utf-8")
        inherited = {k: v for k, v in os.environ.items() if k.lower() not in Settings.model_fields}
        return subprocess.run(
            [sys.executable, "-m", "face_emotion.doctor", *args],
            cwd=self.folder,
            env={**inherited, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=240,
        )

    def problems(self, *args: str) -> tuple[int, dict[str, dict]]:
        "The exit code, and the checks that are not ok, by name."
        done = self.run("--json", *args)
        checks = json.loads(done.stdout)["checks"]
        ignored = (
            "camera",
            "device",
            "face_emotion",
            "training packages",
            "notebook packages",
        )  # as the machine has them
        return done.returncode, {c["name"]: c for c in checks if c["status"] != "ok" and c["name"] not in ignored}


@pytest.fixture
def doctor(tmp_path: Path) -> Doctor:
    return Doctor(tmp_path)


def test_a_healthy_machine_and_no_files_made(doctor):
    done = doctor.run()
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert "serving: will work" in done.stdout.splitlines()
    if find_spec("tensorflow"):
        assert "training: will work" in done.stdout.splitlines()
    assert [p.name for p in doctor.folder.iterdir()] == [".env"]


def test_a_damaged_model_stops_serving(doctor):
    for ending in (".json", ".tflite"):
        shutil.copy(f"{BUNDLED_MODEL}{ending}", doctor.folder)
    model = doctor.folder / f"{BUNDLED_MODEL.name}.tflite"
    model.write_bytes(model.read_bytes()[:-1] + b"X")
    code, problems = doctor.problems("--model", str(doctor.folder))
    assert code == 1
    assert "checksum" in problems["model"]["text"]


@needs_training
def test_a_taken_port_stops_serving_and_not_training(doctor):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        code, problems = doctor.problems("--port", port)
        assert (code, list(problems)) == (1, ["port"])
        assert doctor.problems("--port", port, "--for", "training")[0] == 0


def test_an_unknown_name_is_a_warning_with_a_suggestion(doctor):
    doctor.env["IMG_SIZ"] = "96"
    code, problems = doctor.problems()
    assert (code, list(problems)) == (0, [".env"])
    assert problems[".env"]["remedy"] == "Did you mean IMG_SIZE?"


def test_invalid_settings_are_all_listed_and_stop_everything(doctor):
    doctor.env |= {"BATCH_SIZE": "many", "IMG_SIZE": "8", "AUGMENT": "p_blur"}
    done = doctor.run()
    assert done.returncode == 1
    for name in ("BATCH_SIZE='many'", "IMG_SIZE='8'", "AUGMENT='p_blur'"):
        assert name in done.stdout
    assert re.search("^notebooks: will not work: .*settings$", done.stdout, re.MULTILINE)


def test_a_folder_that_cannot_be_written_stops_training(doctor):
    (doctor.folder / "models").write_text("a file where a folder should be")
    code, problems = doctor.problems("--for", "training")
    assert (code, list(problems)) == (1, ["folders"])
    assert doctor.problems()[0] == 0


def test_classes_of_another_model_stop_serving(doctor):
    doctor.env["CLASS_NAMES"] = "happy,sad"
    code, problems = doctor.problems()
    assert (code, list(problems)) == (1, ["classes"])


@needs_training
def test_tensorflow_is_asked_for_devices(doctor):
    done = doctor.run("--devices", "--json", "--for", "training")
    (device,) = [c for c in json.loads(done.stdout)["checks"] if c["name"] == "device"]
    assert done.returncode == (device["status"] != "ok")


def test_without_dependencies_it_says_what_to_install(doctor):
    "As in an environment where only the package's own files are: `-S` hides site-packages."
    command = [sys.executable, "-S", "-m", "face_emotion.doctor"]
    env = {"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]}
    done = subprocess.run(command, cwd=doctor.folder, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1, done.stderr
    assert "serving: will not work" in done.stdout
    assert "What to do:" in done.stdout


def test_wrong_usage_is_exit_code_2(doctor):
    assert doctor.run("--for", "nothing").returncode == 2
