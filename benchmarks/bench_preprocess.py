"""How fast photographs become crops, against the naive way and against decoding alone, and whether memory stays flat.

    python benchmarks/bench_preprocess.py --out reports/bench
    python benchmarks/bench_preprocess.py --records 350000
    python benchmarks/bench_preprocess.py --engine both --photos 1000

The second command measures everything but the cropping, with stand-ins for crops: time and memory of a first run and
of a second one that has nothing to do.

The third compares the engines: Ray that is running already, as on a cluster, and Ray that the command starts and ends.

The photographs are made on the spot: 3264 × 2448 pixels and about 2 MB each for speed, all of AIHub's sizes for memory.
Files that show the same scene are links to one file, so the disk is not what is measured. The ways take turns, so
whatever else the machine does affects all of them.
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
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import psutil
from tabulate import tabulate

from face_emotion.core.cluster import ray_session
from face_emotion.core.config import LABELS_KO
from face_emotion.core.crop import Framing, square_box
from face_emotion.core.detector import FaceDetector
from face_emotion.core.image import Photo, decode_scale
from face_emotion.data.aihub import digest
from face_emotion.data.defects import AIHUB_WORDS, Person, Truth, draw_entry
from face_emotion.data.plan import CropFolder, FinishedCrop, PlannedCrop
from face_emotion.data.sample import FULL_SIZES, SMALL_SIZES, make_sample
from face_emotion.preprocess import Options, find_face, preprocess

OPTIONS = Options(class_names=tuple(LABELS_KO))
FRAMING = Framing.from_margin(0.15)
STEPS = ("decode", "detect", "encode")  # what cannot be left out


def cpu() -> float:
    """CPU seconds of this process and of the processes it has waited for."""
    usages = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Wall seconds and CPU seconds of a piece of work."""
    wall, used = time.perf_counter(), cpu()
    work()
    return time.perf_counter() - wall, cpu() - used


def naive(folder: Path, truths: list[Truth], to: Path) -> None:
    """As such scripts are usually written: decode twice, write the crop at full size, detect nothing."""
    for i, t in enumerate(truths):
        h, w = cv2.imread(str(folder / t.photo)).shape[:2]
        x0, y0, x1, y1 = square_box(np.clip(t.box, 0, (w, h, w, h)), FRAMING, (h, w)).astype(int)
        cv2.imwrite(str(to / f"{i}.jpg"), cv2.imread(str(folder / t.photo))[y0:y1, x0:x1])


def clock() -> np.ndarray:
    """Wall seconds and CPU seconds of this process."""
    return np.array([time.perf_counter(), time.process_time()])


def steps(folder: Path, truths: list[Truth], detector: FaceDetector) -> dict[str, np.ndarray]:
    """Wall and CPU seconds of decoding at the scale that is needed, detecting and encoding."""
    spent = {name: np.zeros(2) for name in STEPS}
    for t in truths:
        data, box = (folder / t.photo).read_bytes(), np.array(t.box)
        scale = decode_scale(FRAMING.side * max(box[2:] - box[:2]), 320)
        start = clock()
        photo = Photo(data).decode(scale)
        decoded = clock()
        find_face(photo, box, detector)
        detected = clock()
        crop = photo.crop(square_box(box, FRAMING, photo.size[::-1]), 320)
        cropped = clock()
        cv2.imencode(".jpg", crop, [cv2.IMWRITE_JPEG_QUALITY, 92])
        for name, seconds in zip(STEPS, (decoded - start, detected - decoded, clock() - cropped)):
            spent[name] += seconds
    return spent


def speed(work: Path, photos: int, rounds: int, sizes: tuple) -> dict[str, dict]:
    """Photographs per second and CPU milliseconds per photograph of each way, medians of some rounds."""
    classes = OPTIONS.class_names
    sample = make_sample(work / "speed", photos, defects=0, sizes=sizes, scenes=12, class_names=classes, link=True)
    few, detector, seconds = sample.truths[: max(10, photos // 8)], FaceDetector(), defaultdict(list)
    (work / "naive").mkdir()
    steps(sample.folder, few[:5], detector)
    cv2.setNumThreads(1)
    for _ in range(rounds):
        seconds["naive"].append((len(few), *timed(lambda: naive(sample.folder, few, work / "naive"))))
        for name, spent in steps(sample.folder, few, detector).items():
            seconds[name].append((len(few), *map(float, spent)))
        for workers, name in ((1, "1 worker"), (2, "2 workers")):
            shutil.rmtree(out := work / f"crops{workers}", ignore_errors=True)
            how = {"workers": workers, "progress": False}
            seconds[name].append((photos, *timed(lambda: preprocess(sample.folder, out, OPTIONS, **how))))
    return {way: medians(runs) for way, runs in seconds.items()}


def engines(photos: int, rounds: int, sizes: tuple) -> str:
    """Both engines in turns, with two workers: photographs per second, start of the workers included."""
    found, seconds = [], defaultdict(list)
    with tempfile.TemporaryDirectory() as work:
        sample = make_sample(Path(work) / "photos", photos, defects=0, sizes=sizes, scenes=12, link=True)

        def run(engine: str, name: str) -> None:
            shutil.rmtree(out := Path(work) / "crops", ignore_errors=True)
            how = {"workers": 2, "progress": False, "engine": engine}
            seconds[name].append(timed(lambda: preprocess(sample.folder, out, **how))[0])
            found.append(sorted(digest(p.read_bytes().hex()) for p in out.rglob("*.jpg")))

        run("ray", "ray, started and ended by the run")
        with ray_session(2):
            for _ in range(rounds):
                run("local", "local")
                run("ray", "ray, running before")
    assert all(crops == found[0] for crops in found), "the engines make different crops"
    local = statistics.median(seconds["local"])
    rows = [
        (name, photos / statistics.median(s), 100 * local / statistics.median(s), " ".join(f"{v:.1f}" for v in s))
        for name, s in seconds.items()
    ]
    return tabulate(rows, ["engine", "photographs/s", "% of local", "seconds of each run"], floatfmt=".1f")


def medians(runs: list[tuple[int, float, float]]) -> dict:
    """The report of one way, from photographs, wall seconds and CPU seconds of each round."""
    rounds = [(n / wall if wall else None, 1000 * used / n) for n, wall, used in runs]
    per_second, cpu_ms = (statistics.median(values) for values in zip(*rounds))
    return {"per_second": per_second, "cpu_ms": cpu_ms, "rounds": rounds}


def watch(process: subprocess.Popen) -> list[tuple[float, float, int]]:
    """Until a process ends: seconds, memory that only its family uses (USS, MB), and the number of processes."""
    start, samples = time.perf_counter(), []
    while process.poll() is None:
        try:
            parent = psutil.Process(process.pid)
            family = [parent, *parent.children(recursive=True)]
            used = sum(p.memory_full_info().uss for p in family) / 2**20
            samples.append((time.perf_counter() - start, used, len(family)))
        except psutil.Error:
            pass
        time.sleep(0.5)
    return samples


def memory(work: Path, photos: int, sizes: tuple) -> dict:
    """Memory of a run with two workers while it goes through many photographs."""
    classes, folder = OPTIONS.class_names, work / "memory"
    make_sample(folder, photos, defects=0, sizes=sizes, scenes=24, class_names=classes, link=True)
    command = [sys.executable, "-m", "face_emotion.preprocess", "--source", str(folder), "--workers", "2"]
    command += ["--out", str(work / "memory_crops"), "--class-names", ",".join(classes)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    start = time.perf_counter()
    process = subprocess.Popen(command, text=True, cwd=work, **pipes)
    samples = watch(process)
    assert process.returncode == 0 and f"{photos:9,}  ok" in process.stdout.read(), "not every photograph became a crop"
    all_processes = max(n for _, _, n in samples)
    full = [(t, mb) for t, mb, n in samples if n == all_processes]
    tenth, used = max(1, len(full) // 10), [mb for _, mb in full]
    return {
        "photos": photos,
        "seconds": time.perf_counter() - start,
        "start_mb": statistics.mean(used[tenth : 2 * tenth] or used),
        "end_mb": statistics.mean(used[-tenth:]),
        "peak_mb": max(used),
        "samples": full,
    }


def write_records(folder: Path, records: int) -> None:
    """Label files of AIHub's shape; their photographs are links to a few empty files, because nothing opens them."""
    rng, files = np.random.default_rng(0), {}
    for i in range(records):
        who, emotion = int(rng.integers(records // 40 + 1)), str(rng.choice(list(AIHUB_WORDS)))
        entry = draw_entry(
            rng, i, Person(digest(str(who)) * 2, "남", 20), emotion, "상업시설/점포/시장", (50, 50, 400, 400)
        )
        archive = f"EMOIMG_{AIHUB_WORDS[emotion]}_TRAIN"
        photos = folder / f"[원천]{archive}_{1 + i // 20_000:02}"
        if archive not in files:
            (folder / f"[라벨]{archive}").mkdir(parents=True)
            files[archive] = open(folder / f"[라벨]{archive}" / f"{archive}.json", "w", encoding="utf-8")
        files[archive].write(("," if files[archive].tell() else "[") + json.dumps(entry, ensure_ascii=False, indent=1))
        photos.mkdir(exist_ok=True)
        if i % 30_000 == 0:
            (first := folder / f"{i}.empty").touch()
        os.link(first, photos / entry["filename"])
    for file in files.values():
        file.write("]")
        file.close()


class StandIn:
    """Stands in for a cropper: writes a few bytes without opening the photograph."""

    def __init__(self, folder: CropFolder):
        self.folder = folder

    def __call__(self, planned: PlannedCrop) -> FinishedCrop:
        path = self.folder.path / planned.crop
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"a crop")
        return FinishedCrop(planned.key, "ok", "", (0.0, 0.0, 9.0, 9.0), "detected", 6, digest(planned.crop))


def run_with_stand_ins(source: Path, out: Path) -> None:
    """One run in this process; prints seconds, CPU seconds and the most memory in MB as JSON."""
    from face_emotion import preprocess as module

    module.Cropper = StandIn
    start = time.perf_counter()
    summary = module.preprocess(source, out, workers=0, progress=False)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    took = {"seconds": time.perf_counter() - start, "cpu": cpu(), "peak_mb": peak}
    print(json.dumps({"new": summary.new, "kept": summary.kept, **took}))


def plan(records: int) -> str:
    """Time and memory of a first and of a second run over many records, each in a process of its own."""
    with tempfile.TemporaryDirectory() as work:
        write_records(Path(work, "source"), records)
        command = [sys.executable, __file__, "--stand-ins", f"{work}/source", f"{work}/crops"]
        runs = [json.loads(subprocess.check_output(command).splitlines()[-1]) for _ in range(2)]
    rows = [(name, *run.values()) for name, run in zip(("first run", "second run"), runs)]
    return tabulate(rows, ["", "crops made", "done before", "seconds", "CPU seconds", "peak MB"], floatfmt=".1f")


def report(r: dict) -> str:
    """The result as text."""
    rows = [(way + " only" * (way in STEPS), v["per_second"], v["cpu_ms"]) for way, v in r["speed"].items()]
    lines = [
        tabulate(rows, ["", "photographs/s", "CPU ms/photograph"], floatfmt=".1f"),
        "",
        f"2 workers against naive: {r['speedup']:.1f} times (target: 4 or more); "
        f"with two cores to themselves it would be {r['speedup_cpu']:.1f}, by CPU time",
        f"1 worker against decode + detect + encode: {r['over_floor']:.2f} times by CPU time (target: 1.4 or less)",
    ]
    if m := r.get("memory"):
        lines.append(
            f"Memory over {m['photos']:,} photographs, 2 workers and their parent: "
            f"{m['start_mb']:.0f} MB at the start, {m['end_mb']:.0f} MB at the end, {m['peak_mb']:.0f} MB at most; "
            f"{m['photos'] / m['seconds']:.1f} photographs/s"
        )
    return "\n".join([*lines, f"{r['machine']}; load at the start: {r['load']:.1f}"])


def draw(r: dict, path: Path) -> None:
    """Bars of the speeds, a line of the memory."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    fig, (left, right) = plt.subplots(1, 2, figsize=(9, 2.6))
    speeds = {w: v["per_second"] for w, v in r["speed"].items() if w not in ("detect", "encode")}
    names = ["decode only" if w == "decode" else w for w in speeds]
    colors = ["tab:blue" if "worker" in w else "tab:grey" for w in speeds]
    left.bar_label(left.barh(names, list(speeds.values()), color=colors), fmt="%.0f", padding=3)
    left.set(xlabel="photographs per second")
    left.margins(x=0.15)
    left.invert_yaxis()
    if m := r.get("memory"):
        right.plot(*zip(*m["samples"]))
        right.set(xlabel="seconds", ylabel="MB", ylim=(0, None), title=f"memory over {m['photos']:,} photographs")
    fig.tight_layout()
    fig.savefig(path)


def measure(args: argparse.Namespace) -> dict:
    """Everything that the report needs."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    machine = f"{platform.machine()}, {cores} cores, Python {platform.python_version()}"
    result = {"machine": machine, "load": os.getloadavg()[0]}
    with tempfile.TemporaryDirectory() as work:
        sizes = SMALL_SIZES if args.small else ((3264, 2448),)
        s = result["speed"] = speed(Path(work), args.photos, args.rounds, sizes)
        if args.memory_photos:
            sizes = SMALL_SIZES if args.small else FULL_SIZES
            result["memory"] = memory(Path(work), args.memory_photos, sizes)
    result["speedup"] = s["2 workers"]["per_second"] / s["naive"]["per_second"]
    result["speedup_cpu"] = 2 * s["naive"]["cpu_ms"] / s["2 workers"]["cpu_ms"]
    result["over_floor"] = s["1 worker"]["cpu_ms"] / sum(s[step]["cpu_ms"] for step in STEPS)
    return result


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add, out = parser.add_argument, "folder for bench_preprocess.json and .png (%(default)s)"
    add("--out", type=Path, default=Path("reports/bench"), help=out)
    add("--photos", type=int, default=400, help="photographs per round (%(default)s)")
    add("--rounds", type=int, default=3, help="number of rounds (%(default)s)")
    add("--memory-photos", type=int, default=2000, help="photographs of the memory run, 0 to skip it (%(default)s)")
    add("--small", action="store_true", help="small photographs, to try the benchmark itself")
    add("--records", type=int, help="measure a run over so many records, with stand-ins for crops, and nothing else")
    add("--engine", choices=("both",), help="compare the engines local and ray, and measure nothing else")
    add("--stand-ins", type=Path, nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.stand_ins:
        run_with_stand_ins(*args.stand_ins)
        return 0
    if args.records:
        print(plan(args.records))
        return 0
    if args.engine:
        print(engines(args.photos, args.rounds, SMALL_SIZES if args.small else ((3264, 2448),)))
        return 0
    result = measure(args)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "bench_preprocess.json").write_text(json.dumps(result, indent=1), encoding="utf-8")
    draw(result, args.out / "bench_preprocess.png")
    print(report(result))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
