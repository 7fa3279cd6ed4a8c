"""Servers for the tests: one in a thread with any settings, and one in a separate process."""

import base64
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from functools import lru_cache, partial
from pathlib import Path

import cv2
import psutil
from websockets.sync import client

from face_emotion.serve import BackgroundServer
from face_emotion.serving.transport import free_port

ROOT = Path(__file__).resolve().parents[1]
WAIT_S = 60.0  # for what must happen, however busy the machine is

connect = partial(client.connect, open_timeout=WAIT_S)


@lru_cache
def portrait() -> bytes:
    "One face, as JPEG: the astronaut, 512x512."
    from skimage import data

    return cv2.imencode(".jpg", data.astronaut()[..., ::-1])[1].tobytes()


@lru_cache
def pair() -> bytes:
    "Two faces side by side, as JPEG."
    from skimage import data

    face = data.astronaut()[:300, 90:390, ::-1]
    return cv2.imencode(".jpg", cv2.hconcat([face, face[:, ::-1]]))[1].tobytes()


def as_text(image: bytes, **more) -> str:
    "A frame as a message of the old JSON API."
    return json.dumps({"image": base64.b64encode(image).decode(), **more})


class ThreadedServer(BackgroundServer):
    "The real server in a thread of the test, so that a test can look inside."

    @property
    def service(self):
        return self.app.state.service

    def connect(self, path: str = "/ws/emotion", **options):
        return connect(self.url.replace("http", "ws") + path, **{"max_size": None, "compression": None, **options})

    def metric(self, line: str) -> float:
        return read_metric(self.url, line)


class ServerProcess:
    "`python -m face_emotion.serve` as a process with its own working folder."

    def __init__(
        self,
        folder: Path,
        *args: str,
        command: tuple[str, ...] = ("-m", "face_emotion.serve"),
        wait: bool = True,
        port: int | None = None,
        **env: str,
    ):
        self.folder, self.port = folder, port or free_port()
        self.url, self.ws = f"http://127.0.0.1:{self.port}", f"ws://127.0.0.1:{self.port}/ws/emotion"
        environment = {**os.environ, "PYTHONPATH": str(ROOT), **env}
        self.output = open(folder / "output.txt", "ab")
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            [sys.executable, *command, "--host", "127.0.0.1", "--port", str(self.port), *args],
            cwd=folder,
            env=environment,
            stdout=self.output,
            stderr=self.output,
        )
        if wait:
            self.wait_ready()

    def wait_ready(self, status: int = 200) -> None:
        wait_until(lambda: self.process.poll() is not None or fetch(self.url + "/readyz")[0] == status)
        assert self.process.poll() is None, self.text()[-3000:]
        self.ready_s = time.monotonic() - self.started

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        with contextlib.suppress(psutil.NoSuchProcess):
            family = [*psutil.Process(self.process.pid).children(recursive=True), psutil.Process(self.process.pid)]
            for p in family:
                with contextlib.suppress(psutil.NoSuchProcess):
                    p.kill()
        self.process.wait(WAIT_S)
        self.output.close()

    def connect(self, **options):
        return connect(self.ws, **{"max_size": None, "compression": None, **options})

    def stop(self) -> tuple[int, float]:
        "SIGTERM: exit code and seconds."
        start = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30), time.monotonic() - start  # less than a client that never answers could delay it

    def children(self) -> list[psutil.Process]:
        "Worker processes, without the helper process of multiprocessing."

        def works(p: psutil.Process) -> bool:
            try:
                return "resource_tracker" not in " ".join(p.cmdline())
            except psutil.Error:  # a zombie, or gone
                return False

        return [p for p in psutil.Process(self.process.pid).children() if works(p)]

    def memory_mb(self) -> float:
        return psutil.Process(self.process.pid).memory_info().rss / 2**20

    def text(self) -> str:
        return (self.folder / "output.txt").read_text(errors="replace")

    def log(self) -> str:
        return "".join(
            p.read_text(encoding="utf-8", errors="replace") for p in sorted((self.folder / "logs").glob("app_*.log"))
        )

    def metric(self, line: str) -> float:
        return read_metric(self.url, line)


def fetch(url: str, data: bytes | None = None, timeout: float = WAIT_S, **headers: str) -> tuple[int, bytes]:
    "Status and body of a response; status 0 if nothing answers."
    request = urllib.request.Request(url, data, {k.replace("_", "-"): v for k, v in headers.items()})
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as e:
        return e.code, e.read()
    except OSError:
        return 0, b""


def read_metric(url: str, line: str) -> float:
    "The value of a metric, by its name and labels; 0 if it is missing."
    text = fetch(url + "/metrics")[1].decode()
    return next((float(row.rpartition(" ")[2]) for row in text.splitlines() if row.startswith(line + " ")), 0.0)


def wait_until(condition, seconds: float = WAIT_S) -> None:
    "Wait for a condition, and fail if it does not become true in time."
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{condition} did not become true in {seconds:g} seconds"
        time.sleep(0.05)
