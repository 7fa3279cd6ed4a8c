"""Our server against the usual one, in one run on this machine, with the same clients and frames.

    python benchmarks/bench_serve.py --out reports/bench            about 5 minutes
    python benchmarks/bench_serve.py --out reports/bench --flat     and 20,000 frames, 200 connections: is memory flat?

Writes serve.json, serve.md and serve.png. Only ratios within a run mean something; times depend on the machine and on what else it does.
"""

import argparse
import asyncio
import base64
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import matplotlib.pyplot as plt
import numpy as np
import psutil
import websockets
from matplotlib.cbook import get_sample_data
from skimage import data

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))


# ---- frames: portraits that move, 640x480, JPEG quality 70


def portraits() -> list[np.ndarray]:
    "Three faces, RGB, about 200 pixels square."
    astronaut, hopper = (
        data.astronaut()[20:260, 100:340],
        plt.imread(get_sample_data("grace_hopper.jpg", asfileobj=False))[20:420, 60:460],
    )
    return [cv2.resize(p, (230, 230), interpolation=cv2.INTER_AREA) for p in (astronaut, hopper, astronaut[:, ::-1])]


def make_frames(faces: int, count: int = 60) -> list[bytes]:
    "JPEG frames in which `faces` portraits sway."
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
    return [json.dumps({"image": base64.b64encode(f).decode()}) for f in frames]


# ---- servers


@dataclass
class Server:
    "A server process, from its command to its first answer."

    name: str
    command: list[str]
    port: int
    process: psutil.Process = field(init=False)
    ready_s: float = field(init=False)

    def start(self, frame: str, folder: str) -> "Server":
        env = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
        begin = time.perf_counter()
        self.process = psutil.Popen(
            [sys.executable, *self.command, "--port", str(self.port)],
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


# ---- clients: the next frame when the answer is there, or `rate` frames a second whatever comes


async def ask(
    port: int, frames: list, count: int, rate: float | None = None, seconds: float = 1e9
) -> tuple[list[float], int]:
    "One client: seconds of each answer, and how many frames had been dropped."
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


async def load(
    port: int, frames: list, clients: int, seconds: float, rate: float | None
) -> tuple[list[float], float, int]:
    "All clients at once: seconds of each answer, seconds of the run, frames dropped."
    begin = time.perf_counter()
    done = await asyncio.gather(*(ask(port, frames[k:] + frames[:k], 10**9, rate, seconds) for k in range(clients)))
    return [t for times, _ in done for t in times], time.perf_counter() - begin, sum(d for _, d in done)


def measure(server: Server, frames: list, clients: int, seconds: float, rate: float | None = None) -> dict:
    "Answers a second, latency percentiles in ms, server CPU ms an answer, resident MB."
    asyncio.run(load(server.port, frames, clients, 0.5, rate))
    cpu = server.cpu_s()
    times, took, dropped = asyncio.run(load(server.port, frames, clients, seconds, rate))
    p50, p95, p99 = np.percentile(np.array(times) * 1e3, [50, 95, 99])
    return {
        "answers_per_s": len(times) / took,
        "p50_ms": p50,
        "p95_ms": p95,
        "p99_ms": p99,
        "cpu_ms": (server.cpu_s() - cpu) * 1e3 / len(times),
        "memory_mb": server.memory_mb(),
        "n": len(times),
        "dropped": dropped,
    }


# ---- parts alone


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
    "CPU ms of the parts of an answer measured alone: JPEG decoding, MediaPipe's Face Mesh, the classifier."
    import mediapipe as mp

    from face_emotion.core.classifier import ThreadBudget
    from face_emotion.core.predictor import Predictor

    cv2.setNumThreads(1)
    image, predictor = (
        cv2.imdecode(np.frombuffer(frame, np.uint8), cv2.IMREAD_COLOR_RGB),
        Predictor(budget=ThreadBudget(1)),
    )
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
    "The classifier in four runtimes: wall ms for one and four crops with 1 and 2 threads, and the largest difference from LiteRT."
    out = {}
    for name in ("litert", "onnxruntime", "openvino", "tensorflow"):
        done = subprocess.run(
            [sys.executable, str(ROOT / "benchmarks" / "runtime.py"), name, str(stem)],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"},
        )
        out[name] = (
            json.loads(done.stdout.splitlines()[-1])
            if done.returncode == 0
            else {"error": done.stderr.splitlines()[-1:]}
        )
    return out


def flat(server: Server, frames: list, total: int = 20_000, connects: int = 200) -> dict:
    "Resident MB before and after many frames and connections."
    asyncio.run(load(server.port, frames, 4, 5, None))
    before, done = server.memory_mb(), 0

    async def rounds() -> int:
        each = total // connects
        n = 0
        for _ in range(connects // 4):
            n += sum(len(t) for t, _ in await asyncio.gather(*(ask(server.port, frames, each) for _ in range(4))))
        return n

    done = asyncio.run(rounds())
    return {
        "frames": done,
        "connections": connects,
        "before_mb": before,
        "after_mb": server.memory_mb(),
        "growth": server.memory_mb() / before - 1,
    }


# ---- the run


def scenarios() -> list[tuple[int, int, float | None]]:
    "Clients, faces, frames a second of each (None: as fast as answers come)."
    return [(c, f, None) for f in (1, 3) for c in (1, 4, 16)] + [(16, 1, 10.0)]


def compare(ours: Server, theirs: Server, seconds: float) -> list[dict]:
    "Every scenario on both servers, one after the other."
    frames, rows = {f: make_frames(f) for f in (1, 3)}, []
    for clients, faces, rate in scenarios():
        text = as_json(frames[faces])
        runs = {
            "reference json": measure(theirs, text, clients, seconds, rate),
            "ours json": measure(ours, text, clients, seconds, rate),
            "ours binary": measure(ours, frames[faces], clients, seconds, rate),
        }
        for name, r in runs.items():
            rows.append({"clients": clients, "faces": faces, "rate": rate, "server": name, **r})
            print(line(rows[-1], runs["reference json"]), flush=True)
    return rows


def line(r: dict, reference: dict) -> str:
    "A row of the table."
    load_name = f"{r['clients']:>2} clients, {r['faces']} face{'s' * (r['faces'] > 1)}" + (
        f", {r['rate']:g}/s each" if r["rate"] else ""
    )
    return (
        f"| {load_name:<28} | {r['server']:<14} | {r['answers_per_s']:6.1f} | {r['answers_per_s'] / reference['answers_per_s']:4.2f} | {r['p50_ms']:6.1f} | {r['p95_ms']:6.1f} | {r['p99_ms']:6.1f} "
        f"| {r['p50_ms'] / reference['p50_ms']:4.2f} | {r['cpu_ms']:5.1f} | {r['memory_mb']:5.0f} | {r['n']:5} |"
    )


HEAD = (
    "| load | server | answers/s | × ref. | p50 ms | p95 ms | p99 ms | p50 × ref. | CPU ms | MB | n |\n|" + "---|" * 11
)


def plot(rows: list[dict], path: Path) -> None:
    "Answers a second and median latency of each load."
    fig, axes = plt.subplots(1, 2, figsize=(11, 4))
    names, colors = ["reference json", "ours json", "ours binary"], ["0.65", "tab:blue", "tab:orange"]
    labels = list(
        dict.fromkeys(
            f"{r['clients']} client{'s' * (r['clients'] > 1)}\n{r['faces']} face{'s' * (r['faces'] > 1)}"
            + ("\n10/s each" if r["rate"] else "")
            for r in rows
        )
    )
    for ax, key, title in zip(axes, ("answers_per_s", "p50_ms"), ("answers a second", "median latency, ms")):
        for k, (name, color) in enumerate(zip(names, colors)):
            ax.bar(
                np.arange(len(labels)) + 0.27 * (k - 1),
                [r[key] for r in rows if r["server"] == name],
                0.27,
                label=name,
                color=color,
            )
        ax.set_xticks(range(len(labels)), labels, fontsize=7)
        ax.set_title(title, fontsize=10)
        ax.spines[["top", "right"]].set_visible(False)
    axes[1].set_yscale("log")
    axes[0].legend(fontsize=8, frameon=False)
    fig.tight_layout()
    fig.savefig(path, dpi=90)
    plt.close(fig)


def export(folder: Path) -> Path:
    "The bundled model as SavedModel and ONNX; the stem of both."
    from face_emotion.core.artefact import Artefact

    stem = folder / Artefact().stem.name
    code = (
        "import sys; from face_emotion.learning.export import load_artefact, save_artefact; from face_emotion.core.artefact import Artefact; import keras;"
        "a = Artefact(); save_artefact(keras.models.load_model(a.checked('.keras'), compile=False), sys.argv[1], a.metadata)"
    )
    subprocess.run(
        [sys.executable, "-c", code, str(stem)],
        check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
    )
    return stem


def report(result: dict, out: Path) -> str:
    "The Markdown of a run."
    ours, theirs = result["start"]["ours"], result["start"]["reference"]
    text = [
        "# Serving",
        "",
        HEAD,
        *(
            line(
                r,
                next(
                    q
                    for q in result["rows"]
                    if q["server"] == "reference json"
                    and (q["clients"], q["faces"], q["rate"]) == (r["clients"], r["faces"], r["rate"])
                ),
            )
            for r in result["rows"]
        ),
        "",
        f"Command to first answer: ours {ours['ready_s']:.2f} s, reference {theirs['ready_s']:.2f} s ({ours['ready_s'] / theirs['ready_s']:.2f}). "
        f"Resident after all loads: ours {ours['memory_mb']:.0f} MB, reference {theirs['memory_mb']:.0f} MB ({ours['memory_mb'] / theirs['memory_mb']:.2f}).",
        "",
        "| part, alone, one thread | CPU ms |",
        "|---|---|",
        *(f"| {k} | {v:.2f} |" for k, v in result["parts"].items()),
        f"| server, all of an answer, one client, binary | {result['one_cpu_ms']:.2f} ({result['one_cpu_ms'] / result['parts']['sum of parts']:.2f} of the sum of parts) |",
        "",
        "| runtime | 1 crop, 1 thread | 1 crop, 2 threads | 4 crops, 2 threads | resident MB | largest difference |",
        "|---|---|---|---|---|---|",
    ]
    for name, r in result["runtimes"].items():
        text.append(
            f"| {name} | "
            + (
                f"{r['1x1']:.2f} ms | {r['1x2']:.2f} ms | {r['4x2']:.2f} ms | {r['mb']:.0f} | {r['difference']:.1e} |"
                if "error" not in r
                else f"{r['error']} |||||"
            )
        )
    if "flat" in result:
        text += [
            "",
            "{frames} frames over {connections} connections: {before_mb:.0f} MB before, {after_mb:.0f} MB after ({growth:+.1%}).".format(
                **result["flat"]
            ),
        ]
    return "\n".join(text) + "\n"


def main() -> int:
    "Run everything and write the report."
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("reports/bench"))
    parser.add_argument("--seconds", type=float, default=6.0, help="of each load")
    parser.add_argument("--flat", action="store_true", help="also 20,000 frames and 200 connections")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        stem = export(Path(folder))
        first = as_json(make_frames(1, 2))[0]
        ours = Server("ours", ["-m", "face_emotion.serve", "--host", "127.0.0.1"], free_port()).start(first, folder)
        theirs = Server(
            "reference",
            [str(ROOT / "benchmarks" / "reference_server.py"), "--savedmodel", str(stem) + "_savedmodel"],
            free_port(),
        ).start(first, folder)
        print(HEAD, flush=True)
        try:
            rows = compare(ours, theirs, args.seconds)
            result = {
                "rows": rows,
                "cores": os.cpu_count(),
                "seconds": args.seconds,
                "start": {s.name: {"ready_s": s.ready_s, "memory_mb": s.memory_mb()} for s in (ours, theirs)},
            }
            if args.flat:
                result["flat"] = flat(ours, make_frames(1))
        finally:
            ours.stop()
            theirs.stop()
        result["one_cpu_ms"] = next(
            r["cpu_ms"] for r in rows if (r["clients"], r["faces"], r["server"]) == (1, 1, "ours binary")
        )
        result |= {"parts": parts(make_frames(1, 2)[0]), "runtimes": runtimes(stem)}
    (args.out / "serve.json").write_text(json.dumps(result, indent=1))
    (args.out / "serve.md").write_text(report(result, args.out), encoding="utf-8")
    plot(rows, args.out / "serve.png")
    print(report(result, args.out).split("\n\n", 2)[2])
    return 0


if __name__ == "__main__":
    sys.exit(main())
