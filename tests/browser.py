"""A real browser for the tests: Debian's chromium, driven by playwright, with a recorded face as its camera.

Tests that import this module are skipped where chromium, playwright or scikit-image is missing.
"""

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
skimage_data = pytest.importorskip(
    "skimage.data", reason="scikit-image, which brings the picture of a face, is not installed"
)

sync_api.expect.set_options(timeout=30_000)  # its own 5 seconds are too short on a busy machine
CHROMIUM = shutil.which("chromium")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine (apt-get install chromium)")
FLAGS = (
    "--no-sandbox",
    "--use-fake-ui-for-media-stream",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
FAKE_CAMERA = "--use-fake-device-for-media-stream"  # shows chromium's green test pattern


def launch(playwright, *flags: str):
    "A chromium that lets pages use the camera without asking."
    return playwright.chromium.launch(executable_path=CHROMIUM, args=[*FLAGS, *flags])


def record_face(
    path: Path,  # file to write, ending in .mjpeg
    left: int,  # first column of the portrait that is recorded; a larger value moves the face to the left
) -> tuple[str, str]:  # flags that make the recording chromium's camera
    "Record a second of 640x480 motion JPEG: head and shoulders of the astronaut, swaying a little."
    picture = cv2.cvtColor(skimage_data.astronaut(), cv2.COLOR_RGB2BGR)
    with open(path, "wb") as file:
        for turn in np.linspace(0, 2 * np.pi, 30, endpoint=False):
            x, y = left + round(8 * np.sin(turn)), 10 + round(5 * np.cos(turn))
            file.write(cv2.imencode(".jpg", cv2.resize(picture[y : y + 300, x : x + 400], (640, 480)))[1].tobytes())
    return FAKE_CAMERA, f"--use-file-for-fake-video-capture={path}"


def record_faces(
    path: Path,  # file to write, ending in .mjpeg
    count: int,  # faces side by side
) -> tuple[str, str]:  # flags that make the recording chromium's camera
    "Record a second of 640x480 motion JPEG with several faces of the same person."
    face = cv2.cvtColor(skimage_data.astronaut(), cv2.COLOR_RGB2BGR)[20:220, 130:330]
    side = 640 // count
    with open(path, "wb") as file:
        for turn in np.linspace(0, 2 * np.pi, 30, endpoint=False):
            frame = np.full((480, 640, 3), 90, np.uint8)
            for i in range(count):
                y = 100 + 20 * i + round(5 * np.sin(turn + i))
                frame[y : y + side, i * side : (i + 1) * side] = cv2.resize(face, (side, side))
            file.write(cv2.imencode(".jpg", frame)[1].tobytes())
    return FAKE_CAMERA, f"--use-file-for-fake-video-capture={path}"
