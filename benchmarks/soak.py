"""A server left running among misbehaving clients: memory, errors, and what well-behaved clients notice.

    python benchmarks/soak.py --minutes 30            20 clients, half of them misbehaving
    python benchmarks/soak.py --minutes 0.2           the short form that tests/test_soak.py runs
    python benchmarks/soak.py --minutes 30 --good 6 --bad 0 --attacks all
                                                      every habit of attacks.py at once, from two addresses each
    python benchmarks/soak.py --minutes 30 --good 6 --bad 0 --attacks all --engine ray
                                                      the same on Ray of this machine, with two replicas
    python benchmarks/soak.py --minutes 7 --good 6 --bad 0 --attacks all --table [--clone DIR]
                                                      each habit by itself, as a table; with another clone beside it

Good clients send a few frames per second each and wait for the answers. Bad clients take turns: they vanish without a
close, send garbage between frames, never read, flood the server with frames, send a message byte by byte, or upload
garbage by HTTP. Before each minute, the good clients are measured alone for ten seconds on the same server.
"""

import argparse
import asyncio
import collections
import contextlib
import json
import multiprocessing
import os
import random
import re
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import cv2
import psutil
from attacks import ATTACKS, attackers
from clones import ROOT, environment_of, python_of
from tabulate import tabulate
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

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
HANDSHAKE = (
    b"GET /ws/emotion HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


def picture() -> bytes:
    "A 640x480 frame with one face, as JPEG of quality 70."
    from skimage import data

    frame = cv2.resize(data.astronaut()[:384, :, ::-1], (640, 480))
    return cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, 70])[1].tobytes()


class Run:
    "What the clients of one phase counted."

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
    "A few frames, then disconnect without a close."
    for _ in range(random.randrange(4)):
        await ws.send(run.frame)
    ws.transport.abort()


async def garbage(run: Run, ws) -> None:
    "Garbage between frames. Every message must get the right kind of answer."
    for _ in range(30):
        await ws.send(random.choice(GARBAGE))
        answer = json.loads(await asyncio.wait_for(ws.recv(), 30))
        run.counts[f"bad: {answer['error']['code']}"] += 1
        await ws.send(run.frame)
        answer = json.loads(await asyncio.wait_for(ws.recv(), 30))
        run.counts["bad: refused" if "error" in answer else "bad: answered"] += 1
        await asyncio.sleep(0.4)


async def flood(run: Run, ws) -> None:
    "2,000 frames within a second. More would only slow down the machine that runs this benchmark."
    for _ in range(20):
        for _ in range(100):
            await ws.send(b"<html>")
        await asyncio.sleep(0.05)
    await asyncio.sleep(2)


async def trickle(run: Run, ws) -> None:
    "The header of a large frame, then a few bytes at a time."
    ws.transport.write(b"\x82\xfe" + struct.pack(">H", 60_000) + bytes(4))
    for _ in range(10):
        ws.transport.write(bytes(100))
        await asyncio.sleep(0.5)
    ws.transport.abort()


HABITS = {f.__name__: f for f in (vanish, garbage, flood, trickle)}


async def bad(run: Run, address: str, habits: tuple[str, ...]) -> None:
    "One bad client with its own address, and a different bad habit each time."
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
            await asyncio.to_thread(upload_garbage, run)
        await asyncio.sleep(random.random())


def upload_garbage(run: Run) -> None:
    "Upload random bytes."
    body = random.randbytes(random.randrange(3_000_000))
    try:
        request = urllib.request.Request(run.http + "/api/predict", body, {"Content-Type": "image/jpeg"})
        urllib.request.urlopen(request, timeout=10)
    except OSError as e:
        run.counts[f"bad: upload {getattr(e, 'code', type(e).__name__)}"] += 1


async def slow_reader(run: Run, address: str) -> None:
    "Never reads. Sends until the connection is full, and starts again when it is cut."
    while not run.end:
        try:
            s = socket.socket()
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            s.bind((address, 0))
            s.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(s, ("127.0.0.1", run.port))
            await loop.sock_sendall(s, HANDSHAKE)
            while not run.end:
                await asyncio.wait_for(loop.sock_sendall(s, b"\x82\x86\0\0\0\0<html>"), 5)
                run.counts["slow: sent"] += 1
                await asyncio.sleep(0.01)
        except (OSError, asyncio.TimeoutError) as e:
            run.counts[f"slow: {type(e).__name__}"] += 1
        finally:
            s.close()
        await asyncio.sleep(0.5)


def phase(port: int, seconds: float, plan: "Plan", hostile: bool = True) -> Run:
    "Good clients for a while. Bad ones run in another process, so that they do not slow the good ones' clock."
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    hostile = hostile and (plan.bad or plan.attacks)
    other = context.Process(target=bad_ones, args=(port, seconds, plan, results)) if hostile else None
    if other:
        other.start()
    run = asyncio.run(clients(port, seconds, plan, good_ones=True))
    if other:
        run.counts.update(results.get(timeout=60))
        other.join(30)
    return run


def bad_ones(port: int, seconds: float, plan: "Plan", results) -> None:
    "The bad clients of a phase, in their own process."
    os.nice(10)  # usually they run on other machines
    results.put(asyncio.run(clients(port, seconds, plan, good_ones=False)).counts)


async def clients(port: int, seconds: float, plan: "Plan", good_ones: bool) -> Run:
    "The good or the bad clients for a while; half of the bad ones are slow readers."
    run = Run(port)
    if good_ones:
        tasks = [asyncio.create_task(good(run, plan.rate)) for _ in range(plan.good)]
    else:
        attacks = attackers(plan.attacks, plan.addresses, port, run.counts, lambda: run.end)
        tasks = [asyncio.create_task(work) for work in attacks]
        for i in range(plan.bad):
            address = f"127.0.1.{i + 1}" if sys.platform == "linux" else "127.0.0.1"
            client = slow_reader(run, address) if i % 2 else bad(run, address, plan.habits)
            tasks.append(asyncio.create_task(client))
    await asyncio.sleep(seconds)
    run.end = True
    done, late = await asyncio.wait(tasks, timeout=5)
    for t in late:
        t.cancel()
    for t in done:
        if (e := t.exception()) is not None:
            run.counts[f"harness: {e!r}"] += 1
    return run


@dataclass(frozen=True)
class Plan:
    "What to run."

    minutes: float
    good: int  # well-behaved clients
    bad: int  # misbehaving clients, half of which never read
    rate: float  # frames per second of each good client
    habits: tuple[str, ...]  # of the bad clients that do read
    attacks: tuple[str, ...] = ()  # keys of ATTACKS
    addresses: int = 2  # of each attack
    engine: str = "local"  # of the server
    root: Path = ROOT  # folder of the clone that serves


def percentile(values: list[float], q: float) -> float:  # milliseconds
    "A quantile of some seconds."
    return sorted(values)[min(len(values) - 1, int(len(values) * q))] * 1e3 if values else float("nan")


def latencies(runs: list[Run]) -> list[float]:
    "All latencies of some phases."
    return [seconds for run in runs for seconds in run.latencies]


def metrics(port: int) -> str:
    "The text of `/metrics`."
    return urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics").read().decode()


def counters(port: int) -> list[str]:
    "The lines of `/metrics` that say what happened to clients and frames."
    ends = ("errors_total{", "closed_total{", "refused_total{", "dropped_total ", "connections ", "frames_total ")
    lines = [line for line in metrics(port).splitlines() if line.startswith("face_emotion")]
    return [line for line in lines if any(end in line for end in (*ends, "lost_total "))]


def start_server(port: int, folder: Path, output, plan: Plan) -> subprocess.Popen:
    "A server process of a clone, once it is ready. A clone with an environment of its own uses that."
    root = plan.root
    command = [python_of(root), "-m", "face_emotion.serve", "--host", "127.0.0.1", "--port", str(port)]
    env = environment_of(root, SEND_TIMEOUT="5", LOG_DIR="logs")
    if plan.engine == "ray":
        command += ["--engine", "ray"]
        env = {"RAY_REPLICAS_MIN": "2", "RAY_REPLICAS_MAX": "2", **env}
    server = subprocess.Popen(command, cwd=folder, stdout=output, stderr=output, env=env)
    deadline = time.monotonic() + (180 if plan.engine == "ray" else 60)
    while time.monotonic() < deadline and server.poll() is None:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=2)
            break
        except OSError:
            time.sleep(0.2)
    return server


@contextlib.contextmanager
def running(plan: Plan) -> Iterator[tuple[subprocess.Popen, int, Path]]:
    "A server of a clone, its port and its folder, which holds its output and logs."
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder, open(Path(folder) / "output.txt", "wb") as output:
        server = start_server(port, Path(folder), output, plan)
        try:
            yield server, port, Path(folder)
        finally:
            for process in family(server.pid):
                with contextlib.suppress(psutil.Error):
                    process.kill()
            server.wait()


def soak(plan: Plan) -> dict:
    "The whole run; its figures."
    with running(plan) as (server, port, folder):
        return measure(server, port, plan, folder)


def family(pid: int) -> list[psutil.Process]:
    "A process and all that it started."
    with contextlib.suppress(psutil.Error):
        return [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    return []


def memory_mb(pid: int) -> float:
    "The memory of a server: of its process, or of all its processes without what they share."
    total, processes = 0.0, family(pid)
    for process in processes:
        with contextlib.suppress(psutil.Error):
            info = process.memory_info()
            total += info.rss - (info.shared if len(processes) > 1 else 0)
    return total / 2**20


def open_files(pid: int) -> int:
    "The file descriptors of a server."
    total = 0
    for process in family(pid):
        with contextlib.suppress(psutil.Error):
            total += process.num_fds()
    return total


def reset_peak(pid: int) -> None:
    "Let the kernel forget the peaks of a server's memory."
    for process in family(pid):
        with contextlib.suppress(OSError):
            Path(f"/proc/{process.pid}/clear_refs").write_text("5")


def peak_mb(pid: int) -> float:
    "The peaks of a server's processes since `reset_peak`, added up; what it uses now where the kernel does not tell."
    total, processes = 0, family(pid)
    for process in processes:
        try:
            rows = Path(f"/proc/{process.pid}/status").read_text().splitlines()
            status = {
                name: value.split()[0] for name, _, value in (row.partition(":") for row in rows) if value.split()
            }
            shared = int(status["RssFile"]) + int(status["RssShmem"]) if len(processes) > 1 else 0
            total += int(status["VmHWM"]) - shared
        except (OSError, KeyError):
            return memory_mb(pid)
    return total / 1024


def attack_table(plan: Plan, roots: list[Path]) -> list[dict]:
    "One row for each attack and clone: what the good clients noticed, memory, and what the attackers got."
    seconds, rows = plan.minutes * 60 / len(plan.attacks) / len(roots), []
    for name in plan.attacks:
        for root in roots:
            one = replace(plan, attacks=(name,), root=root)
            with running(one) as (server, port, folder):
                phase(port, 3, one, hostile=False)  # warm up
                alone = phase(port, max(5, seconds / 3), one, hostile=False)
                before = memory_mb(server.pid)
                reset_peak(server.pid)
                among = phase(port, seconds, one)
                rows.append({"habit": name, "clone": _name(root), **_row(alone, among, before, peak_mb(server.pid))})
                rows[-1]["tracebacks"] = tracebacks(folder)
                print(rows[-1], file=sys.stderr, flush=True)
    return rows


def _name(root: Path) -> str:
    found = re.search(r'__version__ = "(.+)"', (root / "face_emotion" / "__init__.py").read_text(encoding="utf-8"))
    return f"{found[1] if found else '?'} in {root.name}" if root != ROOT else "this one"


def _row(alone: Run, among: Run, before: float, peak: float) -> dict:
    p95 = [percentile(run.latencies, 0.95) for run in (alone, among)]
    expected = len(alone.latencies)
    troubles = {k.partition(": ")[2]: n for k, n in among.counts.items() if k.startswith("good:")}
    answered = troubles.pop("answered", 0)
    got = {k.partition(": ")[2]: n for k, n in among.counts.most_common() if not k.startswith("good:")}
    return {
        "p95 alone ms": round(p95[0], 1),
        "p95 with ms": round(p95[1], 1),
        "ratio": round(p95[1] / p95[0], 2) if expected else float("nan"),
        "good answered": answered,
        "good refused": ", ".join(f"{n} {k}" for k, n in troubles.items()) or "none",
        "MB before": round(before),
        "MB peak": round(peak),
        "what the bad ones got": ", ".join(f"{n} {k}" for k, n in list(got.items())[:4]) or "nothing",
    }


def tracebacks(folder: Path) -> int:
    "Tracebacks in the logs and the output of a server."
    files = [*(folder / "logs").glob("*.log"), folder / "output.txt"]
    return sum(f.read_text(errors="replace").count("Traceback") for f in files)


def first_traceback(folder: Path) -> list[str]:
    "The lines of the first traceback; none if there is none."
    for file in (*(folder / "logs").glob("*.log"), folder / "output.txt"):
        before, found, text = file.read_text(errors="replace").partition("Traceback")
        if found:
            return [*before.splitlines()[-2:], *(found + text).splitlines()[:40]]
    return []


def measure(server: subprocess.Popen, port: int, plan: Plan, folder: Path) -> dict:
    "The figures of a running server, which is stopped at the end."
    pid, seconds = server.pid, plan.minutes * 60
    phase(port, max(6, min(10, seconds / 4)), plan)  # warm up
    time.sleep(1)
    start, files = memory_mb(pid), open_files(pid)
    memory, peaks, alone, among = minutes_of(pid, port, plan)

    deadline = time.monotonic() + 30  # slow readers are cut after SEND_TIMEOUT
    while time.monotonic() < deadline and "face_emotion_connections 0.0" not in metrics(port):
        time.sleep(0.5)
    server_lines = counters(port)
    server.terminate()
    stopped = time.monotonic()
    code = server.wait(60 if plan.engine == "ray" else 10)
    logs = list((folder / "logs").glob("*.log"))
    return {
        **{f"plan: {key}": value for key, value in asdict(plan).items() if key != "root"},
        "memory start MB": round(start, 1),
        "memory end MB": round(statistics.median(memory[-3:]), 1),
        "memory by minute": [round(m) for m in memory],
        "memory peak MB": round(max(peaks)),
        "open files at start": files,
        **compare(alone, among),
        "counts": dict(sorted(sum((run.counts for run in among), collections.Counter()).items())),
        "server": server_lines,
        "tracebacks in log": tracebacks(folder),
        "first traceback": first_traceback(folder),
        "log bytes": sum(f.stat().st_size for f in logs),
        "exit code": code,
        "exit seconds": round(time.monotonic() - stopped, 2),
    }


def minutes_of(pid: int, port: int, plan: Plan) -> tuple[list[float], list[float], list[Run], list[Run]]:
    """Memory after each minute, its peaks, and the phases without and with bad clients.

    They take turns, because other load on the machine then affects both.
    """
    memory, peaks, alone, among, left = [], [], [], [], plan.minutes * 60
    while left > 0:
        alone.append(phase(port, min(10, max(5, plan.minutes * 15)), plan, hostile=False))
        reset_peak(pid)
        among.append(phase(port, min(60, left), plan))
        peaks.append(peak_mb(pid))
        memory.append(memory_mb(pid))
        p50, p95 = (percentile(among[-1].latencies, q) for q in (0.5, 0.95))
        quiet = percentile(alone[-1].latencies, 0.95)
        print(f"minute {len(memory)}: {memory[-1]:.0f} MB, {open_files(pid)} files", end=", ", file=sys.stderr)
        print(f"p50 {p50:.1f}, p95 {p95:.1f} ms (alone {quiet:.1f})", file=sys.stderr, flush=True)
        left -= 60
    return memory, peaks, alone, among


def compare(alone: list[Run], among: list[Run]) -> dict:
    "What the good clients noticed of the bad ones."
    quiet, busy = latencies(alone), latencies(among)

    def ratio(a: list[float], b: list[float]) -> float:
        return round(percentile(b, 0.95) / percentile(a, 0.95), 2)

    return {
        "p50 alone ms": round(percentile(quiet, 0.5), 1),
        "p95 alone ms": round(percentile(quiet, 0.95), 1),
        "p50 among bad ms": round(percentile(busy, 0.5), 1),
        "p95 among bad ms": round(percentile(busy, 0.95), 1),
        "p95 ratio": ratio(quiet, busy),
        "p95 ratio by minute": [ratio(a.latencies, b.latencies) for a, b in zip(alone, among)],
        "answers to good": len(busy),
    }


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30, help="duration (default: 30)")
    parser.add_argument("--good", type=int, default=10, help="number of good clients (default: 10)")
    parser.add_argument("--bad", type=int, default=10, help="number of bad clients; half never read (default: 10)")
    parser.add_argument("--rate", type=float, default=5, help="frames per second of each good client (default: 5)")
    parser.add_argument("--habits", default=",".join(HABITS), help="of the bad clients that do read (default: all)")
    parser.add_argument("--attacks", default="", help=f"more bad clients: {', '.join(ATTACKS)}, or all (default: none)")
    parser.add_argument("--addresses", type=int, default=2, help="addresses of each attack (default: 2)")
    parser.add_argument(
        "--table", action="store_true", help="each attack by itself, on a server of its own, as a table"
    )
    parser.add_argument("--clone", type=Path, help="clone that serves instead of this one; with --table: beside it")
    parser.add_argument(
        "--engine", choices=("local", "ray"), default="local", help="of the server (default: local); ray: two replicas"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the random generator (default: 0)")
    parser.add_argument("--out", type=Path, help="write the figures to this file as JSON")
    args = parser.parse_args(argv)
    random.seed(args.seed)
    attacks = tuple(ATTACKS) if args.attacks == "all" else tuple(filter(None, args.attacks.split(",")))
    if unknown := [name for name in attacks if name not in ATTACKS]:
        parser.error(f"--attacks: there is no {', '.join(unknown)}. Choose from {', '.join(ATTACKS)}.")
    if args.table and not attacks:
        parser.error("--table needs --attacks")
    habits, clone = tuple(args.habits.split(",")), args.clone.resolve() if args.clone else None
    plan = Plan(
        args.minutes, args.good, args.bad, args.rate, habits, attacks, args.addresses, args.engine, clone or ROOT
    )
    figures = attack_table(plan, [clone, ROOT] if clone else [ROOT]) if args.table else soak(plan)
    text = json.dumps(figures, indent=1, ensure_ascii=False)
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(text + "\n", encoding="utf-8")
    print(tabulate(figures, "keys", "github", disable_numparse=True) if args.table else text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
