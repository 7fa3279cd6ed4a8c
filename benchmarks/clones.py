"""Another clone of this repository as a process, for benchmarks that compare two of them."""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def python_of(
    root: Path,  # of a clone
) -> str:  # path of an interpreter
    "The interpreter of a clone's own environment; this one for this clone, or where there is none."
    python = root / ".venv" / "bin" / "python"
    return str(python) if root != ROOT and python.exists() else sys.executable


def environment_of(
    root: Path,  # of a clone
    **more: str,  # variables
) -> dict[str, str]:
    "The environment in which Python imports the package of a clone."
    return {**os.environ, "PYTHONPATH": str(root), **more}
