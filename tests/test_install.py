"""`make install`: what it says when it cannot work, and that a second call does nothing."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SHELL_TOOLS = ("bash", "env", "sh", "rm", "cat", "sed", "cut", "grep", "sha256sum", "uname", "dirname")

# A Python that has everything and says that it is 3.11, or another version.
WORKING_PYTHON = """
[ "$1" = -c ] || exit 0
case "$2" in
*print*version_info*) echo py311 ;;
esac
"""
WORKING_PIP = 'echo "$@" >>pip.log'

# A Python 3.11 whose OpenCV misses a system library.
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


@pytest.fixture
def venv(project) -> Path:
    "A .venv whose Python does nothing and whose pip writes its arguments to pip.log."
    write_program(project / ".venv" / "bin" / "python", WORKING_PYTHON)
    write_program(project / ".venv" / "bin" / "pip", WORKING_PIP)
    return project / ".venv"


def install(project: Path, path: str, layer: str = "serve", **env: str) -> subprocess.CompletedProcess:
    "Run the install script."
    return subprocess.run(
        ["bash", "scripts/install.sh", layer],
        cwd=project,
        env={"PATH": path, "HOME": str(project), **env},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_no_suitable_python(project):
    done = install(project, path_with(project / "bin", python3="exit 1"))
    assert done.returncode == 1
    assert "no Python from 3.10 to 3.14 found" in done.stderr
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


def test_a_named_python_that_is_too_old(project):
    done = install(project, path_with(project / "bin", old="exit 1", python3="exit 0"), PYTHON="old")
    assert done.returncode == 1
    assert "PYTHON=old is not a Python from 3.10 to 3.14" in done.stderr


def test_python_314_gets_the_serving_layer(project, venv):
    write_program(venv / "bin" / "python", WORKING_PYTHON.replace("py311", "py314"))
    done = install(project, path_with(project / "bin"), "all")
    assert done.returncode == 0, done.stderr
    assert "TensorFlow does not support Python 3.14 yet" in done.stdout
    assert "requirements/serve-py314.txt" in (project / "pip.log").read_text()


@pytest.mark.parametrize(
    "nvidia_smi, env, lock",
    [
        ("exit 0", {}, "all-py311-gpu.txt"),
        ("exit 9", {}, "all-py311.txt"),
        ("exit 0", {"GPU": "0"}, "all-py311.txt"),
        ("exit 9", {"GPU": "1"}, "all-py311-gpu.txt"),
    ],
)
def test_a_graphics_card_chooses_the_lock(project, venv, nvidia_smi, env, lock):
    path = path_with(project / "bin", **{"nvidia-smi": nvidia_smi})
    done = install(project, path, "all", **env)
    assert done.returncode == 0, done.stderr
    assert f"-r requirements/{lock}" in (project / "pip.log").read_text()
    for layer in ("all", "serve"):
        assert install(project, path, layer).stdout == "", "installed again although nothing changed"


def test_a_wrong_choice_of_the_graphics_card(project, venv):
    done = install(project, path_with(project / "bin"), "all", GPU="yes")
    assert done.returncode == 1
    assert "GPU=yes is neither 0 nor 1" in done.stderr


def test_a_changed_lock_is_installed_again(project, venv):
    path = path_with(project / "bin")
    install(project, path, "all")
    with (project / "requirements" / "all-py311.txt").open("a") as f:
        f.write("other==1.0\n")
    assert "requirements/all-py311.txt" in install(project, path, "serve").stdout


@pytest.mark.skipif(not any((ROOT / ".venv").glob("installed-*")), reason="this .venv was not made by make install")
def test_a_second_call_does_nothing():
    layer = "all" if (ROOT / ".venv" / "installed-all").exists() else "serve"
    command = ["bash", "scripts/install.sh", layer]
    done = subprocess.run(command, cwd=ROOT, env=os.environ, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0
    assert done.stdout == "", "installed again although nothing changed"
