"""How fast photographs become crops, against the naive way and against what decoding alone costs; and whether memory stays flat.

    python benchmarks/bench_preprocess.py --out reports/bench

The photographs are made on the spot, 3264 × 2448 pixels and about 2 MB each for speed, all of AIHub's sizes for memory; files that show the same scene are
links to one file, so that the disk is not what is measured. The ways take turns, so that whatever else the machine does meets all of them.
"""

import argparse
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import psutil

from face_emotion.data.sample import FULL_SIZES, SMALL_SIZES, Truth, make_sample
from face_emotion.core.config import LABELS_KO
from face_emotion.core.crop import Framing, square_box
from face_emotion.core.detector import FaceDetector
from face_emotion.core.image import Photo, decode_scale
from face_emotion.preprocess import find_face
from face_emotion.data.manifest import Options
from face_emotion.preprocess import preprocess

OPTIONS = Options(class_names=tuple(LABELS_KO))


def cpu() -> float:
    """CPU seconds of this process and of the processes it has waited for."""
    return sum(
        r.ru_utime + r.ru_stime for r in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


def timed(f) -> tuple[float, float]:  # wall seconds, CPU seconds
    wall, used = time.perf_counter(), cpu()
    f()
    return time.perf_counter() - wall, cpu() - used


def naive(folder: Path, truths: list[Truth], to: Path) -> None:
    """As such scripts are usually written: decode to learn the size, decode again to crop, write the crop at full size; no detection."""
    for i, t in enumerate(truths):
        h, w = cv2.imread(str(folder / t.photo)).shape[:2]
        x0, y0, x1, y1 = square_box(np.clip(t.box, 0, (w, h, w, h)), Framing.from_margin(0.15), (h, w)).astype(int)
        cv2.imwrite(str(to / f"{i}.jpg"), cv2.imread(str(folder / t.photo))[y0:y1, x0:x1])


def floor(
    folder: Path, truths: list[Truth], detector: FaceDetector
) -> dict[str, np.ndarray]:  # wall and CPU seconds of each
    """The three things that cannot be left out: decoding at the scale that is needed, detecting, encoding."""
    clock = lambda: np.array([time.perf_counter(), time.process_time()])
    spent = {name: np.zeros(2) for name in ("decode", "detect", "encode")}
    for t in truths:
        data, box = (folder / t.photo).read_bytes(), np.array(t.box)
        scale = decode_scale(1.3 * max(box[2:] - box[:2]), 320)
        start = clock()
        photo = Photo(data).decode(scale)
        decoded = clock()
        find_face(photo, box, detector)
        detected = clock()
        crop = photo.crop(square_box(box, Framing.from_margin(0.15), photo.size[::-1]), 320)
        cropped = clock()
        cv2.imencode(".jpg", crop, [cv2.IMWRITE_JPEG_QUALITY, 92])
        for name, seconds in zip(spent, (decoded - start, detected - decoded, clock() - cropped)):
            spent[name] += seconds
    return spent


def speed(work: Path, photos: int, rounds: int, sizes: tuple) -> dict:
    """Photographs a second and CPU milliseconds a photograph, the median of some rounds in which the ways take turns."""
    sample = make_sample(
        work / "speed", photos, defects=0, sizes=sizes, scenes=12, class_names=OPTIONS.class_names, link=True
    )
    few, detector, seen = sample.truths[: max(10, photos // 8)], FaceDetector(), {}
    (work / "naive").mkdir()
    floor(sample.folder, few[:5], detector)
    cv2.setNumThreads(1)

    def note(way: str, n: int, wall: float, used: float) -> None:
        seen.setdefault(way, []).append((n / wall if wall else None, 1000 * used / n))

    for _ in range(rounds):
        note("naive", len(few), *timed(lambda: naive(sample.folder, few, work / "naive")))
        for name, seconds in floor(sample.folder, few, detector).items():
            note(name, len(few), *map(float, seconds))
        for workers in (1, 2):
            out = work / f"crops{workers}"
            shutil.rmtree(out, ignore_errors=True)
            wall, used = timed(
                lambda out=out, workers=workers: preprocess(
                    sample.folder, out, OPTIONS, workers=workers, progress=False
                )
            )
            note(f"ours, {workers} worker{'s' * (workers > 1)}", photos, wall, used)
    return {
        way: {
            "per_second": statistics.median(r for r, _ in rs),
            "cpu_ms": statistics.median(c for _, c in rs),
            "rounds": rs,
        }
        for way, rs in seen.items()
    }


def memory(work: Path, photos: int, sizes: tuple) -> dict:
    """Memory that only this run uses (USS), of all its processes, while it goes through many photographs."""
    sample = make_sample(
        work / "memory", photos, defects=0, sizes=sizes, scenes=24, class_names=OPTIONS.class_names, link=True
    )
    command = [
        sys.executable,
        "-m",
        "face_emotion.preprocess",
        "--source",
        sample.folder,
        "--out",
        work / "memory_crops",
        "--workers",
        "2",
        "--class-names",
        ",".join(OPTIONS.class_names),
    ]
    start, samples = time.perf_counter(), []
    process = subprocess.Popen(
        list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=work
    )
    while process.poll() is None:
        try:
            family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
            samples.append(
                (time.perf_counter() - start, sum(p.memory_full_info().uss for p in family) / 2**20, len(family))
            )
        except psutil.Error:
            pass
        time.sleep(0.5)
    assert process.returncode == 0 and f"{photos:9,}  ok" in process.stdout.read(), "not every photograph became a crop"
    full = [(t, m) for t, m, n in samples if n == max(s[2] for s in samples)]
    tenth = max(1, len(full) // 10)
    mean = lambda part: statistics.mean(m for _, m in part)
    return {
        "photos": photos,
        "seconds": time.perf_counter() - start,
        "start_mb": mean(full[tenth : 2 * tenth] or full),
        "end_mb": mean(full[-tenth:]),
        "peak_mb": max(m for _, m in full),
        "samples": full,
    }


def report(r: dict) -> str:
    """The table for people."""
    s, lines = r["speed"], [f"{'':26}{'photos/s':>10}{'CPU ms/photo':>14}"]
    for way, v in s.items():
        lines.append(
            f"{way + (' only' if way in ('decode', 'detect', 'encode') else ''):26}{v['per_second']:10.1f}{v['cpu_ms']:14.1f}"
        )
    lines += [
        "",
        f"2 workers against naive: {r['speedup']:.1f} times (target: 4 or more); with two cores to themselves it would be {r['speedup_cpu']:.1f}, by CPU time",
        f"1 worker against decode + detect + encode: {r['over_floor']:.2f} times by CPU time (target: 1.4 or less)",
        "",
    ]
    if m := r.get("memory"):
        lines.append(
            f"Memory over {m['photos']:,} photographs, 2 workers and their parent: {m['start_mb']:.0f} MB at the start, {m['end_mb']:.0f} MB at the end, {m['peak_mb']:.0f} MB at most; {m['photos'] / m['seconds']:.1f} photos/s"
        )
    lines.append(f"{r['machine']}; load when it began: {r['load']:.1f}")
    return "\n".join(lines)


def draw(r: dict, path: Path) -> None:
    """Bars of the speeds, a line of the memory."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    fig, (left, right) = plt.subplots(1, 2, figsize=(9, 2.6))
    ways = [w for w in r["speed"] if w not in ("detect", "encode")]
    bars = left.barh(
        ["decode only" if w == "decode" else w for w in ways],
        [r["speed"][w]["per_second"] for w in ways],
        color=["tab:blue" if "ours" in w else "tab:grey" for w in ways],
    )
    left.bar_label(bars, fmt="%.0f", padding=3)
    left.set(xlabel="photographs a second")
    left.margins(x=0.15)
    left.invert_yaxis()
    if m := r.get("memory"):
        right.plot(*zip(*m["samples"]))
        right.set(xlabel="seconds", ylabel="MB", ylim=(0, None), title=f"memory over {m['photos']:,} photographs")
    fig.tight_layout()
    fig.savefig(path)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("reports/bench"),
        help="folder for bench_preprocess.json and .png (%(default)s)",
    )
    parser.add_argument("--photos", type=int, default=400, help="photographs a round (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="(%(default)s)")
    parser.add_argument(
        "--memory-photos", type=int, default=2000, help="photographs of the memory run, 0 for none (%(default)s)"
    )
    parser.add_argument("--small", action="store_true", help="small photographs, to try the benchmark itself")
    args = parser.parse_args()
    result = {
        "machine": f"{platform.machine()}, {len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()} cores, Python {platform.python_version()}",
        "load": os.getloadavg()[0],
    }
    with tempfile.TemporaryDirectory() as work:
        result["speed"] = s = speed(
            Path(work), args.photos, args.rounds, SMALL_SIZES if args.small else ((3264, 2448),)
        )
        result["speedup"] = s["ours, 2 workers"]["per_second"] / s["naive"]["per_second"]
        result["speedup_cpu"] = 2 * s["naive"]["cpu_ms"] / s["ours, 2 workers"]["cpu_ms"]
        result["over_floor"] = s["ours, 1 worker"]["cpu_ms"] / sum(
            s[part]["cpu_ms"] for part in ("decode", "detect", "encode")
        )
        if args.memory_photos:
            result["memory"] = memory(Path(work), args.memory_photos, SMALL_SIZES if args.small else FULL_SIZES)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "bench_preprocess.json").write_text(json.dumps(result, indent=1), encoding="utf-8")
    draw(result, args.out / "bench_preprocess.png")
    print(report(result))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
