"Training as a process: killed in each stage, interrupted, on a full disk, on two devices, on another backend."

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from networks import two_convolutions

ROOT = Path(__file__).resolve().parents[1]
SETTINGS = {
    "BACKBONE": "TwoConvolutions",
    "IMG_SIZE": "64",
    "BATCH_SIZE": "10",
    "EMA_DECAY": "0.5",
    "DROPOUT_RATE": "0",
    "LEARNING_RATE_FINETUNE": "0.0001",
}


def default_ctrl_c():
    "Undo what a shell does to processes in the background: ignore Ctrl-C, in this process and its children."
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    "Twelve faces of each class in folders: two portraits in five shades."
    from face_emotion.data.dataset import toy_faces, write_folders

    return write_folders(toy_faces(60, 64), tmp_path_factory.mktemp("faces"))


@pytest.fixture
def tiny(monkeypatch):
    "Settings of a training that takes seconds."
    from face_emotion.model import BACKBONES

    monkeypatch.setitem(BACKBONES, "TwoConvolutions", two_convolutions)
    return {"img_size": 64, "batch_size": 10, "backbone": "TwoConvolutions", "ema_decay": 0.0}


def start(faces, out, *args, cwd, **env):
    "The training command as a process, with a tiny network."
    options = "--weights none --formats .keras --epochs-head 2 --epochs-finetune 3".split()
    return subprocess.Popen(
        [sys.executable, ROOT / "tests" / "tiny_training.py", "--data", faces, "--out", out, *options, *args],
        preexec_fn=default_ctrl_c,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3", **SETTINGS, **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def history(out):
    return pd.read_csv(out / "emotion_classifier_5_classes_history.csv")


def epochs_done(out):
    try:
        return len(json.loads((out / "training" / "state.json").read_text())["history"])
    except (FileNotFoundError, json.JSONDecodeError):
        return 0


def wait_for(process, out, epochs, seconds=240):
    end = time.monotonic() + seconds
    while epochs_done(out) < epochs:
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < end, f"{epochs} epochs did not happen in {seconds} s"
        time.sleep(0.05)


@pytest.mark.timeout(900)
def test_killed_in_each_stage_and_resumed(faces, tmp_path):
    out, arguments, best = tmp_path / "models", (), np.inf
    for epochs in (1, 2, 3, 4):  # in the head, then in each stage of fine-tuning
        process = start(faces, out, *arguments, cwd=tmp_path)
        wait_for(process, out, epochs)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        state = json.loads((out / "training" / "state.json").read_text())
        assert (out / "training" / state["weights"]).exists() and (out / "training" / state["best"]["file"]).exists()
        assert state["best"]["loss"] <= best  # the best metric is kept
        best, arguments = state["best"]["loss"], ("--resume",)
    process = start(faces, out, "--resume", cwd=tmp_path)
    text, _ = process.communicate(timeout=400)
    assert process.returncode == 0, text
    h = history(out)
    assert h["epoch"].tolist() == [1, 2, 3, 4, 5]
    assert h["stage"].tolist() == ["head", "head", "finetune1", "finetune2", "finetune3"]
    metadata = json.loads((out / "emotion_classifier_5_classes.json").read_text())
    assert metadata["metrics"]["validation"]["best"]["loss"] == pytest.approx(
        min(h["val_loss"].min(), h["ema_val_loss"].min())
    )
    assert metadata["metrics"]["validation"]["best"]["loss"] <= best + 1e-9


@pytest.mark.timeout(600)
def test_ctrl_c_keeps_the_best_and_can_be_resumed(faces, tmp_path):
    out = tmp_path / "models"
    process = start(faces, out, "--epochs-finetune", "0", "--epochs-head", "40", cwd=tmp_path)
    wait_for(process, out, 2)
    process.send_signal(signal.SIGINT)
    text, _ = process.communicate(timeout=300)
    assert process.returncode == 130 and "Give --resume" in text and "The best model" in text, text
    assert (out / "emotion_classifier_5_classes.keras").exists()
    assert history(out)["epoch"].tolist() == list(range(1, epochs_done(out) + 1))
    process = start(faces, out, "--epochs-finetune", "0", "--epochs-head", "40", cwd=tmp_path)
    text, _ = process.communicate(timeout=300)
    assert process.returncode == 1 and "An unfinished training of" in text


@pytest.mark.timeout(600)
def test_full_disk_keeps_the_best_model(faces, tiny, tmp_path, monkeypatch):
    from face_emotion import train as module
    from face_emotion.core.config import load_settings
    from face_emotion.data.sources import load_data
    from face_emotion.learning.export import load_artefact

    settings = load_settings(None, epochs_head=3, epochs_finetune=0, **tiny)
    data, write, calls = load_data(faces), module.RunFolder.write, []

    def train(**options):
        return module.train(data, tmp_path, settings, None, formats=(".keras",), **options)

    def full(*args, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    def full_at_second_write(folder, state):
        calls.append(state)
        (full if len(calls) == 2 else write)(folder, state)

    monkeypatch.setattr(module.RunFolder, "write", full_at_second_write)
    result = train()
    assert result.status == "disk" and "is full" in result.message and "Make room and give --resume" in result.message
    assert load_artefact(result.artefact.stem)(np.zeros((1, 64, 64, 3))).shape == (1, 5)

    monkeypatch.setattr(module.RunFolder, "write", write)
    again = train(resume=True)
    assert again.status == "finished" and again.history["epoch"].tolist() == [1, 2, 3]

    monkeypatch.setattr(module, "save_artefact", full)
    nowhere = train(resume=True)
    assert nowhere.status == "disk" and nowhere.artefact is None and "no room to export" in nowhere.message


@pytest.mark.timeout(600)
def test_nan_keeps_the_best_model(faces, tiny, tmp_path):
    from face_emotion.core.config import load_settings
    from face_emotion.data.sources import load_data
    from face_emotion.train import train

    data = load_data(faces)
    wild = load_settings(None, epochs_head=1, epochs_finetune=1, learning_rate_finetune=1e30, **tiny)
    nan = train(data, tmp_path / "nan", wild, None, formats=(".keras",))
    assert nan.status == "nan" and "Lower LEARNING_RATE" in nan.message and nan.artefact is not None

    wild = load_settings(None, epochs_head=1, epochs_finetune=0, learning_rate_head=1e38, **tiny)
    none = train(data, tmp_path / "none", wild, None, formats=(".keras",))
    assert none.status in ("nan", "finished") and (none.artefact is not None or "Not one epoch" in none.message)


@pytest.mark.timeout(600)
def test_a_stuck_rate_falls(faces, tiny, tmp_path):
    from face_emotion.core.config import load_settings
    from face_emotion.data.sources import load_data
    from face_emotion.train import train

    patience = {"early_stopping_patience": 5, "reduce_lr_patience": 2}
    slow = load_settings(None, epochs_head=9, epochs_finetune=0, learning_rate_head=1e-9, **patience, **tiny)
    still = train(load_data(faces), tmp_path, slow, None, formats=(".keras",))
    assert len(still.history) < 9 and still.history["learning_rate"].iloc[-1] <= 0.5e-9


def run(code, *args, cwd, **env):
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, args)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3", **env},
        capture_output=True,
        text=True,
        timeout=500,
    )


SAME_ON_TWO = """
import sys

import tensorflow as tf

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
sys.path.insert(0, sys.argv[1])
from networks import two_convolutions

from face_emotion.core.config import load_settings
from face_emotion.data.sources import load_data
from face_emotion.model import BACKBONES
from face_emotion.train import train

BACKBONES["TwoConvolutions"] = two_convolutions
small = {"img_size": 64, "batch_size": 10, "backbone": "TwoConvolutions", "ema_decay": 0.5, "dropout_rate": 0.0}
settings = load_settings(None, epochs_head=0, epochs_finetune=1, **small)
for i, devices in enumerate((["CPU:0", "CPU:1"], ["CPU:0"])):
    result = train(load_data(sys.argv[2]), f"out{i}", settings, None, formats=(".keras",), devices=devices)
    print("losses", *result.history[["loss", "val_loss", "ema_val_loss"]].to_numpy().ravel())
"""


def test_two_devices_learn_what_one_does(faces, tmp_path):
    done = run(SAME_ON_TWO, ROOT / "tests", faces, cwd=tmp_path)
    found = [[float(v) for v in line.split()[1:]] for line in done.stdout.splitlines() if line.startswith("losses")]
    assert len(found) == 2, done.stdout + done.stderr[-3000:]
    assert found[0] == pytest.approx(found[1], abs=1e-5)


TWO_STEPS = """
import json
import sys

import keras
import numpy as np

from face_emotion.augment import Mixer, make_augment
from face_emotion.core.config import load_settings
from face_emotion.data.batches import Batches
from face_emotion.data.sources import load_data
from face_emotion.learning.schedule import Stage, current_rate
from face_emotion.model import build_model
from face_emotion.train import compile_for

folder, weights, *load = sys.argv[1:]
settings = load_settings(None, img_size=64, batch_size=10, backbone="MobileNetV3Small", dropout_rate=0.0)
model = build_model(settings.backbone, settings.class_names, 64, 0.0)
if load:
    model.set_weights(list(np.load(weights).values()))
else:
    np.savez(weights, *model.get_weights())
compile_for(model, Stage("finetune3", 1, 1e-3, 2, True), settings, 2)

batches = Batches(load_data(folder)["train"], 64, 10, make_augment(), Mixer(0.5, 0.5), seed=1)
losses = []
for i in range(2):
    x, y, w = batches[i]
    losses.append(float(model.train_on_batch(x.astype("float32"), y, w, return_dict=True)["loss"]))
    model.reset_metrics()
print(json.dumps({"backend": keras.backend.backend(), "losses": losses, "rate": current_rate(model)}))
"""


@pytest.mark.timeout(600)
def test_two_steps_agree_between_tensorflow_and_jax(faces, tmp_path):
    pytest.importorskip("jax")
    found = []
    quick = {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_backend_optimization_level=0"}  # quicker to compile
    for backend, extra in (("tensorflow", ()), ("jax", ("load",))):
        done = run(TWO_STEPS, faces, tmp_path / "w.npz", *extra, cwd=tmp_path, KERAS_BACKEND=backend, **quick)
        assert done.returncode == 0, done.stderr[-3000:]
        found.append(json.loads(done.stdout.strip().splitlines()[-1]))
    assert [f["backend"] for f in found] == ["tensorflow", "jax"]
    assert found[0]["losses"] == pytest.approx(found[1]["losses"], abs=2e-3)
    assert found[0]["losses"][0] != found[0]["losses"][1]


@pytest.mark.parametrize("folder, words", [("nowhere", "does not exist"), ("", "this folder is missing")])
def test_command_says_what_is_wrong(tmp_path, monkeypatch, capsys, folder, words):
    from face_emotion.train import main

    monkeypatch.chdir(tmp_path)
    assert main(["--data", str(tmp_path / folder)]) == 1
    said = capsys.readouterr().err
    assert words in said and "Traceback" not in said
