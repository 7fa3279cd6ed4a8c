"Cached features and small pictures in training: what changes, what stays, and that a resumed run is the same run."

import keras
import numpy as np
import pytest
from networks import two_convolutions

SIZES = {"img_size": 64, "batch_size": 10, "backbone": "TwoConvolutions", "progressive_sizes": "32"}
STAGES = {"epochs_head": 3, "epochs_finetune": 6, "learning_rate_finetune": 1e-2, "ema_decay": 0.5}


class StopAt(keras.callbacks.Callback):
    "Ctrl-C at the beginning of an epoch, counted over all stages."

    def __init__(self, epoch):
        super().__init__()
        self.left = epoch

    def on_epoch_begin(self, epoch, logs=None):
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt


@pytest.fixture
def train(monkeypatch, tmp_path):
    "A training of seconds: name of its folder, settings -> result."
    from face_emotion import train as module
    from face_emotion.core.config import load_settings
    from face_emotion.data.dataset import split_off, toy_faces
    from face_emotion.model import BACKBONES

    monkeypatch.setitem(BACKBONES, "TwoConvolutions", two_convolutions)
    data = split_off(toy_faces(60, 64), 0.2)

    def run(name, callbacks=(), resume=False, **changed):
        settings = load_settings(None, **{**SIZES, **STAGES, "head_views": 2, "finetune_views": 2, **changed})
        return module.train(data, tmp_path / name, settings, None, resume, (".keras",), callbacks=callbacks)

    return run


def same(a, b):
    return a.history.drop(columns="seconds").equals(b.history.drop(columns="seconds"))


@pytest.mark.timeout(600)
@pytest.mark.parametrize("views, stops", [(2, (1, 4)), (0, (4,))])
def test_resumed_at_any_size_is_bit_identical(train, views, stops):
    whole = train("whole", [StopAt(5)], finetune_views=views)
    assert whole.history["stage"].tolist() == ["head"] * 3 + ["finetune1"] * 2
    for epoch in stops:  # in the head, and between two sizes
        part = train(f"part{epoch}", [StopAt(epoch)], finetune_views=views)
        assert part.status == "interrupted" and len(part.history) == epoch
        assert same(train(f"part{epoch}", [StopAt(5 - epoch)], True, finetune_views=views), whole)


@pytest.mark.timeout(600)
def test_as_many_views_as_epochs_change_nothing(train):
    head = {"epochs_finetune": 0, "learning_rate_head": 1e-2}
    never, always = train("never", head_views=0, **head), train("always", head_views=3, **head)
    assert never.history["val_loss"].tolist() == pytest.approx(always.history["val_loss"].tolist(), abs=2e-3)
    fewer = train("fewer", head_views=1, **head)
    assert abs(fewer.history["loss"] - never.history["loss"]).max() > 2e-3  # the comparison can fail


@pytest.mark.timeout(600)
def test_a_cache_that_is_too_large_is_not_made(train, caplog):
    with caplog.at_level("INFO", "face_emotion"):
        refused = train("refused", cache_gb=1e-9, epochs_finetune=0)
    assert "CACHE_GB allows 1e-09" in caplog.text, caplog.text
    never = train("never", head_views=0, epochs_finetune=0)
    assert np.array_equal(refused.history["loss"], never.history["loss"])


@pytest.mark.timeout(600)
def test_folds_resume_and_every_face_is_tested_once(train, monkeypatch, tmp_path):
    from dataclasses import replace

    from face_emotion import train as module
    from face_emotion.core.config import load_settings
    from face_emotion.data.dataset import split_off, toy_faces
    from face_emotion.learning.folds import pooled, read_out_of_fold

    faces = replace(toy_faces(100, 64), persons=np.array([f"p{i // 5}" for i in range(100)]))
    data, calls, once = split_off(faces, 0.2), [], module.train
    settings = load_settings(None, **SIZES, epochs_head=1, epochs_finetune=0)

    def counted(parts, folder, *args, **kwargs):
        calls.append(folder.name)
        if len(calls) == 2:
            return module.TrainingResult("interrupted", "Give --resume.", None, None)
        return once(parts, folder, *args, **kwargs)

    monkeypatch.setattr(module, "train", counted)
    options = {"folds": 2, "weights": None, "formats": (".keras",)}
    stopped = module.train_many(data, tmp_path, settings, **options)
    assert stopped.status == "interrupted" and stopped.message == "fold_2: Give --resume."
    table = module.train_many(data, tmp_path, settings, resume=True, **options)
    assert calls == ["fold_1", "fold_2", "fold_2"]  # the finished fold is kept
    assert table.runs["n"].sum() == 100 and "2 folds by person, 20 persons" in str(table)
    found = read_out_of_fold(tmp_path / "out_of_fold.npz", pooled(data))
    assert found.shape == (100, 5) and np.isfinite(found).all()
    assert (tmp_path / "fold_1" / "emotion_classifier_5_classes.keras").is_file()
