#!/usr/bin/env bash
# scripts/install.sh serve|all: make .venv hold one layer of requirements, from the lock of the Python found. Quick when nothing changed.
set -euo pipefail
layer=${1:?serve or all}
cd "$(dirname "$0")/.."
fail() { printf 'face_emotion: %s\n' "$*" >&2; exit 1; }

venv_version() { .venv/bin/python -c 'import sys; print("py%d%d" % sys.version_info[:2])' 2>/dev/null; }

find_python() {
    for candidate in ${PYTHON:-} python3.11 python3.12 python3.10 python3; do
        command -v "$candidate" >/dev/null 2>&1 || continue
        "$candidate" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null && { echo "$candidate"; return; }
    done
    fail "no Python 3.10, 3.11 or 3.12 found (MediaPipe and TensorFlow have no wheels for others). Install one, for example: apt-get install python3 python3-venv, or name it: make install PYTHON=/path/to/python3.11"
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

locked() { sed 's/#.*//' "$1" | cat - settings.ini setup.py | sha256sum | cut -d' ' -f1; }

requirements() {
    if [ "$(uname -s)-$(uname -m)" = Linux-x86_64 ]; then echo "requirements/$layer-$version.txt"; else echo settings.ini; fi
}

[ -x .venv/bin/python ] && venv_version >/dev/null || make_venv
version=$(venv_version)
lock=$(requirements)
[ -f "$lock" ] || fail "there is no lock file $lock for this Python. Remove .venv and name another: make install PYTHON=python3.11"
stamp=.venv/installed-$layer
want="$(locked "$lock") $PWD"
if [ "$layer" = serve ] && [ -f .venv/installed-all ] && [ "$(cat .venv/installed-all)" = "$(locked "requirements/all-$version.txt") $PWD" ]; then exit 0; fi
[ -f "$stamp" ] && [ "$(cat "$stamp")" = "$want" ] && exit 0

echo "face_emotion: installing the requirements ($lock) into .venv"
export PIP_DISABLE_PIP_VERSION_CHECK=1
if [ "$lock" = settings.ini ]; then
    extra=""; [ "$layer" = all ] && extra="[dev]"
    .venv/bin/pip install -q -e ".$extra"
else
    if [ "$layer" = all ]; then .venv/bin/pip uninstall -q -y opencv-python-headless 2>/dev/null || true; fi
    .venv/bin/pip install -q --no-deps -r "$lock"
    .venv/bin/pip install -q --no-deps --no-build-isolation -e .
fi
problem=$(.venv/bin/python -c 'import cv2' 2>&1) || case "$problem" in
    *libGL*|*libgthread*|*libglib*) fail "OpenCV needs a system library that is missing. On Debian: apt-get install libgl1 libglib2.0-0 (${problem##*ImportError: })" ;;
    *) fail "OpenCV cannot be imported: $problem" ;;
esac
echo "$want" >"$stamp"
