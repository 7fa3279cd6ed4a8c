"""Make the lock files in requirements/ from settings.ini: `make lock` (needs uv).

One per layer and Python, for Linux on x86-64, without registry addresses.
"""

import subprocess
import sys
import tempfile
from configparser import ConfigParser
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PYTHONS = ("3.10", "3.11", "3.12")
# uv ignores upper bounds on Python in a package's metadata, pip does not.
CONSTRAINTS = "backports-strenum<1.3; python_version >= '3.11'\nbackports-strenum<2; python_version < '3.11'\n"
# Serving reads only the model files of the mediapipe wheel, so it needs none of its dependencies. It opens no window.
SERVE_ALONE = ["mediapipe==0.10.21"]
HEADLESS = {"opencv-python": "opencv-python-headless"}


def layers() -> dict[str, list[str]]:
    "The requirements of the two lock files."
    config = ConfigParser(delimiters=["="], interpolation=None)
    config.read(ROOT / "settings.ini", encoding="utf-8")
    lines = {
        k: [x.strip() for x in v.splitlines() if x.strip()]
        for k, v in config["DEFAULT"].items()
        if k.endswith("requirements")
    }
    base = lines.pop("requirements")
    serve = []
    for requirement in (r for r in base if r not in SERVE_ALONE):
        name, equals, version = requirement.partition("==")
        serve.append(HEADLESS.get(name, name) + equals + version)
    return {"all": base + sum(lines.values(), []) + ["setuptools", "wheel"], "serve": serve + ["setuptools", "wheel"]}


def compile_lock(requirements: list[str], python: str, constraints: str) -> str:
    "What `uv pip compile` resolves, one pinned package a line."
    with tempfile.TemporaryDirectory() as d:
        source, limits = Path(d) / "in.txt", Path(d) / "limits.txt"
        source.write_text("\n".join(requirements))
        limits.write_text(constraints)
        options = ["-q", "--no-header", "--no-annotate", "--python-version", python, "-c", str(limits)]
        command = ["uv", "pip", "compile", *options, str(source)]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def main() -> int:
    "Write all lock files."
    wanted = layers()
    for python in PYTHONS:
        everything = compile_lock(wanted["all"], python, CONSTRAINTS)
        pins = "\n".join(line for line in everything.splitlines() if not line.startswith(tuple(HEADLESS)))
        serving = compile_lock(wanted["serve"], python, CONSTRAINTS + pins) + "\n".join(SERVE_ALONE) + "\n"
        for layer, text in (("all", everything), ("serve", serving)):
            (ROOT / "requirements" / f"{layer}-py{python.replace('.', '')}.txt").write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
