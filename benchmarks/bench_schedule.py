"""The whole two-stage schedule on a processor: time of each stage and what the model is worth, with and without caches.

    python benchmarks/bench_schedule.py --data ../shared/data/fer2013plus.npz [--against CLONE] [--out FILE.csv]
    python benchmarks/bench_schedule.py --data FER --faces 200 --epochs-head 1 --epochs-finetune 3 --img-size 96

Trains one model as usual, by this clone without caches or by another clone, then one with cached features and small
pictures first (HEAD_VIEWS, FINETUNE_VIEWS, PROGRESSIVE_SIZES), from the same weights: the backbone of the bundled model
with a new head. Early stopping is off, so that both see the same number of faces. Then both are tested on the test
split. At 224 pixels, with 2,000 faces, it takes about forty minutes on two cores.
"""

import argparse
import os
import subprocess
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import pandas as pd
from clones import ROOT, environment_of, python_of

from face_emotion.core.config import DEFAULT_CLASS_NAMES
from face_emotion.data.sources import load_data
from face_emotion.learning.export import load_artefact
from face_emotion.learning.metrics import headline, intervals, paired, predict_dataset
from face_emotion.model import build_model

PLAIN = {"HEAD_VIEWS": "0", "FINETUNE_VIEWS": "0", "PROGRESSIVE_SIZES": ""}
CACHED = {"HEAD_VIEWS": "2", "FINETUNE_VIEWS": "2", "PROGRESSIVE_SIZES": "128,160"}
NAME = f"emotion_classifier_{len(DEFAULT_CLASS_NAMES)}_classes"


def write_start(
    path: Path,  # .keras
    img_size: int,  # side of the input in pixels
    seed: int,  # of the new head
) -> None:
    "The bundled model's backbone with a head that knows nothing."
    keras.utils.set_random_seed(seed)
    model = build_model(img_size=img_size, weights="bundled")
    fresh = build_model(img_size=img_size)
    for name in ("features", "probabilities"):
        model.get_layer(name).set_weights(fresh.get_layer(name).get_weights())
    model.save(path)


def train(
    root: Path,  # of the clone
    settings: dict[str, str],  # environment variables
    start: Path,  # where the network starts
    out: Path,  # folder of the artefact
    args: argparse.Namespace,  # of the command
) -> list[float]:  # seconds from the start of the program to the end of each epoch
    "Train with the command of a clone, and watch its history."
    command = [python_of(root), "-m", "face_emotion.train"]
    command += ["--data", args.data.resolve(), "--limit", str(args.faces), "--weights", start, "--out", out]
    command += ["--img-size", str(args.img_size), "--formats", ".keras,.tflite"]
    command += ["--epochs-head", str(args.epochs_head), "--epochs-finetune", str(args.epochs_finetune)]
    env = environment_of(root, SEED=str(args.seed), EARLY_STOPPING_PATIENCE="1000", **settings)
    out.mkdir()
    begun, history, ends = time.perf_counter(), out / f"{NAME}_history.csv", []
    with (out / "output.txt").open("w") as output:
        process = subprocess.Popen(command, cwd=out, env=env, stdout=output, stderr=subprocess.STDOUT)
        while process.poll() is None:
            time.sleep(0.2)
            epochs = len(history.read_text().splitlines()) - 1 if history.exists() else 0
            ends += [time.perf_counter() - begun] * (epochs - len(ends))
    if process.returncode:
        raise SystemExit(f"{root.name}: the training failed.\n{(out / 'output.txt').read_text()[-2000:]}")
    return ends


def stage_rows(
    name: str,  # of the training
    ends: list[float],  # from `train`
    out: Path,  # folder of the artefact
    faces: int,  # of an epoch
) -> list[dict]:
    "Images a second and minutes of each stage; what comes before its first epoch counts."
    stages, rows, before = pd.read_csv(out / f"{NAME}_history.csv")["stage"], [], 0.0
    for stage in stages.unique():
        epochs = int((stages == stage).sum())
        last = ends[stages[stages == stage].index[-1]]
        rate = epochs * faces / (last - before)
        rows.append({"training": name, "stage": stage, "epochs": epochs, "images/s": rate, "min": (last - before) / 60})
        before = last
    return [*rows, {"training": name, "stage": "all", "epochs": len(stages), "min": ends[-1] / 60}]


def interval_text(value: float, limits: tuple[float, float]) -> str:
    "A value with its 95% interval."
    return f"{value:.3f} [{limits[0]:.3f}, {limits[1]:.3f}]"


def measure(args: argparse.Namespace) -> pd.DataFrame:
    "Train both, test both."
    faces, rows, found = load_data(args.data)["test"], [], []
    other = args.against.resolve() if args.against else ROOT
    runs = {"usual": (other, PLAIN), "cached": (ROOT, CACHED)}
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        write_start(folder / "start.keras", args.img_size, args.seed)
        for name, (root, settings) in runs.items():
            ends = train(root, settings, folder / "start.keras", folder / name, args)
            rows += stage_rows(name, ends, folder / name, args.faces)
            p = predict_dataset(load_artefact(folder / name / NAME, kind=".tflite"), faces)
            limits, value = intervals(p, faces.labels, seed=args.seed), headline(p, faces.labels)
            rows[-1] |= {k: interval_text(value[k], limits[k]) for k in ("accuracy", "macro_f1")}
            found.append(p)
            print(pd.DataFrame(rows).to_markdown(index=False, floatfmt=".1f"), flush=True)
    change, value = paired(*found, faces.labels, seed=args.seed), [headline(p, faces.labels) for p in found]
    rows.append({"training": "change", "stage": f"{len(faces):,} test faces"})
    rows[-1] |= {k: interval_text(value[1][k] - value[0][k], change[k]) for k in change}
    return pd.DataFrame(rows).replace(np.nan, None)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--data", type=Path, required=True, help="labelled faces with a test split, such as fer2013plus.npz")
    add("--against", type=Path, metavar="CLONE", help="another clone, with an environment of its own, trains as usual")
    add("--faces", type=int, default=2000, help="training faces (default: %(default)s)")
    add("--epochs-head", type=int, default=6, help="epochs of the head stage (default: %(default)s)")
    add("--epochs-finetune", type=int, default=42, help="epochs of fine-tuning (default: %(default)s)")
    add("--img-size", type=int, default=224, help="side of the input in pixels (default: %(default)s)")
    add("--seed", type=int, default=0, help="of everything random (default: %(default)s)")
    add("--out", type=Path, help="write the table as CSV too")
    args = parser.parse_args()
    table = measure(args)
    print("\n" + table.to_markdown(index=False, floatfmt=".1f"))
    if args.out:
        table.to_csv(args.out, index=False)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
