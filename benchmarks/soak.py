"""A server left running among bad clients: memory, errors, and what the good clients notice.

    python benchmarks/soak.py --minutes 30            20 clients, half of them bad; then the same good load alone
    python benchmarks/soak.py --minutes 0.2           the short form that tests/test_soak.py runs

Good clients send some frames a second each and wait for the answers. The bad ones, in turn: connect and vanish without a close; send garbage between frames; never read;
flood with frames; trickle half a message; upload rubbish by HTTP. The same good load without the bad ones is measured for ten seconds before each minute, on the same server.
"""

import argparse
import asyncio
import collections
import json
import multiprocessing
import os
import random
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import cv2
import psutil
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

ROOT = Path(__file__).resolve().parents[1]
GARBAGE = [
    b"",
    b"<html>",
    "{",
    '{"image": 5}',
    b"\x89PNG\r\n\x1a\n" + bytes(40),
    b"\xff\xd8\xff" + bytes(2000),
    '{"image": "' + "A" * 20_000 + '"}',
    b"x" * 2_200_000,
]


def picture() -> bytes:
    "A 640x480 frame with one face, JPEG quality 70."
    from skimage import data

    return cv2.imencode(
        ".jpg", cv2.resize(data.astronaut()[:384, :, ::-1], (640, 480)), [cv2.IMWRITE_JPEG_QUALITY, 70]
    )[1].tobytes()


class Run:
    "What one phase counted."

    def __init__(self, port: int):
        self.url, self.http, self.port = f"ws://127.0.0.1:{port}/ws/emotion", f"http://127.0.0.1:{port}", port
        self.latencies: list[float] = []
        self.counts: collections.Counter = collections.Counter()
        self.end = False
        self.frame = picture()


async def good(run: Run, rate: float) -> None:
    "A frame every 1/rate seconds, each answered before the next."
    while not run.end:
        try:
            async with connect(run.url, subprotocols=["emotion.v2"], compression=None) as ws:
                await ws.recv()
                await asyncio.sleep(random.random() / rate)
                while not run.end:
                    start = time.perf_counter()
                    await ws.send(run.frame)
                    answer = json.loads(await asyncio.wait_for(ws.recv(), 30))
                    run.latencies.append(time.perf_counter() - start)
                    run.counts["good: answered"] += 1
                    if "error" in answer or not answer["results"]:
                        run.counts[f"good: {answer.get('error', {}).get('code', 'no face')}"] += 1
                    await asyncio.sleep(max(0.0, 1 / rate - (time.perf_counter() - start)))
        except (ConnectionClosed, InvalidHandshake, OSError, asyncio.TimeoutError) as e:
            if not run.end:
                run.counts[f"good: {type(e).__name__}"] += 1
                await asyncio.sleep(0.2)


async def vanish(run: Run, ws) -> None:
    "A few frames, and gone without a word."
    for _ in range(random.randrange(4)):
        await ws.send(run.frame)
    ws.transport.abort()


async def rubbish(run: Run, ws) -> None:
    "Garbage between frames; every answer must come, and the right kind."
    for _ in range(30):
        await ws.send(random.choice(GARBAGE))
        answer = json.loads(await asyncio.wait_for(ws.recv(), 30))
        run.counts[f"bad: {answer['error']['code']}"] += 1
        await ws.send(run.frame)
        run.counts[
            "bad: answered" if "error" not in json.loads(await asyncio.wait_for(ws.recv(), 30)) else "bad: refused"
        ] += 1
        await asyncio.sleep(0.4)


async def flood(run: Run, ws) -> None:
    "2,000 frames within a second, if the line takes them; faster would only slow the machine that this runs on."
    for _ in range(20):
        for _ in range(100):
            await ws.send(b"<html>")
        await asyncio.sleep(0.05)
    await asyncio.sleep(2)


async def trickle(run: Run, ws) -> None:
    "The header of a large frame, then a few bytes now and then."
    ws.transport.write(b"\x82\xfe" + struct.pack(">H", 60_000) + bytes(4))
    for _ in range(10):
        ws.transport.write(bytes(100))
        await asyncio.sleep(0.5)
    ws.transport.abort()


HABITS = {f.__name__: f for f in (vanish, rubbish, flood, trickle)}


async def bad(run: Run, address: str, habits: tuple[str, ...]) -> None:
    "One bad client with an address of its own: another bad habit each time."
    while not run.end:
        kind = HABITS[random.choice(habits)]
        try:
            async with connect(
                run.url, compression=None, close_timeout=1, max_queue=None, local_addr=(address, 0)
            ) as ws:
                await kind(run, ws)
            run.counts[f"bad: {kind.__name__}"] += 1
        except (ConnectionClosed, InvalidHandshake, OSError, asyncio.TimeoutError) as e:
            run.counts[f"bad: {type(e).__name__}"] += 1
        if random.random() < 0.1:
            await asyncio.to_thread(upload_rubbish, run)
        await asyncio.sleep(random.random())


def upload_rubbish(run: Run) -> None:
    try:
        urllib.request.urlopen(
            urllib.request.Request(
                run.http + "/api/predict", random.randbytes(random.randrange(3_000_000)), {"Content-Type": "image/jpeg"}
            ),
            timeout=10,
        )
    except OSError as e:
        run.counts[f"bad: upload {getattr(e, 'code', type(e).__name__)}"] += 1


async def slow_reader(run: Run, address: str) -> None:
    "Never reads; sends until the line is full, and starts again when it is cut."
    while not run.end:
        try:
            s = socket.socket()
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            s.bind((address, 0))
            s.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(s, ("127.0.0.1", run.port))
            await loop.sock_sendall(
                s,
                b"GET /ws/emotion HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
            )
            garbage = b"\x82\x86\0\0\0\0<html>"
            while not run.end:
                await asyncio.wait_for(loop.sock_sendall(s, garbage), 5)
                run.counts["slow: sent"] += 1
                await asyncio.sleep(0.01)
        except (OSError, asyncio.TimeoutError) as e:
            run.counts[f"slow: {type(e).__name__}"] += 1
        finally:
            s.close()
        await asyncio.sleep(0.5)


def phase(port: int, seconds: float, n_good: int, n_bad: int, rate: float, habits: tuple[str, ...] = ()) -> Run:
    "Good clients for a while, with or without bad ones in a process of their own, so that they do not slow the good ones' clock."
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    other = context.Process(target=bad_ones, args=(port, seconds, n_bad, habits, results)) if n_bad else None
    if other:
        other.start()
    run = asyncio.run(clients(port, seconds, n_good, 0, rate, habits))
    if other:
        run.counts.update(results.get(timeout=60))
        other.join(30)
    return run


def bad_ones(port: int, seconds: float, n_bad: int, habits: tuple[str, ...], results) -> None:
    os.nice(10)  # in life they run elsewhere
    results.put(asyncio.run(clients(port, seconds, 0, n_bad, 1, habits)).counts)


async def clients(port: int, seconds: float, n_good: int, n_bad: int, rate: float, habits: tuple[str, ...]) -> Run:
    "Clients for a while; half of the bad ones are slow readers."
    run = Run(port)
    tasks = [asyncio.create_task(good(run, rate)) for _ in range(n_good)]
    address = lambda i: f"127.0.1.{i + 1}" if sys.platform == "linux" else "127.0.0.1"
    tasks += [
        asyncio.create_task(slow_reader(run, address(i)) if i % 2 else bad(run, address(i), habits))
        for i in range(n_bad)
    ]
    await asyncio.sleep(seconds)
    run.end = True
    done, late = await asyncio.wait(tasks, timeout=5)
    for t in late:
        t.cancel()
    for t in done:
        if (e := t.exception()) is not None:
            run.counts[f"harness: {e!r}"] += 1
    return run


def p(values: list[float], q: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * q))] * 1e3 if values else float("nan")


def metrics(port: int) -> str:
    return urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics").read().decode()


def soak(minutes: float, n_good: int, n_bad: int, rate: float, habits: tuple[str, ...] = tuple(HABITS)) -> dict:
    "The whole run; the figures as a dictionary."
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder, open(Path(folder) / "output.txt", "wb") as output:
        server = subprocess.Popen(
            [sys.executable, "-m", "face_emotion.serve", "--host", "127.0.0.1", "--port", str(port)],
            cwd=folder,
            stdout=output,
            stderr=output,
            env={**os.environ, "PYTHONPATH": str(ROOT), "SEND_TIMEOUT": "5"},
        )
        try:
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline:
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=2)
                    break
                except OSError:
                    time.sleep(0.2)
            return _measured(server, port, minutes, n_good, n_bad, rate, habits, Path(folder))
        finally:
            server.kill()
            server.wait()


def _measured(
    server: subprocess.Popen,
    port: int,
    minutes: float,
    n_good: int,
    n_bad: int,
    rate: float,
    habits: tuple[str, ...],
    folder: Path,
) -> dict:
    process, seconds = psutil.Process(server.pid), minutes * 60
    mb = lambda: process.memory_info().rss / 2**20
    phase(port, max(6, min(10, seconds / 4)), n_good, n_bad, rate, habits)  # warm: thread pools, interpreters, buffers
    time.sleep(1)
    start, memory, files = mb(), [], process.num_fds()
    among, alone, left = [], [], seconds
    while (
        left > 0
    ):  # a minute with the bad ones, some seconds without, and so on: whatever else the machine does falls on both
        alone.append(phase(port, min(10, max(5, seconds / 4)), n_good, 0, rate))
        among.append(phase(port, min(60, left), n_good, n_bad, rate, habits))
        memory.append(mb())
        print(
            f"minute {len(memory)}: {memory[-1]:.0f} MB, {process.num_fds()} files, p50 {p(among[-1].latencies, 0.5):.1f}, p95 {p(among[-1].latencies, 0.95):.1f} ms (alone p95 {p(alone[-1].latencies, 0.95):.1f}), machine load {os.getloadavg()[0]:.1f}",
            file=sys.stderr,
            flush=True,
        )
        left -= 60
    deadline = time.monotonic() + 30  # slow readers are cut after SEND_TIMEOUT
    while time.monotonic() < deadline and "face_emotion_connections 0.0" not in metrics(port):
        time.sleep(0.5)
    counts = sum((r.counts for r in among), collections.Counter())
    quiet, busy = [x for r in alone for x in r.latencies], [x for r in among for x in r.latencies]
    server_lines = [
        line
        for line in metrics(port).splitlines()
        if line.startswith("face_emotion")
        and any(
            k in line
            for k in (
                "errors_total{",
                "closed_total{",
                "refused_total{",
                "dropped_total ",
                "connections ",
                "frames_total ",
                "lost_total ",
            )
        )
    ]
    server.terminate()
    stopped = time.monotonic()
    code = server.wait(10)
    return {
        "minutes": minutes,
        "good clients": n_good,
        "bad clients": n_bad,
        "habits": ["slow_reader", *habits],
        "frames a second each": rate,
        "memory start MB": round(start, 1),
        "memory end MB": round(mb_last(memory), 1),
        "memory by minute": [round(m) for m in memory],
        "open files at start": files,
        "p50 alone ms": round(p(quiet, 0.5), 1),
        "p95 alone ms": round(p(quiet, 0.95), 1),
        "p50 among bad ms": round(p(busy, 0.5), 1),
        "p95 among bad ms": round(p(busy, 0.95), 1),
        "p95 ratio": round(p(busy, 0.95) / p(quiet, 0.95), 2),
        "p95 ratio by minute": [round(p(b.latencies, 0.95) / p(a.latencies, 0.95), 2) for a, b in zip(alone, among)],
        "answers to good": len(busy),
        "counts": dict(sorted(counts.items())),
        "server": server_lines,
        "tracebacks in log": sum(
            f.read_text(errors="replace").count("Traceback") for f in (folder / "logs").glob("*.log")
        ),
        "log bytes": sum(f.stat().st_size for f in (folder / "logs").glob("*.log")),
        "exit code": code,
        "exit seconds": round(time.monotonic() - stopped, 2),
    }


def mb_last(memory: list[float]) -> float:
    return statistics.median(memory[-3:])


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--good", type=int, default=10)
    parser.add_argument("--bad", type=int, default=10)
    parser.add_argument("--rate", type=float, default=5, help="frames a second of each good client")
    parser.add_argument(
        "--habits", default=",".join(HABITS), help="what the bad clients do that are no slow readers; default all"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="write the figures there as JSON")
    args = parser.parse_args(argv)
    random.seed(args.seed)
    figures = soak(args.minutes, args.good, args.bad, args.rate, tuple(args.habits.split(",")))
    text = json.dumps(figures, indent=1, ensure_ascii=False)
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(text + "\n", encoding="utf-8")
    print(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
