"""Images per second of the input pipeline, of a training step, of both together, and of a naive pipeline.

    python benchmarks/bench_train.py [--out reports/bench] [--size 224] [--faces 256] [--steps 8]

Faces are JPEG crops of 256 pixels made from scikit-image's astronaut. The naive pipeline is Keras'
image_dataset_from_directory with the same augmentation, image by image in Python. The step that keeps memory runs in
processes of its own, as the training command does (core.arguments.keep_memory). Five minutes on two cores.
"""

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import cv2
import keras
import numpy as np
from scipy import ndimage
from skimage.data import astronaut

from face_emotion.augment import Mixer, make_augment
from face_emotion.core.arguments import TUNABLES
from face_emotion.core.config import DEFAULT_CLASS_NAMES, load_settings
from face_emotion.data.batches import Batches, to_tf
from face_emotion.data.sources import load_data
from face_emotion.learning.schedule import Stage
from face_emotion.model import build_model
from face_emotion.train import compile_for


def make_faces(folder: Path, count: int) -> Path:
    "JPEG crops in a folder per class."
    rng = np.random.default_rng(0)
    for i in range(count):
        y, x = rng.integers(55, 80), rng.integers(155, 180)
        face = cv2.resize(astronaut()[y : y + 120, x : x + 120, ::-1], (256, 256), interpolation=cv2.INTER_CUBIC)
        path = folder / DEFAULT_CLASS_NAMES[i % 5] / f"{i:04}.jpg"
        path.parent.mkdir(exist_ok=True)
        cv2.imwrite(str(path), face)
    return folder


def naive_augment(
    image: np.ndarray,  # (s, s, 3) float32
    rng: np.random.Generator,
) -> np.ndarray:
    "Flip, rotation, zoom, shift and contrast, one after the other, as it is often written."
    if rng.random() < 0.5:
        image = image[:, ::-1]
    image = ndimage.rotate(image, rng.uniform(-10, 10), reshape=False, order=1, mode="nearest")
    size, zoom = image.shape[0], rng.uniform(0.88, 1.12)
    center = size / 2 * (1 - 1 / zoom)
    image = ndimage.affine_transform(image, (1 / zoom, 1 / zoom, 1), (center, center, 0), order=1, mode="nearest")
    image = ndimage.shift(image, (*rng.uniform(-0.06, 0.06, 2) * size, 0), order=1, mode="nearest")
    return np.clip((image - image.mean()) * rng.uniform(0.75, 1.25) + image.mean(), 0, 255)


def naive(folder: Path, size: int, batch: int):
    "Batches of the naive pipeline, without end."
    data = keras.utils.image_dataset_from_directory(
        folder, label_mode="categorical", image_size=(size, size), batch_size=batch, seed=0, verbose=False
    )
    rng = np.random.default_rng(0)
    while True:
        for x, y in data:
            if len(x) == batch:
                yield np.stack([naive_augment(i, rng) for i in x.numpy()]), y


def rate(stream, steps: int, batch: int, warm: int = 2) -> float:
    "Images per second that a stream gives."
    for _ in range(warm):
        next(stream)
    start = time.perf_counter()
    for _ in range(steps):
        next(stream)
    return steps * batch / (time.perf_counter() - start)


def training_rates(model, batches: Batches, steps: int, rounds: int) -> tuple[list[float], list[float]]:
    "Images per second with one repeated batch, and with the pipeline; in turns, so other load slows both alike."
    stream = iter(to_tf(batches))
    fixed, alone, both = next(stream), [], []
    model.train_on_batch(*fixed)
    for _ in range(rounds):
        for rates, source in ((alone, itertools.repeat(fixed)), (both, stream)):
            start = time.perf_counter()
            for _ in range(steps):
                model.train_on_batch(*next(source))
            rates.append(steps * batches.batch_size / (time.perf_counter() - start))
    return alone, both


def cpu_per_batch(batches: Batches, steps: int) -> float:
    "Seconds of one core for making a batch."
    batches[0]
    start = time.process_time()
    for s in range(1, steps + 1):
        batches[s]
    return (time.process_time() - start) / steps


def cpu_per_step(model, batch, steps: int) -> float:
    "Seconds of all cores for a training step."
    model.train_on_batch(*batch)
    start = time.process_time()
    for _ in range(steps):
        model.train_on_batch(*batch)
    return (time.process_time() - start) / steps


def step_rate(size: int, steps: int) -> float:
    "Images per second of a training step with one repeated batch."
    settings = load_settings(None, img_size=size)
    model = build_model(img_size=size)
    compile_for(model, Stage("finetune3", 1, 1e-5, steps, True), settings, steps)
    batch = settings.batch_size
    x = np.random.default_rng(0).uniform(0, 255, (batch, size, size, 3)).astype("float32")
    fixed = (x, np.full((batch, len(settings.class_names)), 1 / len(settings.class_names), "float32"))
    return rate((model.train_on_batch(*fixed) for _ in itertools.count()), steps, batch)


def keeping_memory(size: int, steps: int, rounds: int) -> tuple[list[float], list[float]]:
    "Images per second of a step in processes that give freed memory back, and that keep it, in turns."
    command = [sys.executable, __file__, "--size", str(size), "--steps", str(steps), "--only-step"]
    plain, kept = [], []
    for _ in range(rounds):
        for rates, value in ((plain, ""), (kept, TUNABLES)):
            done = subprocess.run(
                command, env={**os.environ, "GLIBC_TUNABLES": value}, stdout=subprocess.PIPE, check=True
            )
            rates.append(float(done.stdout))
    return plain, kept


def measure(size: int, faces: int, steps: int, rounds: int) -> dict:
    "All rates."
    settings, few = load_settings(None, img_size=size), max(2, steps // 2)
    batch = settings.batch_size
    result = {"size": size, "batch": batch, "faces": faces, "steps": steps, "rounds": rounds, "cores": os.cpu_count()}
    with tempfile.TemporaryDirectory() as folder:
        folder = make_faces(Path(folder), faces)
        data = load_data(folder)["train"]
        batches = Batches(data, size, batch, make_augment(), Mixer(settings.p_mixup, settings.p_cutmix))
        result["naive pipeline"] = rate(naive(folder, size, batch), few, batch)
        result["pipeline"] = rate(iter(to_tf(batches)), steps * 4, batch)

        model = build_model(img_size=size)
        compile_for(model, Stage("finetune3", 1, 1e-5, steps, True), settings, steps)
        step = cpu_per_step(model, next(iter(to_tf(batches))), few)
        result["pipeline share of a step, processor time"] = cpu_per_batch(batches, steps) / step
        alone, both = training_rates(model, batches, few, rounds)
    result["step"], result["step and pipeline"] = statistics.median(alone), statistics.median(both)
    result["slower with pipeline"] = 1 - statistics.median(b / a for a, b in zip(alone, both))
    result["times the naive pipeline"] = result["pipeline"] / result["naive pipeline"]
    plain, kept = keeping_memory(size, steps, rounds)
    result["step that keeps memory"] = statistics.median(kept)
    result["times a step that does not"] = statistics.median(k / p for p, k in zip(plain, kept))
    return result


def draw(result: dict, path: Path) -> None:
    "Bars of the four rates."
    from matplotlib.figure import Figure

    fig = Figure(figsize=(5, 1.8), layout="constrained")
    ax = fig.subplots()
    names = ("step and pipeline", "step", "naive pipeline", "pipeline")
    ax.barh(names, [result[n] for n in names])
    ax.set(xscale="log", xlabel=f"images per second at {result['size']} px, {result['cores']} cores")
    fig.savefig(path, dpi=110)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="folder for bench_train.json and bench_train.png")
    parser.add_argument("--size", type=int, default=224, help="side of the input in pixels (default: 224)")
    parser.add_argument("--faces", type=int, default=256, help="how many faces (default: 256)")
    parser.add_argument("--steps", type=int, default=8, help="batches per measurement (default: 8)")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of a training step (default: 3)")
    parser.add_argument("--only-step", action="store_true", help="print images per second of a training step, and end")
    args = parser.parse_args()
    if args.only_step:
        print(step_rate(args.size, args.steps))
        return 0
    result = measure(args.size, args.faces, args.steps, args.rounds)
    for name, value in result.items():
        print(f"{name:45} {value:10.3f}" if isinstance(value, float) else f"{name:45} {value:10}")
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / "bench_train.json").write_text(json.dumps(result, indent=1) + "\n")
        draw(result, args.out / "bench_train.png")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
