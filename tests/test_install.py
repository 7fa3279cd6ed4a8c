"""What `make install` says when it cannot work, and that it does nothing when there is nothing to do."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def copy(tmp_path) -> Path:
    "The files that installing reads, without a .venv."
    for name in ("scripts/install.sh", "settings.ini", "setup.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    shutil.copytree(ROOT / "requirements", tmp_path / "requirements")
    return tmp_path


def tools(folder: Path, **scripts: str) -> str:
    "A PATH with the shell's tools and these scripts only."
    folder.mkdir()
    for name in ("bash", "env", "sh", "rm", "cat", "sed", "cut", "sha256sum", "uname", "dirname"):
        (folder / name).symlink_to(shutil.which(name))
    for name, text in scripts.items():
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)
    return str(folder)


def install(copy: Path, path: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        ["bash", "scripts/install.sh", "serve"],
        cwd=copy,
        env={"PATH": path, "HOME": str(copy)},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_no_suitable_python(copy):
    done = install(copy, tools(copy / "bin", python3="exit 1"))
    assert (
        done.returncode == 1
        and "no Python 3.10, 3.11 or 3.12 found" in done.stderr
        and "apt-get install" in done.stderr
    )


def test_no_venv_module(copy):
    done = install(copy, tools(copy / "bin", python3='[ "$1" = -c ] && exit 0; exit 1'))
    assert done.returncode == 1 and "apt-get install python3-venv" in done.stderr and not (copy / ".venv").exists()


def test_missing_libgl(copy):
    fake = '[ "$1" = -c ] || exit 0; case "$2" in *version_info*print*|*print*version_info*) echo py311;; *cv2*) echo "ImportError: libGL.so.1: cannot open shared object file" >&2; exit 1;; esac; exit 0'
    path = tools(copy / "bin")
    (copy / ".venv" / "bin").mkdir(parents=True)
    for name, text in (("python", fake), ("pip", "exit 0")):
        (copy / ".venv" / "bin" / name).write_text(f"#!/bin/sh\n{text}\n")
        (copy / ".venv" / "bin" / name).chmod(0o755)
    done = install(copy, path)
    assert done.returncode == 1 and "apt-get install libgl1" in done.stderr and "libGL.so.1" in done.stderr


@pytest.mark.skipif(not any((ROOT / ".venv").glob("installed-*")), reason="this .venv was not made by make install")
def test_nothing_to_do_does_nothing():
    layer = "all" if (ROOT / ".venv" / "installed-all").exists() else "serve"
    done = subprocess.run(
        ["bash", "scripts/install.sh", layer], cwd=ROOT, env=os.environ, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0 and done.stdout == "", "installed again although nothing changed"
