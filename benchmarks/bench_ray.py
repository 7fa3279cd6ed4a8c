"""The server on Ray against the plain one: answers a second, and what a replica that is killed costs.

    python benchmarks/bench_ray.py --out reports/bench            about 4 minutes

Runs the plain server, two Ray nodes on this machine with a replica each, and one node with one or two replicas. All of
them share the cores of this machine, so the rows tell what Ray costs, not how it scales. CPU milliseconds for an
answer, of all processes of the server, depend least on what else the machine does. Writes ray.json and ray.md.
"""

import argparse
import asyncio
import base64
import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
from soak import ROOT, family, percentile, picture
from tabulate import tabulate

sys.path.insert(0, str(ROOT))
from face_emotion.serving.client import EmotionClient, ServerError  # noqa: E402
from face_emotion.serving.transport import free_port  # noqa: E402

REPLICA = "ray::ServeReplica:face_emotion"


@dataclass(frozen=True)
class Setup:
    "A server to measure."

    name: str
    nodes: int = 0  # of Ray; 0: the plain server
    replicas: int = 1  # or processes of the plain server


SETUPS = (
    Setup("plain, 1 process"),
    Setup("plain, 2 processes", replicas=2),
    Setup("Ray, 1 node, 1 replica", nodes=1),
    Setup("Ray, 1 node, 2 replicas", nodes=1, replicas=2),
    Setup("Ray, 2 nodes, 2 replicas", nodes=2, replicas=2),
)


@contextlib.contextmanager
def ray_nodes(setup: Setup) -> Iterator[str]:
    "The address of a cluster on this machine, with a core for each replica."
    logging.getLogger("ray").setLevel(logging.ERROR)
    from ray.cluster_utils import Cluster

    with tempfile.TemporaryDirectory(prefix="ray_") as folder:
        options = {"num_cpus": setup.replicas // setup.nodes, "object_store_memory": 128 * 2**20}
        head = {**options, "temp_dir": folder, "include_dashboard": False}
        cluster = Cluster(initialize_head=True, head_node_args=head)
        for _ in range(setup.nodes - 1):
            cluster.add_node(**options)
        try:
            yield cluster.address
        finally:
            cluster.shutdown()


@contextlib.contextmanager
def running(setup: Setup, address: str = "") -> Iterator[int]:
    "The port of a server that is ready."
    port, workers = free_port(), str(setup.replicas)
    command = [sys.executable, "-m", "face_emotion.serve", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--workers", workers, *(["--engine", "ray"] if setup.nodes else [])]
    env = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "RAY_ADDRESS": address,
        "RAY_REPLICAS_MAX": workers,
        "LOG_DIR": "logs",
    }
    with tempfile.TemporaryDirectory() as folder:
        server = subprocess.Popen(command, cwd=folder, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            deadline = time.monotonic() + 180
            while not is_ready(port):
                if server.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"{setup.name} did not start")
                time.sleep(0.5)
            yield port
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(60)


def is_ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=2) as answer:
            return answer.status == 200
    except OSError:
        return False


def server_processes() -> list[psutil.Process]:
    "All processes that this one has started: servers and Ray."
    return family(os.getpid())[1:]


def cpu_seconds() -> float:
    "The CPU time that they have used."
    total = 0.0
    for process in server_processes():
        with contextlib.suppress(psutil.Error):
            times = process.cpu_times()
            total += times.user + times.system
    return total


class Load:
    "Clients that send a frame as soon as the last one is answered."

    def __init__(self, port: int, clients: int):
        self.url, self.clients, self.frame, self.end = f"ws://127.0.0.1:{port}/ws/emotion", clients, picture(), False
        self.latencies: list[float] = []
        self.gaps: list[float] = []  # the longest time without an answer, of each client
        self.connects: list[int] = []
        self.wrong = 0  # answers with the id of another frame

    async def client(self, number: int) -> None:
        gap, sent = 0.0, 0
        async with EmotionClient(self.url, retries=30, longest_pause=1) as client:
            while not self.end:
                start = time.perf_counter()
                with contextlib.suppress(ServerError):
                    answer = await client.ask(self.message(f"{number}-{sent}"))
                    self.wrong += answer.get("id") != f"{number}-{sent}"
                    self.latencies.append(time.perf_counter() - start)
                gap, sent = max(gap, time.perf_counter() - start), sent + 1
            self.gaps.append(gap)
            self.connects.append(client.connects)

    def message(self, frame_id: str) -> str:
        return json.dumps({"image": base64.b64encode(self.frame).decode(), "id": frame_id})

    async def run(self, seconds: float, then=lambda: None) -> None:
        "All clients for some seconds; something happens after a third of them."
        tasks = [asyncio.create_task(self.client(n)) for n in range(self.clients)]
        await asyncio.sleep(seconds / 3)
        then()
        await asyncio.sleep(seconds * 2 / 3)
        self.end = True
        await asyncio.gather(*tasks)


def speed(setup: Setup, port: int, seconds: float, clients: int) -> dict:
    "Answers a second and what they cost."
    asyncio.run(Load(port, clients).run(seconds / 3))  # warm up
    load, cpu, start = Load(port, clients), cpu_seconds(), time.perf_counter()
    asyncio.run(load.run(seconds))
    took, cpu = time.perf_counter() - start, cpu_seconds() - cpu
    answers = len(load.latencies)
    return {
        "server": setup.name,
        "answers/s": round(answers / took, 1),
        "p50 ms": round(percentile(load.latencies, 0.5), 1),
        "p95 ms": round(percentile(load.latencies, 0.95), 1),
        "CPU ms per answer": round(1e3 * cpu / answers, 1),
    }


def kill_replica() -> None:
    "Kill one replica, without a chance to say goodbye."
    for process in server_processes():
        with contextlib.suppress(psutil.Error):
            if " ".join(process.cmdline()).startswith(REPLICA):
                return process.kill()


def frames_total(port: int) -> float:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith("face_emotion_frames_total "))


def cost_of_a_kill(setup: Setup, port: int, seconds: float, clients: int) -> dict:
    "What the clients notice of a replica that is killed. A frame without an answer is asked again."
    before, load = frames_total(port), Load(port, clients)
    asyncio.run(load.run(seconds, kill_replica))
    gaps = sorted((gap, connects) for gap, connects in zip(load.gaps, load.connects))
    cut = [gap for gap, connects in gaps if connects > 1]
    return {
        "server": setup.name,
        "clients": clients,
        "cut off": len(cut),
        "longest pause of those s": round(max(cut, default=0), 2),
        "of the others s": round(max((gap for gap, connects in gaps if connects == 1), default=0), 2),
        "frames asked again": sum(load.connects) - clients,
        "answers of another frame": load.wrong,
        "answers": len(load.latencies),
        "counted more": round(frames_total(port) - before - len(load.latencies)),
    }


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("reports/bench"), help="folder of ray.json and ray.md")
    parser.add_argument("--seconds", type=float, default=12, help="of each measurement (default: 12)")
    parser.add_argument("--clients", type=int, default=8, help="streams at the same time (default: 8)")
    args = parser.parse_args(argv)
    speeds, kills = [], []
    for setup in SETUPS:
        with (
            ray_nodes(setup) if setup.nodes else contextlib.nullcontext("") as address,
            running(setup, address) as port,
        ):
            speeds.append(speed(setup, port, args.seconds, args.clients))
            print(speeds[-1], file=sys.stderr, flush=True)
            if setup.nodes:
                kills.append(cost_of_a_kill(setup, port, 2 * args.seconds, args.clients))
                print(kills[-1], file=sys.stderr, flush=True)
    tables = [tabulate(rows, "keys", "github") for rows in (speeds, kills)]
    args.out.mkdir(parents=True, exist_ok=True)
    figures = {"cores": os.cpu_count(), "clients": args.clients, "speed": speeds, "killed": kills}
    (args.out / "ray.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    (args.out / "ray.md").write_text("\n\n".join(tables) + "\n", encoding="utf-8")
    print("\n\n".join(tables))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
