"""Take MediaPipe's face models from its wheel: `python scripts/mediapipe_models.py [WHEEL] [--check]`.

Without a wheel, the installed package is read or, if it isn't installed, the wheel is downloaded with pip. Either way,
the checksums must be those in face_emotion/assets/mediapipe/README.md.
"""

import argparse
import hashlib
import re
import subprocess
import sys
import tempfile
import zipfile
from importlib import metadata
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1] / "face_emotion" / "assets" / "mediapipe"
VERSION = "0.10.21"
# The wheel's models are the same for every platform and Python. This one exists for sure.
DOWNLOAD = ["--no-deps", "--only-binary=:all:", "--python-version", "3.11", "--platform", "manylinux_2_28_x86_64"]
MODULES = "mediapipe/modules"
LICENSE = f"mediapipe-{VERSION}.dist-info/LICENSE"
MODELS = {
    "face_detection_short_range.tflite": f"{MODULES}/face_detection/face_detection_short_range.tflite",
    "face_detection_full_range_sparse.tflite": f"{MODULES}/face_detection/face_detection_full_range_sparse.tflite",
    "face_landmark.tflite": f"{MODULES}/face_landmark/face_landmark.tflite",
}


def sha256(data: bytes) -> str:
    "The checksum as `sha256sum` prints it."
    return hashlib.sha256(data).hexdigest()


def checksums() -> dict[str, str]:
    "The SHA-256 of each file, from the README beside the models."
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    return {name: digest for digest, name in re.findall(r"^([0-9a-f]{64})  (\S+)$", text, re.MULTILINE)}


def read_installed() -> dict[str, bytes] | None:
    "The models and the licence of the installed package; None if it isn't installed in this version."
    try:
        package = metadata.distribution("mediapipe")
    except metadata.PackageNotFoundError:
        return None
    if package.version != VERSION:
        return None
    paths = {**MODELS, "LICENSE": LICENSE}
    return {name: Path(package.locate_file(path)).read_bytes() for name, path in paths.items()}


def read_wheel(
    wheel: Path,  # a mediapipe wheel, of any platform
) -> dict[str, bytes]:
    "The models and the licence in a wheel."
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(path) for name, path in {**MODELS, "LICENSE": LICENSE}.items()}


def download() -> dict[str, bytes]:
    "The models and the licence in the wheel that pip downloads."
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "-q", *DOWNLOAD, "-d", folder, f"mediapipe=={VERSION}"]
        subprocess.run(command, check=True)
        [wheel] = Path(folder).glob("*.whl")
        return read_wheel(wheel)


def problems(
    files: dict[str, bytes],  # by name, as they are in the wheel
    check: bool,  # also compare with the files in the package
) -> list[str]:
    "What doesn't agree: the wheel with the README and, with `check`, the package with the wheel."
    expected = checksums()
    out = [
        f"{name} of the wheel has another SHA-256 than the README says"
        for name in MODELS
        if sha256(files[name]) != expected.get(name)
    ]
    if check:
        for name, data in files.items():
            path = FOLDER / name
            if not path.is_file():
                out.append(f"{name} is missing in {FOLDER}")
            elif path.read_bytes() != data:
                out.append(f"{name} in {FOLDER} is not the wheel's")
    return out


def main(argv: list[str] | None = None) -> int:
    "Write the files, or compare them with `--check`; 1 if something doesn't agree."
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheel", nargs="?", type=Path, help="a mediapipe wheel; default: installed, or downloaded")
    parser.add_argument("--check", action="store_true", help="compare the package's files and write nothing")
    options = parser.parse_args(argv)

    files = read_wheel(options.wheel) if options.wheel else read_installed() or download()
    found = problems(files, options.check)
    if found:
        print("\n".join(found), file=sys.stderr)
        return 1
    if not options.check:
        for name, data in files.items():
            (FOLDER / name).write_bytes(data)
    size = sum(len(data) for name, data in files.items() if name in MODELS)
    print(f"{len(MODELS)} models of mediapipe {VERSION}, {size:,} bytes: checksums agree")
    return 0


if __name__ == "__main__":
    sys.exit(main())
