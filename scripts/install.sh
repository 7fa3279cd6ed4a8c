#!/usr/bin/env bash
# scripts/install.sh serve|all: make .venv hold one layer of requirements, from the lock of the Python found. Quick when nothing changed.
# PYTHON names the interpreter of a new .venv. GPU=1 and GPU=0 choose TensorFlow with and without CUDA, also for later
# calls; default: with CUDA if nvidia-smi works.
set -euo pipefail
layer=${1:?serve or all}
cd "$(dirname "$0")/.."
say() { printf 'face_emotion: %s\n' "$*"; }
fail() { say "$@" >&2; exit 1; }

venv_version() { .venv/bin/python -c 'import sys; print("py%d%d" % sys.version_info[:2])' 2>/dev/null; }

supported() { "$1" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 14))' 2>/dev/null; }

find_python() {
    if [ -n "${PYTHON:-}" ]; then
        supported "$PYTHON" || fail "PYTHON=$PYTHON is not a Python from 3.10 to 3.14"
        echo "$PYTHON"
        return
    fi
    # What all of face_emotion runs on comes first; on 3.14, TensorFlow is missing.
    for candidate in python3.11 python3.12 python3.13 python3.10 python3 python3.14; do
        command -v "$candidate" >/dev/null 2>&1 && supported "$candidate" && { echo "$candidate"; return; }
    done
    fail "no Python from 3.10 to 3.14 found. Install one, for example: apt-get install python3 python3-venv, or name it: make install PYTHON=/path/to/python3.13"
}

make_venv() {
    local python
    python=$(find_python)
    rm -rf .venv
    "$python" -m venv .venv 2>/dev/null && return
    rm -rf .venv  # Debian's python3 without python3-venv: no ensurepip, but pip may be there
    "$python" -m venv --without-pip .venv && "$python" -m pip --python .venv/bin/python install -q pip 2>/dev/null && return
    rm -rf .venv
    fail "$python cannot make a virtual environment with pip. On Debian: apt-get install python3-venv"
}

wants_gpu() {
    case ${GPU:-} in
        0 | 1) echo "$GPU" >.venv/gpu ;;
        "") ;;
        *) fail "GPU=$GPU is neither 0 nor 1" ;;
    esac
    if [ -f .venv/gpu ]; then [ "$(cat .venv/gpu)" = 1 ]; else nvidia-smi >/dev/null 2>&1; fi
}

locked() { sed 's/#.*//' "$1" | cat - settings.ini setup.py | sha256sum | cut -d' ' -f1; }

requirements() {  # the file that a layer is installed from
    if [ "$(uname -s)-$(uname -m)" != Linux-x86_64 ]; then echo settings.ini; else echo "requirements/$1-$version.txt"; fi
}

installed() { [ -f "$2" ] && [ -f ".venv/installed-$1" ] && [ "$(cat ".venv/installed-$1")" = "$(locked "$2") $PWD" ]; }

[ -x .venv/bin/python ] && venv_version >/dev/null || make_venv
version=$(venv_version)
if [ "$layer" = all ] && [ "$version" = py314 ]; then
    say "TensorFlow does not support Python 3.14 yet: installing the serving layer, without training, notebooks and tests. For everything: rm -r .venv && make install PYTHON=python3.13 (3.10 to 3.13)"
    layer=serve
fi
if [ "$layer" = serve ] && [ -f .venv/installed-all ]; then layer=all; fi  # it contains the serving layer
lock=$(requirements "$layer")
if [ "$layer" = all ] && [ "$lock" != settings.ini ] && wants_gpu; then lock=${lock/%.txt/-gpu.txt}; fi
[ -f "$lock" ] || fail "there is no lock file $lock for the Python in .venv. Remove .venv and name another: make install PYTHON=python3.11"
installed "$layer" "$lock" && exit 0

say "installing the requirements ($lock) into .venv"
export PIP_DISABLE_PIP_VERSION_CHECK=1
if [ "$lock" = settings.ini ]; then
    extra=""; [ "$layer" = all ] && extra="[dev]"
    .venv/bin/pip install -q -e ".$extra"
else
    # Packages that share files: the one that is not in the lock has to go first.
    other=""
    for package in opencv-python opencv-python-headless opencv-contrib-python tensorflow tensorflow-cpu; do
        grep -q "^$package==" "$lock" || other="$other $package"
    done
    .venv/bin/pip uninstall -q -y $other 2>/dev/null || true
    .venv/bin/pip install -q --no-deps --no-compile -r "$lock"
    .venv/bin/python -m compileall -qq -j0 .venv/lib || true  # on all cores; some packages hold files of Python 2
    .venv/bin/pip install -q --no-deps --no-build-isolation --use-pep517 -e .
fi
problem=$(.venv/bin/python -c 'import cv2' 2>&1) || case "$problem" in
    *libGL*|*libgthread*|*libglib*) fail "OpenCV needs a system library that is missing. On Debian: apt-get install libgl1 libglib2.0-0 (${problem##*ImportError: })" ;;
    *) fail "OpenCV cannot be imported: $problem" ;;
esac
rm -f .venv/installed-*
echo "$(locked "$lock") $PWD" >".venv/installed-$layer"
