"Every format of the bundled model gives the same answers, on 200 real faces where they are at hand."

from pathlib import Path

import numpy as np
import pytest

from face_emotion.core.artefact import Artefact
from face_emotion.learning.export import FORMATS, load_artefact, save_artefact
from face_emotion.model import bundle

SHARED = Path(__file__).resolve().parents[2] / "shared"
SIZE = Artefact("bundled").metadata.input[0]
EXACT = tuple(f for f in FORMATS if "fp16" not in f)


def faces(n):
    path = SHARED / "data" / "fer2013plus.npz"
    if not path.exists():
        pytest.skip("needs ../shared/data/fer2013plus.npz")
    from face_emotion.data.sources import from_npz
    from face_emotion.data.dataset import stratified
    from face_emotion.data.batches import validation_arrays

    test = from_npz(path)["test"]
    return validation_arrays(test.take(stratified(test, n)), SIZE)


@pytest.mark.timeout(900)
def test_formats_agree_on_200_faces(tmp_path, capsys):
    bundled, x = load_artefact("bundled", kind=".keras"), faces(200)
    saved = save_artefact(bundled.model, tmp_path / "model", bundled.metadata)
    answers = {kind: load_artefact(saved.stem, kind=kind)(x) for kind in FORMATS}
    size = {
        k: sum(f.stat().st_size for f in saved.file(k).rglob("*"))
        if saved.file(k).is_dir()
        else saved.file(k).stat().st_size
        for k in FORMATS
    }
    with capsys.disabled():
        print(f"\nn={len(x)}")
        for i, a in enumerate(FORMATS):
            for b in FORMATS[i + 1 :]:
                print(f"{a:>12} {b:>12} {np.abs(answers[a] - answers[b]).max():.2e}")
        print({k: f"{v / 1e6:.1f} MB" for k, v in size.items()})
    for a in EXACT:
        for b in EXACT:
            assert np.abs(answers[a] - answers[b]).max() < 1e-4, (a, b)
    assert (answers["_fp16.tflite"].argmax(1) == answers[".keras"].argmax(1)).mean() > 0.99
    assert np.abs(answers["_fp16.tflite"] - answers[".keras"]).max() < 0.01
    assert size[".h5"] < 20e6


def test_bundled_files_agree_without_any_data():
    x = np.random.default_rng(0).integers(0, 256, (8, SIZE, SIZE, 3)).astype(np.float32)
    a, b = (load_artefact("bundled", kind=k)(x) for k in (".keras", ".tflite"))
    assert np.isfinite(b).all() and np.abs(a - b).max() < 1e-4


@pytest.mark.timeout(300)
def test_bundle_can_be_made_again(tmp_path):
    source = Artefact("bundled")
    made = bundle(source.file(".keras"), tmp_path / "again")
    x = np.random.default_rng(0).integers(0, 256, (4, SIZE, SIZE, 3)).astype(np.float32)
    assert (
        np.abs(load_artefact(made.stem, kind=".tflite")(x) - load_artefact("bundled", kind=".tflite")(x)).max() < 1e-6
    )
    assert made.metadata.framing == source.metadata.framing and made.metadata.metrics == source.metadata.metrics
