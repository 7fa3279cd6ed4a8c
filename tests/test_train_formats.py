"Every format of the bundled model gives the same probabilities, on 200 real faces where they are available."

from pathlib import Path

import numpy as np
import pytest

from face_emotion.core.artefact import Artefact
from face_emotion.data.batches import validation_arrays
from face_emotion.data.dataset import stratified
from face_emotion.data.sources import from_npz, public_data
from face_emotion.learning.export import FORMATS, load_artefact, save_artefact
from face_emotion.model import bundle

SIZE = Artefact("bundled").metadata.input[0]
GIVEN = Path(__file__).resolve().parents[2] / "shared" / "models"
EXACT = tuple(f for f in FORMATS if "fp16" not in f)


def faces(n):
    "Real faces, (n, SIZE, SIZE, 3)."
    path = public_data("fer2013plus.npz", "the comparison of formats")
    if path is None:
        pytest.skip("needs fer2013plus.npz; docs/data.md says how to get it")
    test = from_npz(path)["test"]
    return validation_arrays(test.take(stratified(test, n)), SIZE)


def noise(n):
    "Random images, (n, SIZE, SIZE, 3)."
    return np.random.default_rng(0).integers(0, 256, (n, SIZE, SIZE, 3)).astype(np.float32)


def megabytes(path):
    "Size of a file, or of all files in a folder."
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(f.stat().st_size for f in files) / 1e6


@pytest.mark.timeout(900)
def test_formats_agree_on_200_faces(tmp_path, capsys):
    bundled, x = load_artefact("bundled", kind=".keras"), faces(200)
    saved = save_artefact(bundled.model, tmp_path / "model", bundled.metadata)
    found = {kind: load_artefact(saved.stem, kind=kind).uncalibrated(x) for kind in FORMATS}
    size = {kind: megabytes(saved.file(kind)) for kind in FORMATS}
    with capsys.disabled():
        print(f"\nn={len(x)}")
        for i, a in enumerate(FORMATS):
            for b in FORMATS[i + 1 :]:
                print(f"{a:>12} {b:>12} {np.abs(found[a] - found[b]).max():.2e}")
        print({kind: f"{mb:.1f} MB" for kind, mb in size.items()})
    for a in EXACT:
        for b in EXACT:
            assert np.abs(found[a] - found[b]).max() < 1e-4, (a, b)
    assert (found["_fp16.tflite"].argmax(1) == found[".keras"].argmax(1)).mean() > 0.99
    assert np.abs(found["_fp16.tflite"] - found[".keras"]).max() < 0.01
    assert size[".h5"] < 20


def test_bundled_files_agree_without_any_data():
    a, b = (load_artefact("bundled", kind=kind)(noise(8)) for kind in (".keras", ".tflite"))
    assert np.isfinite(b).all() and np.abs(a - b).max() < 1e-4


@pytest.mark.timeout(300)
def test_bundle_can_be_made_again(tmp_path):
    source = Artefact("bundled")
    made = bundle(source.file(".keras"), tmp_path / "again")
    again, before = (load_artefact(stem, kind=".tflite")(noise(4)) for stem in (made.stem, "bundled"))
    assert np.abs(again - before).max() < 1e-6
    assert made.metadata.framing == source.metadata.framing and made.metadata.metrics == source.metadata.metrics


@pytest.mark.skipif(not GIVEN.is_dir(), reason="needs the base and the distilled model of ../shared/models")
def test_bundle_can_be_made_from_its_parts(tmp_path):
    source, base = Artefact("bundled"), GIVEN / "emotion_classifier_5_classes.keras"
    how = {"blend": GIVEN / "distilled_160.keras", "shares": [0.4, 0.6], "img_size": 160, "tau": 0.12}
    bias = list(source.metadata.settings["logit_bias"].values())
    made = bundle(base, tmp_path / "made", source.file(".json"), (".keras",), bias=bias, **how)
    again, before = (load_artefact(stem, kind=".keras").uncalibrated(noise(4)) for stem in (made.stem, "bundled"))
    assert np.abs(again - before).max() < 1e-4
