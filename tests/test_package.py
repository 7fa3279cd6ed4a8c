"""The package as pip installs it: no clone beside it, any working folder, only our own lines on the terminal."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from serving import ROOT, ServerProcess, portrait

needs_tensorflow = pytest.mark.skipif(
    importlib.util.find_spec("tensorflow") is None, reason="TensorFlow is not installed (run: make install)"
)


class Installed:
    "face_emotion in a folder of its own, as in site-packages, and an empty folder to work in."

    def __init__(self, folder: Path):
        self.site, self.state, self.work = (folder / name for name in ("site", "state", "work"))
        for path in (self.site, self.state, self.work):
            path.mkdir()
        shutil.copytree(ROOT / "face_emotion", self.site / "face_emotion", ignore=shutil.ignore_patterns("*.keras"))
        unset = ("LOG_DIR", "TF_CPP_MIN_LOG_LEVEL", "MODEL_PATH")
        self.env = {k: v for k, v in os.environ.items() if k not in unset}
        self.env |= {"PYTHONPATH": str(self.site), "XDG_STATE_HOME": str(self.state), "HOME": str(self.state)}

    def python(self, *args: str) -> subprocess.CompletedProcess:
        command = [sys.executable, *args]
        return subprocess.run(command, cwd=self.work, env=self.env, capture_output=True, text=True, timeout=120)

    def logs(self) -> list[Path]:
        return sorted(p for p in self.state.rglob("app_*.log") if "face_emotion" in p.parts)


@pytest.fixture
def installed(tmp_path) -> Installed:
    return Installed(tmp_path)


@pytest.mark.skipif(sys.platform != "linux", reason="the platform's folder for logs is another one")
def test_predict_leaves_no_logs_where_it_runs_and_no_noise(installed):
    (installed.work / "face.jpg").write_bytes(portrait())
    done = installed.python("-m", "face_emotion.predict", "image", "--input", "face.jpg")
    assert (done.returncode, done.stderr) == (0, "")
    assert {p.stem for p in installed.work.iterdir()} == {"face", "face_emotions"}
    [log] = installed.logs()
    assert "face_emotion.predict - INFO" in log.read_text(encoding="utf-8")


@pytest.mark.parametrize("command", ["config", "info", "--help"])
def test_commands_that_only_say_something_write_nothing(installed, command):
    done = installed.python("-m", "face_emotion.serving.cli", command)
    assert (done.returncode, done.stderr) == (0, "")
    assert [*installed.work.iterdir(), *installed.logs()] == []


def test_the_server_says_where_its_log_is(installed):
    with ServerProcess(installed.work, PYTHONPATH=str(installed.site), LOG_DIR=str(installed.state / "here")) as server:
        text = server.text()
        assert server.stop()[0] == 0
    assert text.splitlines() == [line for line in text.splitlines() if line.startswith(("face_emotion 0", "Log: "))]
    assert f"Log: {installed.state / 'here'}" in text
    assert [p.name for p in installed.work.iterdir()] == ["output.txt"]
    assert list((installed.state / "here").glob("app_*.log"))


def test_what_is_missing_is_named_with_pips_command(installed):
    code = (
        "import sys; sys.modules['keras'] = None; from face_emotion.serving.cli import main; sys.exit(main(['train']))"
    )
    done = installed.python("-c", code)
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
    assert "keras" in done.stderr and done.stderr.endswith('-m pip install "face_emotion[train]"\n')


@needs_tensorflow
def test_training_starts_without_noise(installed):
    done = installed.python("-m", "face_emotion.train", "--data", "nowhere")
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1, done.stderr
    assert "nowhere" in done.stderr


def test_names_with_spaces_and_hangul(installed):
    "A name with spaces and Hangul, as Windows and macOS users have."
    folder = installed.work / "내 사진 1"
    folder.mkdir()
    (folder / "웃음 1.jpg").write_bytes(portrait())
    done = installed.python("-m", "face_emotion.predict", "image", "--input", str(folder / "웃음 1.jpg"))
    assert (done.returncode, done.stderr) == (0, "")
    assert (folder / "웃음 1_emotions.jpg").stat().st_size > 1000
