"""`make install`: what it says when it cannot work, and that a second call does nothing."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SHELL_TOOLS = ("bash", "env", "sh", "rm", "cat", "sed", "cut", "sha256sum", "uname", "dirname")

# A Python 3.11 that has everything, but whose OpenCV misses a system library.
PYTHON_WITHOUT_LIBGL = """
[ "$1" = -c ] || exit 0
case "$2" in
*version_info*print* | *print*version_info*) echo py311 ;;
*cv2*)
    echo "ImportError: libGL.so.1: cannot open shared object file" >&2
    exit 1
    ;;
esac
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    "The files that installing reads, without a .venv."
    for name in ("scripts/install.sh", "settings.ini", "setup.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    shutil.copytree(ROOT / "requirements", tmp_path / "requirements")
    return tmp_path


def write_program(path: Path, text: str) -> None:
    "A shell script that can be run."
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def path_with(folder: Path, **programs: str) -> str:
    "A PATH with the shell's tools and these programs only."
    for name, text in programs.items():
        write_program(folder / name, text)
    folder.mkdir(exist_ok=True)
    for name in SHELL_TOOLS:
        (folder / name).symlink_to(shutil.which(name))
    return str(folder)


def install(project: Path, path: str) -> subprocess.CompletedProcess:
    "Run the install script for the serving layer."
    return subprocess.run(
        ["bash", "scripts/install.sh", "serve"],
        cwd=project,
        env={"PATH": path, "HOME": str(project)},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_no_suitable_python(project):
    done = install(project, path_with(project / "bin", python3="exit 1"))
    assert done.returncode == 1
    assert "no Python 3.10, 3.11 or 3.12 found" in done.stderr
    assert "apt-get install" in done.stderr


def test_no_venv_module(project):
    done = install(project, path_with(project / "bin", python3='[ "$1" = -c ] && exit 0; exit 1'))
    assert done.returncode == 1
    assert "apt-get install python3-venv" in done.stderr
    assert not (project / ".venv").exists()


def test_missing_libgl(project):
    write_program(project / ".venv" / "bin" / "python", PYTHON_WITHOUT_LIBGL)
    write_program(project / ".venv" / "bin" / "pip", "exit 0")
    done = install(project, path_with(project / "bin"))
    assert done.returncode == 1
    assert "apt-get install libgl1" in done.stderr
    assert "libGL.so.1" in done.stderr


@pytest.mark.skipif(not any((ROOT / ".venv").glob("installed-*")), reason="this .venv was not made by make install")
def test_a_second_call_does_nothing():
    layer = "all" if (ROOT / ".venv" / "installed-all").exists() else "serve"
    command = ["bash", "scripts/install.sh", layer]
    done = subprocess.run(command, cwd=ROOT, env=os.environ, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0
    assert done.stdout == "", "installed again although nothing changed"
