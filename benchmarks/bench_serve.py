"""Our server against a conventional one, in one run on this machine, with the same clients and frames.

    python benchmarks/bench_serve.py --out reports/bench            about 5 minutes
    python benchmarks/bench_serve.py --out reports/bench --flat     also 20,000 frames, 200 connections: is memory flat?
    python benchmarks/bench_serve.py --against ../older            another clone with its .venv, in turns with this one

Writes serve.json, serve.md and serve.png. Only ratios within one run are meaningful; the times depend on the machine
and on what else it is doing.
"""

import argparse
import asyncio
import base64
import importlib.util
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from dataclasses import asdict, dataclass, field
from pathlib import Path

import cv2
import matplotlib.pyplot as plt
import numpy as np
import psutil
import websockets
from matplotlib.cbook import get_sample_data
from skimage import data
from tabulate import tabulate

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))


# ---- frames: portraits that move, 640x480, JPEG quality 70


def portraits() -> list[np.ndarray]:
    "Three faces, (230, 230, 3) uint8 RGB."
    astronaut = data.astronaut()[20:260, 100:340]
    hopper = plt.imread(get_sample_data("grace_hopper.jpg", asfileobj=False))[20:420, 60:460]
    return [cv2.resize(p, (230, 230), interpolation=cv2.INTER_AREA) for p in (astronaut, hopper, astronaut[:, ::-1])]


def make_frames(faces: int, count: int = 60) -> list[bytes]:
    "JPEG frames in which `faces` portraits move slightly."
    rng, out = np.random.default_rng(0), []
    background = cv2.resize(rng.integers(60, 180, (6, 8, 3), dtype=np.uint8), (640, 480), interpolation=cv2.INTER_CUBIC)
    places = [(200, 120)] if faces == 1 else [(10, 20), (390, 30), (200, 235)]
    for i in range(count):
        frame = background.copy()
        for k, ((x, y), p) in enumerate(zip(places, portraits())):
            dx, dy = int(8 * np.sin(2 * np.pi * i / count + k)), int(6 * np.cos(2 * np.pi * i / count + k))
            frame[y + dy : y + dy + 230, x + dx : x + dx + 230] = p
        noisy = np.clip(frame + rng.normal(0, 4, frame.shape), 0, 255).astype(np.uint8)
        out.append(cv2.imencode(".jpg", noisy[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 70])[1].tobytes())
    return out


def as_json(frames: list[bytes]) -> list[str]:
    "The frames as messages of the old JSON API."
    return [json.dumps({"image": base64.b64encode(f).decode()}) for f in frames]


# ---- servers


@dataclass
class Server:
    "A server process, measured from its command to its first answer."

    name: str
    command: list[str]
    port: int
    root: Path = ROOT  # the clone whose package serves
    python: str | Path = sys.executable
    process: psutil.Process = field(init=False)
    ready_s: float = field(init=False)

    def start(self, frame: str, folder: str) -> "Server":
        env = {**os.environ, "PYTHONPATH": str(self.root), "TF_CPP_MIN_LOG_LEVEL": "3", "LOG_DIR": "logs"}
        begin = time.perf_counter()
        self.process = psutil.Popen(
            [self.python, *self.command, "--port", str(self.port)],
            cwd=folder,
            env=env,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        while not self._ready():
            if time.perf_counter() - begin > 120 or self.process.poll() is not None:
                raise RuntimeError(f"{self.name} did not start")
            time.sleep(0.02)
        asyncio.run(ask(self.port, [frame], 1))
        self.ready_s = time.perf_counter() - begin
        return self

    def _ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/readyz", timeout=1) as r:
                return r.status == 200
        except OSError:
            return False

    def all(self) -> list[psutil.Process]:
        return [self.process, *self.process.children(recursive=True)]

    def cpu_s(self) -> float:
        return sum(sum(p.cpu_times()[:2]) for p in self.all())

    def memory_mb(self) -> float:
        return sum(p.memory_info().rss for p in self.all()) / 1e6

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(20)


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@dataclass(frozen=True)
class Load:
    "What the clients of a run do."

    clients: int
    faces: int  # in each frame
    rate: float | None = None  # frames per second of each client; None: as fast as the answers come

    def __str__(self) -> str:
        text = f"{self.clients} client{'s' * (self.clients > 1)}, {self.faces} face{'s' * (self.faces > 1)}"
        return f"{text}, {self.rate:g}/s each" if self.rate else text


# ---- clients: each sends the next frame after the answer, or `rate` frames per second regardless


async def ask(
    port: int, frames: list, count: int, rate: float | None = None, seconds: float = 1e9
) -> tuple[list[float], int]:
    "One client: seconds until each answer, and the number of frames that were dropped."
    v2, out, dropped = isinstance(frames[0], bytes), [], 0
    async with websockets.connect(
        f"ws://127.0.0.1:{port}/ws/emotion",
        subprotocols=["emotion.v2"] if v2 else None,
        compression=None,
        max_size=None,
    ) as ws:
        if v2:
            await ws.recv()
        start = time.perf_counter()
        for i in range(count):
            if time.perf_counter() - start > seconds:
                break
            if rate:
                await asyncio.sleep(max(0, start + i / rate - time.perf_counter()))
            begin = time.perf_counter()
            await ws.send(frames[i % len(frames)])
            reply = json.loads(await ws.recv())
            out.append(time.perf_counter() - begin)
            dropped = reply.get("dropped", 0)
            if "error" in reply:
                raise RuntimeError(reply["error"])
    return out, dropped


async def run_clients(port: int, frames: list, load: Load, seconds: float) -> tuple[list[float], float, int]:
    "All clients at once: seconds until each answer, seconds of the run, frames dropped."
    begin = time.perf_counter()
    clients = [ask(port, frames[k:] + frames[:k], 10**9, load.rate, seconds) for k in range(load.clients)]
    done = await asyncio.gather(*clients)
    times = [t for answers, _ in done for t in answers]
    return times, time.perf_counter() - begin, sum(dropped for _, dropped in done)


@dataclass(frozen=True)
class Row:
    "What a server did under a load."

    load: Load
    server: str
    answers_per_s: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    cpu_ms: float  # CPU time of the server per answer
    memory_mb: float  # resident
    n: int  # answers
    dropped: int


def measure(server: Server, name: str, frames: list, load: Load, seconds: float) -> Row:
    "One server under one load, after half a second of warming up."
    asyncio.run(run_clients(server.port, frames, load, 0.5))
    cpu = server.cpu_s()
    times, took, dropped = asyncio.run(run_clients(server.port, frames, load, seconds))
    p50, p95, p99 = np.percentile(np.array(times) * 1e3, [50, 95, 99])
    cpu_ms = (server.cpu_s() - cpu) * 1e3 / len(times)
    return Row(load, name, len(times) / took, p50, p95, p99, cpu_ms, server.memory_mb(), len(times), dropped)


# ---- the parts of an answer, measured separately


def milliseconds(call, n: int = 60) -> float:
    "Median CPU milliseconds of a call, all threads of the process."
    for _ in range(5):
        call()
    out = []
    for _ in range(n):
        begin = time.process_time()
        call()
        out.append((time.process_time() - begin) * 1e3)
    return statistics.median(out)


def parts(frame: bytes) -> dict[str, float]:
    "CPU milliseconds of each part of an answer: JPEG decoding, MediaPipe's Face Mesh, the classifier."
    try:
        import mediapipe as mp
    except ImportError:
        print("The parts are not measured: mediapipe is not installed (Python 3.10 to 3.12: make install).")
        return {}

    from face_emotion.core.classifier import ThreadBudget
    from face_emotion.core.predictor import Predictor

    cv2.setNumThreads(1)
    image = cv2.imdecode(np.frombuffer(frame, np.uint8), cv2.IMREAD_COLOR_RGB)
    predictor = Predictor(budget=ThreadBudget(1))
    crop, stream = np.zeros((1, *predictor.metadata.input), np.uint8), predictor.stream()
    with mp.solutions.face_mesh.FaceMesh(static_image_mode=False, max_num_faces=1) as mesh:
        alone = {
            "decode": milliseconds(lambda: cv2.imdecode(np.frombuffer(frame, np.uint8), cv2.IMREAD_COLOR_RGB)),
            "Face Mesh (MediaPipe, following one face)": milliseconds(lambda: mesh.process(image)),
            "classify": milliseconds(lambda: predictor.classifier(crop)),
        }
    ours = {"detect (ours, following one face)": milliseconds(lambda: stream.tracker(image))}
    faces = stream.tracker(image)
    ours["crop and classify (ours)"] = milliseconds(lambda: predictor.predict_faces(image, faces))
    return {**alone, **ours, "sum of parts": sum(alone.values())}


def runtimes(stem: Path) -> dict[str, dict]:
    "The classifier in four runtimes: wall milliseconds, memory, and the largest difference from LiteRT."
    out = {}
    for name in ("litert", "onnxruntime", "openvino", "tensorflow"):
        done = subprocess.run(
            [sys.executable, str(ROOT / "benchmarks" / "runtime.py"), name, str(stem)],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"},
        )
        if done.returncode == 0:
            out[name] = json.loads(done.stdout.splitlines()[-1])
        else:
            out[name] = {"error": done.stderr.splitlines()[-1:]}
    return out


def flat(server: Server, frames: list, total: int = 20_000, connects: int = 200) -> dict:
    "Resident MB before and after many frames and connections."

    async def rounds() -> int:
        n = 0
        for _ in range(connects // 4):
            done = await asyncio.gather(*(ask(server.port, frames, total // connects) for _ in range(4)))
            n += sum(len(times) for times, _ in done)
        return n

    asyncio.run(run_clients(server.port, frames, Load(4, 1), 5))
    before = server.memory_mb()
    done, after = asyncio.run(rounds()), server.memory_mb()
    return {
        "frames": done,
        "connections": connects,
        "before_mb": before,
        "after_mb": after,
        "growth": after / before - 1,
    }


# ---- the run

LOADS = [*(Load(clients, faces) for faces in (1, 3) for clients in (1, 4, 16)), Load(16, 1, 10.0)]
REFERENCE, OURS_JSON, OURS_BINARY = SERVERS = ("reference json", "ours json", "ours binary")


def compare(ours: Server, theirs: Server | None, seconds: float) -> list[Row]:
    "Every load on both servers, one after the other; on ours only, without the reference."
    frames, rows = {faces: make_frames(faces) for faces in (1, 3)}, []
    for load in LOADS:
        binary = frames[load.faces]
        text = as_json(binary)
        for name, server, messages in ((REFERENCE, theirs, text), (OURS_JSON, ours, text), (OURS_BINARY, ours, binary)):
            if server is None:
                continue
            rows.append(measure(server, name, messages, load, seconds))
            print(f"{load}, {name}: {rows[-1].answers_per_s:.1f} answers/s, p50 {rows[-1].p50_ms:.1f} ms", flush=True)
    return rows


def plot(rows: list[Row], path: Path) -> None:
    "Answers per second and median latency under each load."
    fig, axes = plt.subplots(1, 2, figsize=(11, 4))
    labels = [str(load).replace(", ", "\n") for load in LOADS]
    for ax, key, title in zip(axes, ("answers_per_s", "p50_ms"), ("answers per second", "median latency, ms")):
        for k, (name, color) in enumerate(zip(SERVERS, ("0.65", "tab:blue", "tab:orange"))):
            values = [getattr(row, key) for row in rows if row.server == name] or [np.nan] * len(labels)
            ax.bar(np.arange(len(labels)) + 0.27 * (k - 1), values, 0.27, label=name, color=color)
        ax.set_xticks(range(len(labels)), labels, fontsize=7)
        ax.set_title(title, fontsize=10)
        ax.spines[["top", "right"]].set_visible(False)
    axes[1].set_yscale("log")
    axes[0].legend(fontsize=8, frameon=False)
    fig.tight_layout()
    fig.savefig(path, dpi=90)
    plt.close(fig)


def export(folder: Path) -> Path:
    "The bundled model as SavedModel and ONNX. Returns the stem of both."
    from face_emotion.core.artefact import Artefact

    stem = folder / Artefact().stem.name
    code = (
        "import sys, keras; from face_emotion.core.artefact import Artefact; "
        "from face_emotion.learning.export import save_artefact; a = Artefact(); "
        "save_artefact(keras.models.load_model(a.checked('.keras'), compile=False), sys.argv[1], a.metadata)"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    subprocess.run([sys.executable, "-c", code, str(stem)], check=True, env=env, capture_output=True)
    return stem


def loads_table(rows: list[Row]) -> str:
    "Every load and server, with ratios to the reference server."
    lines = []
    for row in rows:
        reference = next((r for r in rows if r.load == row.load and r.server == REFERENCE), None)
        more = row.answers_per_s / reference.answers_per_s if reference else None
        latency = row.p50_ms / reference.p50_ms if reference else None
        times = (row.p50_ms, row.p95_ms, row.p99_ms)
        lines.append((row.load, row.server, row.answers_per_s, more, *times, latency, row.cpu_ms, row.memory_mb, row.n))
    head = ("load", "server", "answers/s", "× ref.", "p50 ms", "p95 ms", "p99 ms", "p50 × ref.", "CPU ms", "MB", "n")
    formats = ("", "", ".1f", ".2f", ".1f", ".1f", ".1f", ".2f", ".1f", ".0f", "")
    return tabulate(lines, head, tablefmt="github", floatfmt=formats)


def parts_table(parts: dict[str, float], one_cpu_ms: float) -> str:
    "CPU milliseconds of each part, and of the whole answer of the server."
    if not parts:
        return "The parts were not measured, because mediapipe is not installed."
    whole = f"server, a whole answer, one client, binary ({one_cpu_ms / parts['sum of parts']:.2f} of the sum of parts)"
    rows = [*parts.items(), (whole, one_cpu_ms)]
    return tabulate(rows, ("part, alone, one thread", "CPU ms"), tablefmt="github", floatfmt=".2f")


def runtimes_table(runtimes: dict[str, dict]) -> str:
    "The classifier in each runtime."
    keys = ("1x1", "1x2", "4x2", "mb", "difference")
    rows = [(name, *(r.get(key) for key in keys), r.get("error", "")) for name, r in runtimes.items()]
    head = (
        "runtime",
        "1 crop, 1 thread, ms",
        "1 crop, 2 threads, ms",
        "4 crops, 2 threads, ms",
        "MB",
        "difference",
        "",
    )
    return tabulate(rows, head, tablefmt="github", floatfmt=("", ".2f", ".2f", ".2f", ".0f", ".1e", ""))


def starts(ours: dict, reference: dict | None = None) -> str:
    "Start-up and memory, with ratios to the reference server."
    text = f"Command to first answer: ours {ours['ready_s']:.2f} s. After all loads: ours {ours['memory_mb']:.0f} MB."
    if reference is None:
        return text + " There is no reference server, because mediapipe is not installed."
    ready, memory = (ours[key] / reference[key] for key in ("ready_s", "memory_mb"))
    theirs = f"{reference['ready_s']:.2f} s ({ready:.2f}), {reference['memory_mb']:.0f} MB ({memory:.2f})"
    return f"{text} Reference: {theirs}."


def report(result: dict, rows: list[Row]) -> str:
    "The Markdown of a run."
    parts = [
        "# Serving",
        loads_table(rows),
        starts(**result["start"]),
        parts_table(result["parts"], result["one_cpu_ms"]),
        runtimes_table(result["runtimes"]),
    ]
    if f := result.get("flat"):
        parts.append(
            f"{f['frames']} frames over {f['connections']} connections: "
            f"{f['before_mb']:.0f} MB before, {f['after_mb']:.0f} MB after ({f['growth']:+.1%})."
        )
    return "\n\n".join(parts) + "\n"


def run(folder: Path, seconds: float, with_flat: bool) -> tuple[dict, list[Row]]:
    "Both servers under every load, and the parts alone."
    stem = export(folder)
    first = as_json(make_frames(1, 2))[0]
    command = [str(ROOT / "benchmarks" / "reference_server.py"), "--savedmodel", f"{stem}_savedmodel"]
    ours = Server("ours", ["-m", "face_emotion.serve", "--host", "127.0.0.1"], free_port()).start(first, str(folder))
    theirs = None
    if importlib.util.find_spec("mediapipe"):
        theirs = Server("reference", command, free_port()).start(first, str(folder))
    else:
        print("Without the reference server: mediapipe is not installed (Python 3.10 to 3.12: make install).")
    servers = [s for s in (ours, theirs) if s]
    try:
        rows = compare(ours, theirs, seconds)
        start = {s.name: {"ready_s": s.ready_s, "memory_mb": s.memory_mb()} for s in servers}
        result = {"rows": [asdict(r) for r in rows], "cores": os.cpu_count(), "seconds": seconds, "start": start}
        if with_flat:
            result["flat"] = flat(ours, make_frames(1))
    finally:
        for server in servers:
            server.stop()
    result["one_cpu_ms"] = next(r.cpu_ms for r in rows if r.load == Load(1, 1) and r.server == OURS_BINARY)
    return result | {"parts": parts(make_frames(1, 2)[0]), "runtimes": runtimes(stem)}, rows


def against(clone: Path, folder: Path, seconds: float, rounds: int) -> str:
    "This clone and another in turns: start-up, answers per second and CPU time, as a table of medians with ratios."
    command, frames = ["-m", "face_emotion.serve", "--host", "127.0.0.1"], make_frames(1)
    values: dict[tuple[str, str], list[float]] = {}
    for k in range(rounds):
        servers = [
            Server("this", command, free_port()),
            Server("other", command, free_port(), clone.resolve(), clone.resolve() / ".venv" / "bin" / "python"),
        ]
        for server in servers if k % 2 else servers[::-1]:
            server.start(as_json(frames[:1])[0], str(folder))
            values.setdefault(("command to first answer, s", server.name), []).append(server.ready_s)
        try:
            for load, server in [(Load(n, 1), s) for n in (1, 4) for s in (servers if k % 2 else servers[::-1])]:
                row = measure(server, server.name, frames, load, seconds)
                values.setdefault((f"{load}: answers/s", server.name), []).append(row.answers_per_s)
                values.setdefault((f"{load}: CPU ms", server.name), []).append(row.cpu_ms)
        finally:
            for server in servers:
                server.stop()
    rows = []
    for what in dict.fromkeys(name for name, _ in values):
        this, other = (statistics.median(values[what, name]) for name in ("this", "other"))
        rows.append((what, this, other, this / other))
    return tabulate(rows, ("", "this", "other", "ratio"), tablefmt="github", floatfmt=".2f") + f"\n\nn={rounds}\n"


def main() -> int:
    "Run everything and write the report."
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("reports/bench"), help="folder for the report")
    parser.add_argument("--seconds", type=float, default=6.0, help="duration of each load")
    parser.add_argument("--flat", action="store_true", help="also 20,000 frames over 200 connections")
    parser.add_argument("--against", type=Path, metavar="CLONE", help="only compare with another clone, in turns")
    parser.add_argument("--rounds", type=int, default=5, help="with --against: how often (default: 5)")
    args = parser.parse_args()
    if args.against:
        with tempfile.TemporaryDirectory() as folder:
            print(against(args.against, Path(folder), args.seconds, args.rounds))
        return 0
    args.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        result, rows = run(Path(folder), args.seconds, args.flat)
    text = report(result, rows)
    (args.out / "serve.json").write_text(json.dumps(result, indent=1))
    (args.out / "serve.md").write_text(text, encoding="utf-8")
    plot(rows, args.out / "serve.png")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
