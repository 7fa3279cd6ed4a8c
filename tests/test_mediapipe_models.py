"""MediaPipe's models in the package: the files that the README lists, and the wheel's."""

import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

import mediapipe_models  # noqa: E402

needs_mediapipe = pytest.mark.skipif(
    mediapipe_models.read_installed() is None, reason=f"mediapipe {mediapipe_models.VERSION} is not installed"
)


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    "An empty folder with the README, in the place of the package's."
    readme = mediapipe_models.FOLDER / "README.md"
    (tmp_path / "README.md").write_bytes(readme.read_bytes())
    monkeypatch.setattr(mediapipe_models, "FOLDER", tmp_path)
    return tmp_path


@pytest.fixture
def wheel(tmp_path) -> Path:
    "A wheel with other models."
    path = tmp_path / "mediapipe.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name in (*mediapipe_models.MODELS.values(), mediapipe_models.LICENSE):
            archive.writestr(name, "other")
    return path


def test_the_package_has_the_files_of_the_readme():
    sums = mediapipe_models.checksums()
    assert sums.keys() == mediapipe_models.MODELS.keys()
    for name, digest in sums.items():
        assert mediapipe_models.sha256((mediapipe_models.FOLDER / name).read_bytes()) == digest
    assert "Apache License" in (mediapipe_models.FOLDER / "LICENSE").read_text(encoding="utf-8")


@needs_mediapipe
def test_the_files_are_those_of_the_installed_wheel(capsys):
    assert mediapipe_models.main(["--check"]) == 0
    assert "checksums agree" in capsys.readouterr().out


@needs_mediapipe
def test_the_files_are_written_again(folder):
    assert mediapipe_models.main(["--check"]) == 1
    assert mediapipe_models.main([]) == 0
    assert {p.name for p in folder.iterdir()} == {*mediapipe_models.MODELS, "LICENSE", "README.md"}
    assert mediapipe_models.main(["--check"]) == 0


def test_a_wheel_with_other_models_is_refused(folder, wheel, capsys):
    assert mediapipe_models.main([str(wheel)]) == 1
    assert "face_landmark.tflite of the wheel has another SHA-256" in capsys.readouterr().err
    assert not (folder / "face_landmark.tflite").exists()
