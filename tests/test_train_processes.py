"Training in two processes on JAX: the same losses as in one, and only the first process writes files."

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

pytest.importorskip("jax", reason="JAX is not installed")
from serving import free_port  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
TRAIN = """
import sys

sys.path.insert(0, sys.argv[1])
from networks import two_convolutions

from face_emotion.model import BACKBONES

BACKBONES["TwoConvolutions"] = two_convolutions
from face_emotion.train import main

raise SystemExit(main(sys.argv[2:]))
"""
SETTINGS = {
    "KERAS_BACKEND": "jax",
    "JAX_PLATFORMS": "cpu",
    "XLA_FLAGS": "--xla_backend_optimization_level=0",  # quicker to compile
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "BACKBONE": "TwoConvolutions",
    "IMG_SIZE": "64",
    "BATCH_SIZE": "10",
    "EMA_DECAY": "0.5",
    "DROPOUT_RATE": "0",
    "P_MIXUP": "0",
    "P_CUTMIX": "0",
    "HEAD_VIEWS": "0",
}


@pytest.fixture(scope="module")
def faces(tmp_path_factory) -> Path:
    from face_emotion.data.dataset import toy_faces, write_folders

    return write_folders(toy_faces(60, 64), tmp_path_factory.mktemp("faces"))


def start(faces: Path, out: Path, cwd: Path, **env: str) -> subprocess.Popen:
    "A training of one stage with two epochs."
    command = [sys.executable, "-c", TRAIN, str(ROOT / "tests"), "--data", str(faces), "--out", str(out)]
    command += "--weights none --formats .keras --epochs-head 0 --epochs-finetune 2".split()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **SETTINGS, "LOG_DIR": str(cwd / "logs"), **env}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command, cwd=cwd, env=environment, **pipes)


def finish(process: subprocess.Popen) -> str:
    out, _ = process.communicate(timeout=200)
    assert process.returncode == 0, out[-3000:]
    return out


@pytest.mark.timeout(300)
def test_two_processes_learn_what_one_does(faces, tmp_path):
    names = ("JOB_ADDRESSES", "NUM_PROCESSES", "PROCESS_ID")
    address = f"127.0.0.1:{free_port()}"
    values = [(address, "2", number) for number in "01"]
    both = [dict(zip((f"KERAS_DISTRIBUTION_{n}" for n in names), v)) for v in values]
    finish(start(faces, tmp_path / "one", tmp_path))
    # each has a folder of its own: what the second process writes would be seen
    running = [start(faces, tmp_path / f"process{i}", tmp_path, **env) for i, env in enumerate(both)]
    said = [finish(p) for p in running]

    history = [pd.read_csv(next((tmp_path / out).glob("*_history.csv"))) for out in ("one", "process0")]
    losses = [h[["loss", "val_loss", "ema_val_loss", "accuracy"]].to_numpy() for h in history]
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)
    assert losses[0][0, 0] != losses[0][1, 0], "it learns"
    assert not (tmp_path / "process1").exists() and "Process 0 writes the model" in said[1]
    metadata = json.loads(next((tmp_path / "process0").glob("*classes.json")).read_text())
    assert (
        metadata["metrics"]["validation"]["n"]
        == json.loads(next((tmp_path / "one").glob("*classes.json")).read_text())["metrics"]["validation"]["n"]
    )


@pytest.mark.parametrize(
    "env, words",
    [
        ({"KERAS_BACKEND": "tensorflow"}, "Set KERAS_BACKEND=jax"),
        ({}, "KERAS_DISTRIBUTION_PROCESS_ID is not"),
    ],
)
def test_wrong_variables_say_what_to_do(faces, tmp_path, env, words):
    process = start(faces, tmp_path / "out", tmp_path, KERAS_DISTRIBUTION_NUM_PROCESSES="2", **env)
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 1 and words in out and "Traceback" not in out, out[-2000:]
