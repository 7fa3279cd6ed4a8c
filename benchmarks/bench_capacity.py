"""What a million people would need: measured on one core here, multiplied, with what is assumed said apart.

    python benchmarks/bench_capacity.py --out reports/bench      about a minute; writes capacity.json and capacity.md

Three ways to send the same webcam: whole frames of 640x480, whole frames of 320x240, and only the face's crop, which
needs the detector in the browser. docs/capacity.md discusses the result.
"""

import argparse
import json
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
from bench_serve import Load, Server, free_port, make_frames, measure, milliseconds
from tabulate import tabulate

LOAD = Load(clients=4, faces=1)  # keeps two cores busy
HOURS = 730  # of a month


@dataclass(frozen=True)
class Assumed:
    "What no measurement here can tell."

    people: int = 1_000_000  # at the same time
    frames: float = 5.0  # of each person in a second
    busy: float = 0.6  # share of a core that is used when all is well: the rest is for peaks and failures
    core_month: float = 15.0  # US dollars for a core of a rented server
    gigabyte_out: float = 0.02  # US dollars for a gigabyte that leaves; what arrives is usually free
    frame_overhead: int = 120  # bytes of TCP/IP, TLS and WebSocket around a frame, and as many around an answer
    port_gbit: float = 10.0  # of one machine
    machine_cores: int = 64


@dataclass(frozen=True)
class Way:
    "What one frame costs when it is sent in one way."

    name: str
    frame_bytes: float
    answer_bytes: float
    cpu_ms: float  # of the server, for a whole answer
    n: int  # answers measured


def resized(frames: list[bytes], size: tuple[int, int]) -> list[bytes]:
    "The same frames, smaller, JPEG quality 70."
    small = [cv2.resize(cv2.imdecode(np.frombuffer(f, np.uint8), 1), size, interpolation=3) for f in frames]
    return [cv2.imencode(".jpg", f, [cv2.IMWRITE_JPEG_QUALITY, 70])[1].tobytes() for f in small]


def measure_ways(seconds: float) -> tuple[list[Way], dict[str, float]]:
    "The three ways, and CPU milliseconds of the parts of an answer on one thread."
    from face_emotion.core.classifier import ThreadBudget
    from face_emotion.core.image import decode_image
    from face_emotion.core.predictor import Predictor

    frames, ways = make_frames(1), []
    answer = len(json.dumps(example_answer(frames[0])))
    with tempfile.TemporaryDirectory() as folder:
        command = ["-m", "face_emotion.serve", "--host", "127.0.0.1"]
        server = Server("ours", command, free_port()).start(frames[0], folder)
        try:
            for name, sent in (("640×480", frames), ("320×240", resized(frames, (320, 240)))):
                row = measure(server, name, sent, LOAD, seconds)
                ways.append(Way(name, float(np.mean([len(f) for f in sent])), answer, row.cpu_ms, row.n))
        finally:
            server.stop()

    cv2.setNumThreads(1)
    predictor = Predictor(budget=ThreadBudget(1))
    stream, image = predictor.stream(), decode_image(frames[0])
    faces = stream.tracker(image)
    parts = {
        "decode": milliseconds(lambda: decode_image(frames[0])),
        "detect": milliseconds(lambda: stream.tracker(image)),
        "crop and classify": milliseconds(lambda: predictor.predict_faces(image, faces)),
    }
    transport = max(0.0, ways[0].cpu_ms - sum(parts.values()))
    side = predictor.metadata.input[0]
    x0, y0, x1, y1 = (int(v) for v in faces[0].box)
    crop = resized([cv2.imencode(".png", image[y0:y1, x0:x1, ::-1])[1].tobytes()], (side, side))[0]
    cut = np.zeros((1, side, side, 3), np.uint8)
    alone = milliseconds(lambda: decode_image(crop)) + milliseconds(lambda: predictor.classifier(cut))
    ways.append(Way(f"crop of {side}×{side}", len(crop), answer, alone + transport, 60))
    return ways, {**parts, "network, JSON, queue (the rest)": transport}


def example_answer(frame: bytes) -> dict:
    "The answer of the server for one frame."
    from face_emotion.core.config import load_settings
    from face_emotion.core.predictor import Predictor
    from face_emotion.serving.workers import process_upload

    return process_upload(frame, Predictor(), load_settings()).to_message()


def plan(way: Way, assumed: Assumed) -> dict[str, float]:
    "Cores, traffic and dollars a month for everybody."
    frames = assumed.people * assumed.frames
    cores = frames * way.cpu_ms / 1e3 / assumed.busy
    inward, outward = (
        frames * (size + assumed.frame_overhead) * 8 / 1e9 for size in (way.frame_bytes, way.answer_bytes)
    )
    return {
        "people per core": assumed.people / cores,
        "cores": cores,
        "Gbit/s in": inward,
        "Gbit/s out": outward,
        "machines by cores": cores / assumed.machine_cores,
        "machines by network": inward / (assumed.port_gbit * assumed.busy),
        "cores, $ a month": cores * assumed.core_month,
        "traffic out, $ a month": outward / 8 * 3600 * HOURS * assumed.gigabyte_out,
    }


def report(ways: list[Way], parts: dict[str, float], assumed: Assumed) -> str:
    "The Markdown of a run."
    costs = [(w.name, w.frame_bytes / 1e3, w.answer_bytes / 1e3, w.cpu_ms, 1e3 / w.cpu_ms, w.n) for w in ways]
    head = ("one face", "kB in", "kB out", "CPU ms", "answers/s per core", "n")
    plans = [plan(way, assumed) for way in ways]
    rows = [(key, *(p[key] for p in plans)) for key in plans[0]]
    return "\n\n".join(
        [
            "# Capacity",
            "Measured:",
            tabulate(costs, head, tablefmt="github", floatfmt=("", ".1f", ".1f", ".2f", ".0f", "")),
            tabulate(parts.items(), ("part of 640×480, one thread", "CPU ms"), tablefmt="github", floatfmt=".2f"),
            "Assumed:",
            tabulate(asdict(assumed).items(), ("", "value"), tablefmt="github"),
            "From both:",
            tabulate(rows, ("", *(w.name for w in ways)), tablefmt="github", floatfmt=",.0f"),
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("reports/bench"), help="folder for the report")
    parser.add_argument("--seconds", type=float, default=15, help="of each load (default: 15)")
    args = parser.parse_args()
    ways, parts = measure_ways(args.seconds)
    args.out.mkdir(parents=True, exist_ok=True)
    text = report(ways, parts, Assumed())
    (args.out / "capacity.md").write_text(text + "\n", encoding="utf-8")
    data = {"ways": [asdict(w) for w in ways], "parts": parts, "assumed": asdict(Assumed())}
    (args.out / "capacity.json").write_text(json.dumps(data, indent=1), encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
