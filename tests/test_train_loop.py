"The training loop: exact resume, weight decay, BatchNorm statistics, the log, a command that answers early."

import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from networks import two_convolutions

from face_emotion.core.config import load_settings


@pytest.fixture
def faces(monkeypatch):
    "Toy faces by split, and the tiny backbone by its name."
    from face_emotion.data.dataset import split_off, toy_faces
    from face_emotion.model import BACKBONES

    monkeypatch.setitem(BACKBONES, "TwoConvolutions", two_convolutions)
    return split_off(toy_faces(50, 48), 0.2)


def settings(**changed):
    "Defaults but for the size."
    return load_settings(None, img_size=48, batch_size=20, backbone="TwoConvolutions", **changed)


class CtrlC:
    "Interrupts a training after an epoch."

    def __new__(cls):
        import keras

        def stop(epoch, logs):
            raise KeyboardInterrupt

        return keras.callbacks.LambdaCallback(on_epoch_end=stop)


@pytest.mark.timeout(300)
def test_a_resumed_run_is_the_same_to_the_last_bit(faces, tmp_path):
    from face_emotion.train import train

    short = settings(epochs_head=2, epochs_finetune=1)  # everything else at its default, dropout too
    assert short.dropout_rate == 0.25
    options = {"settings": short, "weights": None, "formats": (".keras",)}
    whole = train(faces, tmp_path / "whole", **options).history
    train(faces, tmp_path / "parts", callbacks=[CtrlC()], **options)
    parts = train(faces, tmp_path / "parts", resume=True, **options).history
    print(*(f"{name} {t['loss'].tolist()}" for name, t in {"whole": whole, "parts": parts}.items()), sep="\n")
    same = whole.columns.drop("seconds")
    pd.testing.assert_frame_equal(parts[same], whole[same], check_exact=True)


@pytest.mark.timeout(300)
def test_averaged_weights_have_statistics_of_their_own(faces, tmp_path):
    from face_emotion.learning.export import load_artefact
    from face_emotion.train import train

    learning = settings(epochs_head=0, epochs_finetune=2, freeze_bn_mode="none", learning_rate_finetune=1e-3)
    result = train(faces, tmp_path, learning, None, formats=(".keras",))
    model = load_artefact(result.artefact.stem).model
    rescale, convolve, normalize = model.layers[1].layers[1:4]
    pictures = faces["train"].images.astype(np.float32)
    seen = np.asarray(convolve(rescale(pictures))).mean((0, 1, 2))
    assert np.asarray(normalize.moving_mean) == pytest.approx(seen, abs=0.02)


def test_weight_decay_follows_the_rate_and_spares_vectors():
    import keras

    from face_emotion.learning.schedule import Stage
    from face_emotion.model import BACKBONES, build_model
    from face_emotion.train import compile_for

    BACKBONES["TwoConvolutions"] = two_convolutions
    try:
        model = build_model("TwoConvolutions", img_size=48)
    finally:
        del BACKBONES["TwoConvolutions"]
    cosine = settings(weight_decay=0.5, lr_schedule="cosine", warmup_ratio=0.0, freeze_bn_mode="none", ema_decay=0)
    compile_for(model, Stage("finetune3", 1, 0.1, 20, False), cosine, 20)
    for v in model.trainable_variables:
        v.assign(np.ones(v.shape))
    for _ in range(20):
        model.optimizer.apply([np.zeros(v.shape, np.float32) for v in model.trainable_variables])
    rates = 0.1 * 0.5 * (1 + np.cos(np.pi * np.arange(20) / 20))
    for v in model.trainable_variables:
        wanted = np.prod(1 - 0.5 * rates) if len(v.shape) > 1 else 1.0
        assert float(keras.ops.max(v.value)) == pytest.approx(wanted, abs=1e-4), v.path


@pytest.mark.timeout(300)
def test_the_log_tells_what_was_trained(faces, tmp_path, monkeypatch, capsys):
    from face_emotion.data.dataset import write_folders
    from face_emotion.train import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BACKBONE", "TwoConvolutions")
    write_folders(faces["train"], tmp_path / "faces")
    arguments = "--data faces --weights none --formats keras --epochs-head 1 --epochs-finetune 0 --img-size 48"
    assert main(arguments.split()) == 0
    assert capsys.readouterr().out.startswith("Device: ")

    log = next((tmp_path / "logs").iterdir()).read_text()
    for words in (
        "INFO - training begins, files go to models",
        "INFO - settings: IMG_SIZE=48, BATCH_SIZE=32, EPOCHS_HEAD=1",
        "INFO - Device: ",
        "INFO - backbone: TwoConvolutions, weights: none, classes: happy, sad",
        "INFO - train: ",
        " faces, happy ",
        "INFO - stage head: 2 of 6 layers learn, 1 epochs of 2 steps, learning rate 0.0003, mixing on",
        "INFO - new best: val_loss ",
        "best-0001.npz",
        "INFO - epoch 1, stage head",
        "INFO - training finished. The best model, ",
    ):
        assert words in log, (words, log)
    line = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d - face_emotion\.\w+ - (INFO|WARNING) - \S")
    assert all(line.match(text) for text in log.splitlines()), log


def run(*arguments, cwd):
    "A command, and the names of the modules that it loads."
    command = [sys.executable, "-X", "importtime", "-m", *arguments]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120)
    return done, {line.split("|")[-1].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}


@pytest.mark.parametrize("command", ["train", "evaluate"])
def test_help_needs_no_tensorflow(tmp_path, command):
    done, modules = run(f"face_emotion.{command}", "--help", cwd=tmp_path)
    assert done.returncode == 0 and "--data" in done.stdout
    assert "argparse" in modules and not {"tensorflow", "keras"} & modules


def test_an_unknown_format_is_refused_at_the_start(tmp_path, capsys):
    from face_emotion.train import main, train

    assert main(["--data", str(tmp_path / "nowhere"), "--formats", "keras,pb"]) == 1
    message = capsys.readouterr().err
    assert "Unknown format 'pb'" in message and "nowhere" not in message
    with pytest.raises(ValueError, match="Choose from keras, h5"):
        train({}, tmp_path / "out", settings(), None, formats=("pb",))
