"""What happens when something breaks: a stop under load, a killed worker, a full disk, a clock jump, a bad model."""

import asyncio
import contextlib
import hashlib
import json
import re
import shutil
import signal
import subprocess
import sys
import threading
import time

import psutil
import pytest
from serving import WAIT_S, ServerProcess, connect, fetch, portrait, wait_until
from websockets.exceptions import ConnectionClosed

from face_emotion.core.config import BUNDLED_MODEL
from face_emotion.serving.client import EmotionClient

pytestmark = pytest.mark.timeout(240)


class Load(threading.Thread):
    "A client that sends one frame after the other, each when the last was answered, and counts."

    def __init__(self, server, protocol="emotion.v2"):
        super().__init__(daemon=True)
        self.server, self.protocol = server, protocol
        self.sent = self.answered = 0
        self.code, self.ended, self.errors = None, 0.0, []
        self.start()

    def run(self):
        with connect(self.server.ws, subprotocols=[self.protocol], compression=None) as ws:
            with contextlib.suppress(ConnectionClosed):
                if self.protocol == "emotion.v2":
                    ws.recv(WAIT_S)
                while True:
                    ws.send(portrait())
                    self.sent += 1
                    answer = json.loads(ws.recv(WAIT_S))
                    self.answered += 1
                    if "error" in answer:
                        self.errors.append(answer["error"]["code"])
            self.code, self.ended = ws.close_code, time.monotonic()


# ---------------------------------------------------------------- SIGTERM


@pytest.mark.parametrize("workers", [1, 2])
def test_stop_under_load(tmp_path, workers):
    "Frames that were accepted are answered, sockets close with 1001, exit code 0."
    with ServerProcess(tmp_path, "--workers", str(workers)) as server:
        clients = [Load(server) for _ in range(4)]
        wait_until(lambda: all(c.answered > 3 for c in clients))
        code, seconds = server.stop()
        for c in clients:
            c.join(WAIT_S)
    lost = sum(c.sent - c.answered for c in clients)
    sent, codes = sum(c.sent for c in clients), [int(c.code) for c in clients]
    print(f"\nSIGTERM with {workers} workers: exit {code} after {seconds:.2f} s")
    print(f"{sent} frames sent, {lost} unanswered; close codes {codes}")
    assert code == 0
    assert [c.code for c in clients] == [1001] * 4 and not any(c.errors for c in clients)
    assert lost <= len(clients), "at most the frame that each client sent when the server had stopped reading"


def test_stop_answers_what_was_accepted(tmp_path):
    "Frames that the server has certainly received are all answered, or replaced by a later one."
    with ServerProcess(tmp_path) as server, connect(server.ws, subprotocols=["emotion.v2"], compression=None) as ws:
        ws.recv(WAIT_S)
        for _ in range(60):
            ws.send(portrait())
        first = json.loads(ws.recv(WAIT_S))
        wait_until(lambda: server.metric("face_emotion_frames_dropped_total") > 50)
        code, _ = server.stop()
        answers = [first]
        with pytest.raises(ConnectionClosed):
            while True:
                answers.append(json.loads(ws.recv(WAIT_S)))
    assert answers[-1]["seq"] == 60 and len(answers) + answers[-1]["dropped"] == 60
    assert ws.close_code == 1001 and code == 0


SLEEPER = """
import sys, time
from websockets.sync.client import connect
ws = connect(sys.argv[1]).__enter__()
print("in", flush=True)
time.sleep(60)
"""


def test_stop_with_a_client_that_does_not_answer(tmp_path):
    "A client that is suspended itself cannot delay the server's stop."
    with ServerProcess(tmp_path) as server:
        sleeper = subprocess.Popen([sys.executable, "-c", SLEEPER, server.ws], stdout=subprocess.PIPE)
        assert sleeper.stdout.readline() == b"in\n"
        sleeper.send_signal(signal.SIGSTOP)
        try:
            assert server.stop()[0] == 0
        finally:
            sleeper.kill()
            sleeper.wait()
            sleeper.stdout.close()


def test_interrupt_and_early_stop(tmp_path):
    with ServerProcess(tmp_path) as server:
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(WAIT_S) == 0 and "Traceback" not in server.text()
    early = tmp_path / "early"
    early.mkdir()
    with ServerProcess(early, wait=False) as server:
        wait_until(lambda: "Ctrl-C stops" in server.text())
        assert server.stop()[0] == 0


# ---------------------------------------------------------------- a worker process is killed


def test_killed_worker_is_replaced(tmp_path):
    with ServerProcess(tmp_path, "--workers", "2") as server:
        wait_until(lambda: len(server.children()) == 2)
        clients = []
        while len(clients) < 4 or (len(clients) < 40 and not all(_serves(p, server.port) for p in server.children())):
            clients.append(Load(server))  # the kernel chooses the worker
            wait_until(lambda: clients[-1].answered > 0)
        victim = min(server.children(), key=lambda p: _serves(p, server.port) or 99)
        start = time.monotonic()
        victim.kill()
        wait_until(lambda: len([p for p in server.children() if p.pid != victim.pid]) == 2)
        replaced = time.monotonic() - start
        cut = [c for c in clients if not c.is_alive() or c.join(1) or not c.is_alive()]
        survivors = [c for c in clients if c not in cut]
        before = [c.answered for c in survivors]
        answer = asyncio.run(_ask(server))
        served = time.monotonic() - start
        wait_until(lambda: all(c.answered > b for c, b in zip(survivors, before)))  # of the other worker
        codes = [int(c.code) for c in cut]
        print(f"\nworker killed: {len(cut)} of {len(clients)} sockets cut, close codes {codes}")
        print(f"replaced after {replaced:.1f} s, a reconnecting client answered within {served:.1f} s")
        assert answer["results"] and all(c.sent - c.answered <= 1 for c in cut)
        wait_until(lambda: fetch(server.url + "/readyz")[0] == 200)
        wait_until(lambda: server.metric("face_emotion_connections") == len(survivors))  # without the dead worker


def _serves(process: psutil.Process, port: int) -> int:
    return sum(c.status == psutil.CONN_ESTABLISHED and c.laddr.port == port for c in process.net_connections())


async def _ask(server) -> dict:
    async with EmotionClient(server.ws) as client:
        return await client.ask(portrait())


def test_emotion_client_survives_a_killed_worker(tmp_path):
    async def stream(server):
        answers = []
        async with EmotionClient(server.ws) as client:
            for n in range(60):
                answers.append(await client.ask(portrait()))
                if n == 20:
                    for p in server.children():
                        p.kill()
            return answers, client.connects

    with ServerProcess(tmp_path, "--workers", "2") as server:
        wait_until(lambda: len(server.children()) == 2)
        answers, connects = asyncio.run(stream(server))
    assert len(answers) == 60 and all(a["results"] for a in answers) and connects >= 2


def test_counters_of_all_workers(tmp_path):
    with ServerProcess(tmp_path, "--workers", "2") as server:
        for _ in range(8):
            with connect(server.ws) as ws:
                ws.send("{")
                ws.recv(WAIT_S)
        wait_until(lambda: server.metric('face_emotion_errors_total{code="bad_json"}') == 8)
        assert server.stop()[0] == 0


# ---------------------------------------------------------------- the disk of the log is full


@pytest.fixture
def small_disk(tmp_path):
    "A tmpfs of 64 KB as the log folder."
    folder = tmp_path / "logs"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder], capture_output=True).returncode:
        pytest.skip("mounting a tmpfs needs root and the right to mount")
    yield folder
    subprocess.run(["umount", "-l", folder], check=False)


def test_full_log_disk(tmp_path, small_disk):
    "The log stops, but not the server; when there is room again, the log continues."
    with ServerProcess(tmp_path) as server:
        client = Load(server)
        wait_until(lambda: client.answered > 3)
        (small_disk / "ballast").write_bytes(b"x" * (psutil.disk_usage(str(small_disk)).free))
        before = client.answered
        for _ in range(150):
            fetch(server.url + "/healthz")  # lines for which there is no room, once the last page is full
        wait_until(lambda: client.answered > before + 20)
        assert not client.errors and 0 < server.text().count("cannot write the log") < 5
        size = len(server.log())
        (small_disk / "ballast").unlink()
        wait_until(lambda: len(server.log()) > size)
        print(f"\nlog disk full: {client.answered} frames answered, 0 errors, the log continued afterwards")
        assert server.stop()[0] == 0


# ---------------------------------------------------------------- the clock jumps

JUMP = """
import os, sys, time, logging
real, real_ns, flag = time.time, time.time_ns, os.environ["JUMP_FLAG"]
time.time = lambda: real() + (86400 if os.path.exists(flag) else 0)
time.time_ns = lambda: real_ns() + (86400 * 10**9 if os.path.exists(flag) else 0)  # logging uses it since Python 3.13
from face_emotion.serve import main
raise SystemExit(main(sys.argv[1:]))
"""


def test_clock_jumps_over_midnight(tmp_path):
    "A day forward and back under load: one file per day, no frame lost, no socket closed as idle."
    flag = tmp_path / "jump"
    (tmp_path / "jumping.py").write_text(JUMP)
    with ServerProcess(tmp_path, command=("jumping.py",), JUMP_FLAG=str(flag)) as server:
        client = Load(server)
        wait_until(lambda: client.answered > 3)
        flag.touch()
        before = client.answered
        wait_until(lambda: client.answered > before + 30 and len(list((tmp_path / "logs").glob("app_*.log"))) == 2)
        flag.unlink()
        before = client.answered
        wait_until(lambda: client.answered > before + 30)
        assert client.is_alive() and not client.errors and client.sent - client.answered <= 1
        lines = [p.read_text() for p in sorted((tmp_path / "logs").glob("app_*.log"))]
        assert all(re.search(r"Frame received\. Faces detected: 1", t) for t in lines)
        print(f"\nclock jump: {client.answered} frames answered, 0 lost, {len(lines)} log files")
        assert server.stop()[0] == 0


# ---------------------------------------------------------------- models that cannot be loaded


def broken(tmp_path, kind: str) -> str:
    "The stem of a copy of the bundled model with one defect."
    stem = tmp_path / "model" / BUNDLED_MODEL.name
    stem.parent.mkdir()
    for ending in (".json", ".tflite"):
        shutil.copy(f"{BUNDLED_MODEL}{ending}", f"{stem}{ending}")
    tflite, metadata = stem.with_name(stem.name + ".tflite"), stem.with_name(stem.name + ".json")
    if kind == "missing":
        tflite.unlink()
    if kind == "truncated":
        tflite.write_bytes(tflite.read_bytes()[:100_000])
    if kind == "not ours":
        metadata.write_text("{}")
    if kind == "not json":
        metadata.write_bytes(b"\xff\xfe\0")
    if kind == "a folder":
        tflite.unlink()
        tflite.mkdir()
    if kind == "foreign file":
        tflite.write_bytes(b"TFL3" + bytes(1000))
        content = json.loads(metadata.read_text())
        content["files"][tflite.name] = {"bytes": 1004, "sha256": hashlib.sha256(tflite.read_bytes()).hexdigest()}
        metadata.write_text(json.dumps(content))
    return str(stem)


@pytest.mark.parametrize("kind", ["missing", "truncated", "not ours", "not json", "a folder", "foreign file"])
def test_model_that_cannot_be_loaded(tmp_path, kind):
    with ServerProcess(tmp_path, "--model", broken(tmp_path, kind), wait=False) as server:
        server.wait_ready(503)
        assert fetch(server.url + "/healthz")[0] == 200 and fetch(server.url + "/")[0] == 200
        with connect(server.ws) as ws:
            with pytest.raises(ConnectionClosed):
                ws.recv(WAIT_S)
            assert (ws.close_code, ws.close_reason) == (1011, "Model not loaded")
        reason = re.search(r"ERROR - Model not loaded: (.+)", server.log())
        assert reason and len(reason[1]) > 30
        print(f"\n{kind}: {reason[1][:150]}")


def test_classes_that_differ_from_the_model(tmp_path):
    with ServerProcess(tmp_path, wait=False, CLASS_NAMES="happy,sad") as server:
        server.wait_ready(503)
        assert "was trained for happy,sad,neutral" in server.log()
