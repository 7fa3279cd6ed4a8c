"""The bundled model beside the open ones that the package registries carry: same faces, same five classes, same metrics, same run.

    python benchmarks/compare.py --out reports/compare            about 10 minutes on two cores, and 4 GB under build/compare/ for the packages
    python benchmarks/compare.py --out reports/compare --limit 200 --models ours fer

Writes compare.json, compare.md and compare.png. A second run takes a minute: what the other models said is kept in build/compare/scores. It needs ../shared/data (its README says what that is) and, for two of the models, node and npm.

What is done so that the others are not wronged: each gets crops of faces, so that nobody's face detector counts; each prepares them by its own code or, where that is
tied to its detector, as that code does; each gets the framing (how much of the head the crop shows) that it likes best among three, chosen on FER+ validation; and where a
model knows more than five emotions, only the scores of the five are compared, divided by their sum. One view each, no flip averaging.
"""

import argparse
import hashlib
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from face_emotion.core.artefact import Artefact  # noqa: E402
from face_emotion.core.config import DEFAULT_CLASS_NAMES  # noqa: E402
from face_emotion.core.files import sha256  # noqa: E402
from face_emotion.data.dataset import FaceData, at_most, reframe, stratified
from face_emotion.data.sources import load_data  # noqa: E402
from face_emotion.learning.metrics import headline, intervals, per_class  # noqa: E402

HERE, BUILD = ROOT / "benchmarks" / "compare", ROOT / "build" / "compare"
SIDES = (
    0.95,
    1.09,
    1.25,
)  # of the crop over the larger side of the Face Mesh box; FER+ is cut at 1.09, muxspace at 1.25
SAME = {
    "happy": {"happy"},
    "sad": {"sad", "sadness"},
    "neutral": {"neutral"},
    "embarrassed": {"embarrassed", "surprise", "surprised"},
    "anxiety": {"anxiety", "fear", "fearful"},
}
ROUNDS, CALLS = 5, 40


@dataclass(frozen=True)
class Model:
    "One of those compared."

    name: str  # of the worker
    title: str
    trained: str  # on what, as far as anybody says
    source: str  # where that is said
    kind: str = "python"  # python or node
    package: str = ""  # requirements-<package>.txt, for python
    args: tuple[str, ...] = ()


_ARRIAGA = (
    "FER2013, the Training part (the first 80% of its rows); the epoch was chosen on validation and test",
    "https://github.com/oarriaga/face_classification (src/train_emotion_classifier.py, src/utils/datasets.py)",
)
MODELS = (
    Model("ours", "face_emotion (this project)", "", "face_emotion/assets/MODEL_CARD.md"),
    Model("fer", "fer", *_ARRIAGA, package="fer"),
    Model(
        "facex",
        "facex",
        "not said; MobileNetV2 from ImageNet, seven folders of faces",
        "https://github.com/hfahrudin/FastEmotRecognition (mobilenetv2_train.py)",
        package="facex",
    ),
    Model(
        "face-api",
        "@vladmandic/face-api",
        "public data sets, not named, and pictures from the web",
        "https://github.com/vladmandic/face-api (TUTORIAL.md)",
        kind="node",
    ),
    Model("human", "@vladmandic/human", *_ARRIAGA, kind="node"),
)


# ---- the packages, each in a folder of its own


def python_of(package: str) -> Path:  # of its virtual environment
    "Where a package's interpreter is, or will be."
    return BUILD / package / "bin" / "python"


def install(model: Model) -> None:
    "Install what a model needs, unless that was done; raises `CalledProcessError` with the installer's last words."
    if model.name == "ours":
        return
    wanted = HERE / ("package.json" if model.kind == "node" else f"requirements-{model.package}.txt")
    folder = BUILD / ("node" if model.kind == "node" else model.package)
    stamp, mark = folder / "installed", hashlib.sha256(wanted.read_bytes()).hexdigest()
    if stamp.exists() and stamp.read_text() == mark:
        return
    print(f"installing {wanted.relative_to(ROOT)}", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    if model.kind == "node":
        shutil.copy(wanted, folder)
        commands = [["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--silent"]]
    else:
        commands = [
            [sys.executable, "-m", "venv", folder],
            [
                python_of(model.package),
                "-m",
                "pip",
                "install",
                "-q",
                "--no-deps",
                "--disable-pip-version-check",
                "-r",
                wanted,
            ],
        ]
    for command in commands:
        subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    stamp.write_text(mark)


def own_training() -> str:
    "What the bundled model says it was trained on."
    said = Artefact("bundled").metadata.data.get("train", "not said")
    return said.split(";")[0] if isinstance(said, str) else f"{said['source']} ({said['n']:,} faces)"


def weights() -> str:  # SHA-256
    "Which bundled model a report is about."
    return sha256(Artefact("bundled").file(".tflite"))


class Worker:
    "A model in a process of its own."

    def __init__(self, model: Model, folder: Path):  # folder: for the files between us
        command = {
            "python": [
                sys.executable if model.name == "ours" else python_of(model.package),
                HERE / "worker.py",
                model.name,
            ],
            "node": ["node", HERE / "worker.cjs", model.name, BUILD / "node"],
        }[model.kind]
        self.model, self.folder, self.log = model, folder, open(folder / f"{model.name}.log", "w+")
        env = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": str(ROOT) if model.name == "ours" else ""}
        self.process = subprocess.Popen(
            [*command, *model.args], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, text=True, env=env
        )
        self.about = self._read()

    def _read(self) -> dict:
        line = self.process.stdout.readline()
        if line:
            return json.loads(line)
        self.process.wait()
        self.log.seek(0)
        raise RuntimeError(
            f"{self.model.name} ended with code {self.process.returncode}: {' / '.join(self.log.read().strip().splitlines()[-3:])}"
        )

    def ask(self, faces: np.ndarray, **job) -> dict:  # faces: (n, s, s, 3) uint8
        "One job, and its answer."
        path = self.folder / f"{self.model.name}.u8"
        faces.tofile(path)
        self.process.stdin.write(json.dumps({"faces": str(path), "shape": faces.shape, **job}) + "\n")
        self.process.stdin.flush()
        return self._read()

    def scores(self, faces: np.ndarray) -> np.ndarray:  # (n, its classes)
        "What the model says to each face; of the others' models it is remembered, so that new weights of ours cost only our own time."
        code = b"".join(p.read_bytes() for p in (HERE / "worker.py", HERE / "worker.cjs") if p.exists())
        key = hashlib.sha256(
            b"".join([json.dumps([self.model.name, self.about, faces.shape]).encode(), code, faces.tobytes()])
        ).hexdigest()
        kept = BUILD / "scores" / f"{self.model.name}-{key[:16]}.f4"
        if self.model.name == "ours" or not kept.exists():
            kept.parent.mkdir(parents=True, exist_ok=True)
            self.ask(faces, scores=str(kept) + ".part")
            os.replace(str(kept) + ".part", kept)
        return np.fromfile(kept, np.float32).reshape(len(faces), len(self.about["classes"]))

    def close(self) -> None:
        "End the process."
        self.process.stdin.close()
        self.process.wait(60)
        self.log.close()


# ---- the faces


def faces_of(
    data: FaceData, side: float
) -> np.ndarray:  # (n, t, t, 3) uint8, t in proportion to the side: no pixel is scaled
    "All faces of a set in one framing: the middle of the crops, or the crops with their edges repeated around them."
    cut = reframe(data, data.framing.model_copy(update={"side": side}))
    return np.stack([cut.image(i) for i in range(len(cut))])


@dataclass
class Sets:
    "The faces: one set to choose the framing on, two to report on."

    choose: FaceData
    report: dict[str, FaceData] = field(default_factory=dict)


def load_sets(
    folder: Path,  # with fer2013plus.npz and muxspace.npz
    limit: int | None = None,  # for a quick try: so many faces a set
    seed: int = 0,  # of what is drawn
) -> Sets:
    "FER+ validation (500 faces), FER+ test, and muxspace with at most 600 a class."
    ferplus, mux = (
        load_data(folder / "fer2013plus.npz", DEFAULT_CLASS_NAMES),
        load_data(folder / "muxspace.npz", DEFAULT_CLASS_NAMES, split=False)["all"],
    )
    cut = lambda d, n: d.take(stratified(d, min(n, limit or n), seed))
    return Sets(
        cut(ferplus["validation"], 500),
        {
            "FER+ test": cut(ferplus["test"], len(ferplus["test"])),
            "muxspace": cut(mux.take(at_most(mux, 600, seed)), len(mux)),
        },
    )


# ---- the measuring


def five(
    scores: np.ndarray,  # (n, classes) at least 0
    classes: list[str],  # what the model calls them
    class_names: tuple[str, ...] = DEFAULT_CLASS_NAMES,  # the columns wanted
) -> np.ndarray:  # (n, 5), rows sum to 1
    "The scores of our classes, under whatever name the model has for them, divided by their sum."
    columns = [next(i for i, c in enumerate(classes) if c in SAME[name]) for name in class_names]
    kept = np.maximum(np.asarray(scores, np.float64)[:, columns], 1e-12)
    return kept / kept.sum(1, keepdims=True)


def measured(scores: np.ndarray, classes: list[str], data: FaceData, seed: int) -> dict:
    "The headline numbers with their intervals, and recall and F1 by class."
    p = five(scores, classes)
    value, limits, table = (
        headline(p, data.labels),
        intervals(p, data.labels, seed=seed),
        per_class(p, data.labels, list(DEFAULT_CLASS_NAMES)),
    )
    return {
        "n": len(data),
        **{k: {"value": value[k], "interval": limits[k]} for k in ("accuracy", "macro_f1")},
        "recall": dict(zip(table["class"], table["recall"])),
        "f1": dict(zip(table["class"], table["f1"])),
    }


def judge(worker: Worker, sets: Sets, seed: int) -> dict:
    "Choose a model's framing, then measure it."
    classes, name = worker.about["classes"], worker.model.name
    tried = {
        side: headline(five(worker.scores(faces_of(sets.choose, side)), classes), sets.choose.labels)["macro_f1"]
        for side in SIDES
    }
    side = max(tried, key=tried.get)
    found = {
        title: measured(worker.scores(faces_of(data, side)), classes, data, seed) for title, data in sets.report.items()
    }
    print(
        f"{name}: side {side}, "
        + ", ".join(
            f"{t} accuracy {m['accuracy']['value']:.3f} macro-F1 {m['macro_f1']['value']:.3f}" for t, m in found.items()
        ),
        flush=True,
    )
    return {"side": side, "macro_f1_on_validation": {str(k): v for k, v in tried.items()}, "sets": found}


def clock(workers: dict[str, Worker], faces: dict[str, np.ndarray]) -> dict[str, list[float]]:  # ms of every call
    "Time one face a call, models taking turns, after a few calls that do not count."
    times = {name: [] for name in workers}
    for name, worker in workers.items():
        worker.ask(faces[name], calls=10)
    for _ in range(ROUNDS):
        for name, worker in workers.items():
            times[name] += worker.ask(faces[name], calls=CALLS)["ms"]
    return times


def two_cores() -> int:  # how many this process and its children now have
    "Stay on two cores where the system can do that."
    if not hasattr(os, "sched_setaffinity"):
        return os.cpu_count() or 1
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
    return len(os.sched_getaffinity(0))


def compare(models: list[Model], sets: Sets, seed: int) -> dict:
    "All of it; a model that cannot be installed or run is reported with the reason."
    rows, workers = {}, {}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as open_ones:
        for model in models:
            row = rows[model.name] = {
                "title": model.title,
                "trained_on": model.trained or own_training(),
                "source": model.source,
            }
            try:
                install(model)
                worker = Worker(model, Path(folder))
                open_ones.callback(worker.close)
                row |= {
                    **{k: worker.about[k] for k in ("version", "bytes")},
                    "classes": worker.about["classes"],
                    **judge(worker, sets, seed),
                }
                workers[model.name] = worker
            except (subprocess.CalledProcessError, RuntimeError, OSError) as e:
                row["error"] = ((getattr(e, "stderr", "") or str(e)).strip().splitlines() or [repr(e)])[-1][:300]
                print(f"{model.name}: {row['error']}", file=sys.stderr, flush=True)
        few = sets.report["muxspace"].take(np.arange(min(CALLS, len(sets.report["muxspace"]))))
        for name, ms in clock(workers, {name: faces_of(few, rows[name]["side"]) for name in workers}).items():
            rows[name]["ms"] = {
                "median": statistics.median(ms),
                "quartiles": np.percentile(ms, (25, 75)).tolist(),
                "calls": len(ms),
            }
    return rows


# ---- the report


def table(report: dict) -> str:  # Markdown
    "What to read first."
    span = lambda m: f"{m['value']:.3f} ({m['interval'][0]:.3f} to {m['interval'][1]:.3f})"
    titles = list(report["sets"])
    head = ["model", *(f"{t}: {k}" for t in titles for k in ("accuracy", "macro-F1")), "ms a face", "MB", "trained on"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in report["models"].values():
        if "error" in row:
            lines.append(f"| {row['title']} | " + " | ".join(["not run"] * (len(head) - 2)) + f" | {row['error']} |")
        else:
            cells = [span(row["sets"][t][k]) for t in titles for k in ("accuracy", "macro_f1")]
            lines.append(
                "| "
                + " | ".join(
                    [
                        f"{row['title']} {row['version']}",
                        *cells,
                        f"{row['ms']['median']:.1f}",
                        f"{row['bytes'] / 1e6:.1f}",
                        row["trained_on"],
                    ]
                )
                + " |"
            )
    return "\n".join(lines)


def recalls(report: dict) -> str:  # Markdown
    "Which emotions each model finds."
    names = report["class_names"]
    lines = ["| model | set | " + " | ".join(names) + " |", "|" + "---|" * (len(names) + 2)]
    for row in report["models"].values():
        for title, m in row.get("sets", {}).items():
            lines.append(f"| {row['title']} | {title} | " + " | ".join(f"{m['recall'][c]:.2f}" for c in names) + " |")
    return "\n".join(lines)


def words(report: dict) -> str:  # Markdown
    "The report for people."
    n = ", ".join(f"{t} {k:,} faces" for t, k in report["sets"].items())
    notes = [
        f"Seed {report['seed']}; {n}; 95 % intervals from resampled faces. {report['machine']['cores']} cores of {report['machine']['processor']}, "
        f"load {report['machine']['load_before'][0]:.1f} before and {report['machine']['load_after'][0]:.1f} after.",
        "ms: median of single faces that are cropped already, each model's own preparation included, threads as each library sets them, models taking turns.",
        "`embarrassed` is compared with the others' surprise, `anxiety` with their fear. Framing chosen on FER+ validation, "
        + ", ".join(f"{name} {row['side']}" for name, row in report["models"].items() if "side" in row)
        + " times the face's box.",
    ]
    sources = [f"- {row['title']}: {row['trained_on']}. {row['source']}" for row in report["models"].values()]
    return (
        "\n\n".join(
            [
                "# The bundled model and others",
                table(report),
                *notes,
                "## Recall",
                recalls(report),
                "## Trained on what",
                "\n".join(sources),
            ]
        )
        + "\n"
    )


def picture(report: dict) -> Figure:
    "Macro-F1 with its interval on each set, and what a face costs."
    rows = [r for r in report["models"].values() if "error" not in r][::-1]
    fig = Figure(figsize=(9, 0.8 + 0.38 * len(rows)), layout="constrained")
    axs, colors = (
        fig.subplots(1, len(report["sets"]) + 1, sharey=True),
        ["#3876d6" if r["title"].startswith("face_emotion") else "#9aa0a8" for r in rows],
    )
    for ax, title in zip(axs, report["sets"]):
        found = [r["sets"][title]["macro_f1"] for r in rows]
        ax.barh([r["title"] for r in rows], [m["value"] for m in found], color=colors)
        for y, m in enumerate(found):
            ax.plot(m["interval"], [y, y], color="black", lw=1.2)
        ax.set(xlim=(0, 1), xlabel=f"macro-F1, {title}, n={report['sets'][title]:,}")
    axs[-1].barh([r["title"] for r in rows], [r["ms"]["median"] for r in rows], color=colors)
    axs[-1].set_xlabel("ms a face, median")
    for ax in axs:
        ax.tick_params(labelsize=8)
        ax.xaxis.label.set_size(8)
    return fig


def processor() -> str:
    "What the system calls its processor."
    try:
        return next(line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def main(argv: list[str] | None = None) -> int:
    "Compare, and write the report."
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("reports/compare"), help="folder of the report")
    parser.add_argument(
        "--data",
        type=Path,
        default=ROOT.parent / "shared" / "data",
        help="folder with fer2013plus.npz and muxspace.npz",
    )
    parser.add_argument(
        "--models", nargs="+", choices=[m.name for m in MODELS], default=[m.name for m in MODELS], help="which of them"
    )
    parser.add_argument("--limit", type=int, help="for a quick try: so many faces a set")
    parser.add_argument("--seed", type=int, default=0, help="of what is drawn, and of the intervals")
    args = parser.parse_args(argv)
    if lacking := [n for n in ("fer2013plus.npz", "muxspace.npz") if not (args.data / n).is_file()]:
        print(f"{' and '.join(lacking)} must be in {args.data}; give --data", file=sys.stderr)
        return 1
    before, cores = os.getloadavg(), two_cores()
    sets = load_sets(args.data, args.limit, args.seed)
    rows = compare([m for m in MODELS if m.name in args.models], sets, args.seed)
    report = {
        "class_names": list(DEFAULT_CLASS_NAMES),
        "seed": args.seed,
        "chosen_on": {"FER+ validation": len(sets.choose)},
        "sets": {t: len(d) for t, d in sets.report.items()},
        "weights": weights(),
        "machine": {
            "processor": processor(),
            "cores": cores,
            "python": platform.python_version(),
            "load_before": before,
            "load_after": os.getloadavg(),
        },
        "models": rows,
    }
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "compare.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    (args.out / "compare.md").write_text(words(report), encoding="utf-8")
    picture(report).savefig(args.out / "compare.png", dpi=110)
    print(f"\n{table(report)}\n\n{args.out}/compare.json, compare.md, compare.png")
    return int(any("error" in r for r in rows.values()))


if __name__ == "__main__":
    sys.exit(main())
