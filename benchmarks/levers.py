"""What each lever gives on sets that may choose a model: FER+ validation and taught faces.

    python benchmarks/card_data.py --out build/card
    python benchmarks/levers.py --base BASE.keras --distilled DISTILLED.keras --out reports/levers
    python benchmarks/levers.py --base BASE.keras --distilled DISTILLED.keras --runs both=MODEL.keras --out reports/runs

Measures the base at 0.4 to 1 of the way to the distilled weights, each with several shares of a class prior in its last
biases; at 0.6 also averaged with the mirror image, and with BatchNorm statistics computed again (--train). With --runs:
models trained from the base (lever_data.py) instead, each alone, and as a part of what is combined; then the mean of
all runs as such a part. FER+ test and muxspace half B take no part. Writes levers.csv and levers.md. It takes about a
minute a model on two cores.
"""

import argparse
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from face_emotion.core.artefact import Artefact
from face_emotion.core.config import load_settings
from face_emotion.core.files import write_atomically
from face_emotion.data.dataset import FaceData, reframe, stratified
from face_emotion.data.sources import from_npz, load_data
from face_emotion.learning.export import load_artefact
from face_emotion.learning.metrics import headline, predict_views, select_rows
from face_emotion.model import bundle

STEPS = (0.4, 0.5, 0.6, 0.7, 0.8, 1.0)  # of the way from the base to the distilled weights
KEPT = 0.6  # the step of the bundled model, also measured with both views and with new BatchNorm statistics
SHARES = (-0.2, 0.0, 0.2, 0.4)  # of the prior that is added to the last biases
# Of what the distilled weights changed in the base, and of what the runs changed in it: the parts that are added up.
PARTS = ((0.4, 0.3), (0.6, 0.2), (0.3, 0.5), (0.2, 0.7))
PRIOR = np.array([0.22, 0.16, 0.40, 0.12, 0.10])  # of which the distilled weights hold 0.2
SEED = 0  # of the faces for BatchNorm


def choosing_sets(
    folder: Path,  # of the public data
    card: Path,  # what card_data.py wrote
    muxspace: bool = False,  # half A of muxspace as well, with its own labels
) -> dict[str, FaceData]:
    "The sets that may choose, in the framing of the bundled model."
    sets = {
        "FER+ validation": from_npz(folder / "fer2013plus.npz")["validation"],
        "taught": from_npz(card / "held_out.npz")["all"],
    }
    if muxspace:
        sets["muxspace A"] = select_rows(from_npz(folder / "muxspace.npz"), card / "half_a.csv")["all"]
    framing = Artefact("bundled").metadata.framing
    return {name: reframe(data, framing) for name, data in sets.items()}


def add_bias(
    p: np.ndarray,  # (n, 5) probabilities
    bias: np.ndarray,  # (5,) added to the logits
) -> np.ndarray:  # (n, 5), rows sum to 1
    "The probabilities with other last biases."
    p = p * np.exp(bias)
    return p / p.sum(1, keepdims=True)


@dataclass(frozen=True)
class Blend:
    "A combination of weights, as `face-emotion model --blend` makes it."

    name: str
    step: float  # share of the distilled weights; the base has what is left
    runs: dict[Path, float] = field(default_factory=dict)  # other models, and their shares
    mirrored: bool = False  # measure the mean with the mirror image as well

    def make(
        self,
        args: argparse.Namespace,  # of the command
        stem: Path,  # of the files
        faces: FaceData | None,  # training faces, for new BatchNorm statistics
    ):
        "The classifier. The distilled weights hold their prior in proportion."
        meta = Artefact("bundled").file(".json")
        shares = (max(0, 1 - self.step - sum(self.runs.values())), self.step, *self.runs.values())
        options = {"metadata": meta, "formats": (".tflite",), "img_size": 160, "faces": faces}
        bundle(args.base, stem, blend=(args.distilled, *self.runs), shares=shares, **options)
        return load_artefact(stem, kind=".tflite")


def blends_of(args: argparse.Namespace) -> list[Blend]:
    "What is measured: the steps; or each run, alone and as a part, and all runs as a part."
    if not args.runs:
        return [Blend(f"{step:g}", step, mirrored=step == KEPT) for step in STEPS]
    runs = {name: Path(path) for name, path in (text.split("=", 1) for text in args.runs)}
    found = [Blend(f"{KEPT:g}", KEPT)]
    for name, path in runs.items():
        step, part = PARTS[0]
        found += [Blend(name, 0, {path: 1.0}), Blend(f"{step:g} + {part:g} {name}", step, {path: part})]
    if len(runs) > 1:
        mean = [(step, part, dict.fromkeys(runs.values(), part / len(runs))) for step, part in PARTS]
        found += [Blend(f"{step:g} + {part:g} of all runs", step, shares) for step, part, shares in mean]
    return found


def row_of(lever: dict, found: dict[str, np.ndarray], sets: dict[str, FaceData], minutes: float) -> dict:
    "Accuracy and macro-F1 on each set, and their mean over the sets."
    numbers = {name: headline(found[name], data.labels) for name, data in sets.items()}
    row = {**lever}
    for name, m in numbers.items():
        row[f"{name}: accuracy"], row[f"{name}: macro-F1"] = m["accuracy"], m["macro_f1"]
    row["mean"] = np.mean([(m["accuracy"] + m["macro_f1"]) / 2 for m in numbers.values()])
    return {**row, "minutes": minutes}


def measure(
    blend: Blend, args: argparse.Namespace, sets: dict[str, FaceData], faces: FaceData | None = None
) -> list[dict]:
    "The rows of one combination: each share of the prior, one view and perhaps both."
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        model = blend.make(args, Path(folder) / "model", faces)
        views = {name: predict_views(model, data, mirrored=blend.mirrored) for name, data in sets.items()}
    minutes = (time.perf_counter() - start) / 60

    fitted = Artefact("bundled").metadata.data["fitted_bias"]
    biases = {f"{s:g} of the prior": s * np.log(PRIOR) for s in SHARES}
    biases["fitted"] = np.array([fitted[c] for c in Artefact("bundled").metadata.class_names])
    rows = []
    for name, bias in biases.items():
        for view, averaged in (("one", 0), ("both", 1))[: 1 + blend.mirrored]:
            found = {k: add_bias(v[averaged], bias - 0.2 * blend.step * np.log(PRIOR)) for k, v in views.items()}
            lever = {"step": blend.name, "biases": name, "views": view, "batchnorm": "new" if faces else "as trained"}
            rows.append(row_of(lever, found, sets, minutes))
        print(f"{blend.name}, {lever['batchnorm']}, {name}: {rows[-1]['mean']:.4f}", flush=True)
    return rows


def save(rows: list[dict], sets: dict[str, FaceData], out: Path) -> None:
    "Write the table; after every step, so that an interrupted run leaves something."
    table = pd.DataFrame(rows).round(4)
    n = ", ".join(f"{name} {len(data):,}" for name, data in sets.items())
    write_atomically(out / "levers.csv", table.to_csv(index=False))
    write_atomically(out / "levers.md", f"{table.to_markdown(index=False)}\n\nn: {n}; seed {SEED}\n")


def main(argv: list[str] | None = None) -> None:
    "Measure, and write the table."
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=Path, required=True, help="the base, a .keras file")
    parser.add_argument("--distilled", type=Path, required=True, help="the distilled weights, a .keras file")
    parser.add_argument("--data", type=Path, help="folder of the public data (default: PUBLIC_DATA_DIR)")
    parser.add_argument("--card", type=Path, default=Path("build/card"), help="folder that card_data.py wrote")
    parser.add_argument("--runs", nargs="+", metavar="NAME=MODEL.keras", help="models that were trained from the base")
    parser.add_argument("--train", type=Path, nargs="+", help="training faces, for BatchNorm (default: leave it out)")
    parser.add_argument("--muxspace", action="store_true", help="measure muxspace half A too, which doubles the time")
    parser.add_argument("--out", type=Path, default=Path("reports/levers"), help="folder of the table")
    args = parser.parse_args(argv)
    sets = choosing_sets(args.data or load_settings().public_data_folder, args.card, args.muxspace)

    rows = []
    for blend in blends_of(args):
        rows += measure(blend, args, sets)
        save(rows, sets, args.out)
    if args.train:
        faces = load_data(args.train)["train"]
        faces = reframe(faces.take(stratified(faces, 2000, SEED)), Artefact("bundled").metadata.framing)
        rows += measure(Blend(f"{KEPT:g}", KEPT, mirrored=True), args, sets, faces)
        save(rows, sets, args.out)
    print(f"{args.out}/levers.csv, levers.md")


if __name__ == "__main__":
    main()
