"""Make the lock files in requirements/ from settings.ini: `make lock` (needs uv).

One per layer and Python, for Linux on x86-64, without registry addresses:

- `all-py3XX.txt`, TensorFlow for the processor, and `all-py3XX-gpu.txt`, TensorFlow with CUDA: 3.10 to 3.13
- `serve-py3XX.txt`, without TensorFlow, and OpenCV without windows: 3.10 to 3.14
"""

import re
import shutil
import subprocess
import sys
import tempfile
from configparser import ConfigParser
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
SERVE_ONLY = ("3.14",)  # TensorFlow has no wheels for it
# uv ignores upper bounds on Python in a package's metadata, pip does not.
CONSTRAINTS = "backports-strenum<1.3; python_version >= '3.11'\nbackports-strenum<2; python_version < '3.11'\n"
# Serving opens no window.
HEADLESS = ("opencv-python", "opencv-python-headless")
CUDA = ("tensorflow-cpu==", "tensorflow[and-cuda]==")
# mediapipe 0.10.21 holds these back in `all`, up to Python 3.12; serving has the current ones.
HELD_BACK = ("numpy==", "opencv-", "protobuf==")
BUILD = ["setuptools", "wheel"]
PIN = re.compile(r"[A-Za-z0-9._\[\],-]+==[A-Za-z0-9.+!]+( *;.*)?")


def layers() -> dict[str, list[str]]:
    "The requirements of the three kinds of lock files."
    config = ConfigParser(delimiters=["="], interpolation=None)
    config.read(ROOT / "settings.ini", encoding="utf-8")
    lines = {
        k: [x.strip() for x in v.splitlines() if x.strip()]
        for k, v in config["DEFAULT"].items()
        if k.endswith("requirements")
    }
    base = lines.pop("requirements")
    everything = base + sum(lines.values(), []) + BUILD
    return {
        "all": everything,
        "gpu": [line.replace(*CUDA) for line in everything],
        "serve": [line.replace(*HEADLESS) for line in base] + BUILD,
    }


def find_uv() -> str:
    "The program uv: on the PATH, or beside this Python."
    found = shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent))
    return found or sys.exit("make lock needs uv. Run: pip install uv")


def compile_lock(
    requirements: list[str],  # as in settings.ini
    python: str,  # such as "3.11"
    constraints: str = "",  # one a line, besides CONSTRAINTS
) -> str:
    "What `uv pip compile` resolves, one pinned package a line."
    with tempfile.TemporaryDirectory() as d:
        source, limits = Path(d) / "in.txt", Path(d) / "limits.txt"
        source.write_text("\n".join(requirements))
        limits.write_text(CONSTRAINTS + constraints)
        options = ["-q", "--no-header", "--no-annotate", "--python-version", python, "-c", str(limits)]
        options += ["--python-platform", "x86_64-manylinux_2_28"]
        command = [find_uv(), "pip", "compile", *options, str(source)]
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def not_pins(text: str) -> list[str]:
    "The lines of a lock file that are more than a name and a version: an index, an address, a path."
    return [line for line in text.splitlines() if line.strip() and not PIN.fullmatch(line.strip())]


def resolve(python: str) -> dict[str, str]:
    "The lock files for one Python: file name to text."
    wanted, tag = layers(), f"py{python.replace('.', '')}"
    if python in SERVE_ONLY:
        return {f"serve-{tag}.txt": compile_lock(wanted["serve"], python)}
    everything = compile_lock(wanted["all"], python)
    pins = "\n".join(line for line in everything.splitlines() if not line.startswith(HELD_BACK))
    return {
        f"all-{tag}.txt": everything,
        f"all-{tag}-gpu.txt": compile_lock(wanted["gpu"], python),
        f"serve-{tag}.txt": compile_lock(wanted["serve"], python, pins),
    }


def main() -> int:
    "Write all lock files; 1, and none is written, if one names more than packages and versions."
    files: dict[str, str] = {}
    for python in (*PYTHONS, *SERVE_ONLY):
        files.update(resolve(python))
    problems = [f"{name}: {line}" for name, text in files.items() for line in not_pins(text)]
    if problems:
        print("A lock file holds names and versions only, but there is:", *problems, sep="\n  ", file=sys.stderr)
        return 1
    for name, text in files.items():
        (ROOT / "requirements" / name).write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
