"""The bundled model and the open ones in public package registries: same faces, same classes, same metrics, same run.

    python benchmarks/compare.py --out reports/compare
    python benchmarks/compare.py --out reports/compare --limit 200 --models ours fer

The first run takes about ten minutes on two cores and 4 GB of packages under build/compare/. A second run takes a
minute, because the scores of the other models are kept in build/compare/scores. You need fer2013plus.npz, muxspace.npz
and teachers.npz (docs/data.md says how to get them), and node with npm for two of the models. The script writes
compare.json, compare.md and compare.png.

Four rules keep the comparison fair. Each model gets face crops, so face detectors don't count. Each prepares them by
its own code or, where that code is tied to a detector, by the same steps. Each gets the framing it likes best among
three, chosen on FER+ validation. Where a model knows more than five emotions, only the scores of the five are compared,
divided by their sum. There is one view of each face, no averaging with the mirror image.
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
import pandas as pd
from matplotlib.figure import Figure

from face_emotion.core.artefact import Artefact
from face_emotion.core.config import DEFAULT_CLASS_NAMES, load_settings
from face_emotion.core.files import sha256, write_atomically
from face_emotion.data.dataset import FaceData, at_most, reframe, stratified
from face_emotion.data.sources import from_npz, unseen
from face_emotion.learning.metrics import headline, intervals, per_class

ROOT = Path(__file__).resolve().parents[1]
HERE, BUILD = ROOT / "benchmarks" / "compare", ROOT / "build" / "compare"
FILES = ("fer2013plus.npz", "muxspace.npz", "teachers.npz")
SIDES = (0.95, 1.09, 1.25)  # side of the crop over the side of the Face Mesh box; FER+ is cut at 1.09, muxspace at 1.25
SYNONYMS = {
    "happy": {"happy"},
    "sad": {"sad", "sadness"},
    "neutral": {"neutral"},
    "embarrassed": {"embarrassed", "surprise", "surprised"},
    "anxiety": {"anxiety", "fear", "fearful"},
}
ROUNDS, CALLS = 5, 40  # of the timing


@dataclass(frozen=True)
class Model:
    "A model to compare."

    name: str  # of the worker
    title: str  # in the report
    trained: str  # data it was trained on, as far as stated
    source: str  # where that is stated
    kind: str = "python"  # python or node
    package: str = ""  # requirements-<package>.txt, for python


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
        "not stated; MobileNetV2 from ImageNet, seven folders of faces",
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


def python_of(package: str) -> Path:
    "The interpreter of a package's virtual environment."
    return BUILD / package / "bin" / "python"


def install(model: Model) -> None:
    "Install what a model needs, unless it's installed already. Raises `CalledProcessError`."
    if model.name == "ours":
        return
    wanted = HERE / ("package.json" if model.kind == "node" else f"requirements-{model.package}.txt")
    folder = BUILD / ("node" if model.kind == "node" else model.package)
    stamp, digest = folder / "installed", sha256(wanted)
    if stamp.exists() and stamp.read_text() == digest:
        return

    print(f"installing {wanted.relative_to(ROOT)}", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    if model.kind == "node":
        shutil.copy(wanted, folder)
        commands = [["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--silent"]]
    else:
        pip = [python_of(model.package), "-m", "pip", "install", "-q", "--no-deps", "--disable-pip-version-check"]
        commands = [[sys.executable, "-m", "venv", folder], [*pip, "-r", wanted]]
    for command in commands:
        subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    stamp.write_text(digest)


def own_training() -> str:
    "The training data of the bundled model, from its metadata."
    stated = Artefact("bundled").metadata.data.get("train", "not stated")
    return stated.split(";")[0] if isinstance(stated, str) else f"{stated['source']} ({stated['n']:,} faces)"


def weights() -> str:
    "SHA-256 of the bundled model that a report is about."
    return sha256(Artefact("bundled").file(".tflite"))


class Worker:
    "A model in a process of its own. Raises `RuntimeError` when the process ends early."

    def __init__(
        self,
        model: Model,  # which is installed
        folder: Path,  # for the files that go back and forth
    ):
        self.model, self.folder = model, folder
        self.log = open(folder / f"{model.name}.log", "w+")
        if model.kind == "node":
            command = ["node", HERE / "worker.cjs", model.name, BUILD / "node"]
        else:
            python = sys.executable if model.name == "ours" else python_of(model.package)
            command = [python, HERE / "worker.py", model.name]
        env = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": str(ROOT) if model.name == "ours" else ""}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": self.log}
        self.process = subprocess.Popen(command, **pipes, text=True, env=env)
        self.about = self._read()  # classes, bytes and version

    def _read(self) -> dict:
        if line := self.process.stdout.readline():
            return json.loads(line)
        self.process.wait()
        self.log.seek(0)
        last = " / ".join(self.log.read().strip().splitlines()[-3:])
        raise RuntimeError(f"{self.model.name} ended with code {self.process.returncode}: {last}")

    def request(
        self,
        faces: np.ndarray,  # (n, s, s, 3) uint8 RGB
        **job,  # scores=FILE or calls=N, see worker.py
    ) -> dict:
        "Send one job and read its result."
        path = self.folder / f"{self.model.name}.u8"
        faces.tofile(path)
        self.process.stdin.write(json.dumps({"faces": str(path), "shape": faces.shape, **job}) + "\n")
        self.process.stdin.flush()
        return self._read()

    def scores(
        self,
        faces: np.ndarray,  # (n, s, s, 3) uint8 RGB
    ) -> np.ndarray:  # (n, its classes) float32
        "The model's scores. Those of the other models are kept on disk, so new weights of ours cost only our own time."
        code = b"".join(p.read_bytes() for p in (HERE / "worker.py", HERE / "worker.cjs") if p.exists())
        about = json.dumps([self.model.name, self.about, faces.shape]).encode()
        key = hashlib.sha256(about + code + faces.tobytes()).hexdigest()
        kept = BUILD / "scores" / f"{self.model.name}-{key[:16]}.f4"
        if self.model.name == "ours" or not kept.exists():
            kept.parent.mkdir(parents=True, exist_ok=True)
            self.request(faces, scores=f"{kept}.part")
            os.replace(f"{kept}.part", kept)
        return np.fromfile(kept, np.float32).reshape(len(faces), len(self.about["classes"]))

    def close(self) -> None:
        "End the process."
        self.process.stdin.close()
        self.process.wait(60)
        self.log.close()


# ---- the faces


def crops_of(
    data: FaceData,  # square crops
    side: float,  # of the new crops, over the side of the Face Mesh box
) -> np.ndarray:  # (n, t, t, 3) uint8; t is in proportion to the side, no pixel is scaled
    "All faces in one framing: the middle of the crops, or the crops with their edges repeated around them."
    cut = reframe(data, data.framing.model_copy(update={"side": side}))
    return np.stack([cut.image(i) for i in range(len(cut))])


@dataclass
class Sets:
    "The faces: one set to choose the framing on, and those to report on."

    choose: FaceData
    report: dict[str, FaceData] = field(default_factory=dict)


def load_sets(
    folder: Path,  # with the three files
    limit: int | None = None,  # at most so many faces per set, for a quick run
    seed: int = 0,  # of what is drawn
) -> Sets:
    "500 faces of FER+ validation, FER+ test, and at most 600 a class of the muxspace faces unseen by ours."
    ferplus = from_npz(folder / "fer2013plus.npz")
    mux = unseen(from_npz(folder / "muxspace.npz")["all"], folder / "teachers.npz")
    mux = mux.take(at_most(mux, 600, seed))

    def draw(data: FaceData, n: int) -> FaceData:
        return data.take(stratified(data, min(n, limit or n), seed))

    report = {"FER+ test": ferplus["test"], "muxspace": mux}
    return Sets(draw(ferplus["validation"], 500), {title: draw(d, len(d)) for title, d in report.items()})


# ---- the measurements


def five_classes(
    scores: np.ndarray,  # (n, classes) at least 0
    classes: list[str],  # the model's names for them
    class_names: tuple[str, ...] = DEFAULT_CLASS_NAMES,  # the columns wanted
) -> np.ndarray:  # (n, 5), rows sum to 1
    "The scores of our classes, under whatever name the model has for them, divided by their sum."
    columns = [next(i for i, c in enumerate(classes) if c in SYNONYMS[name]) for name in class_names]
    kept = np.maximum(np.asarray(scores, np.float64)[:, columns], 1e-12)
    return kept / kept.sum(1, keepdims=True)


def measure_set(scores: np.ndarray, classes: list[str], data: FaceData, seed: int) -> dict:
    "The headline numbers with their intervals, and recall and F1 by class."
    p = five_classes(scores, classes)
    value, limits = headline(p, data.labels), intervals(p, data.labels, seed=seed)
    table = per_class(p, data.labels, list(DEFAULT_CLASS_NAMES)).set_index("class")
    numbers = {k: {"value": value[k], "interval": limits[k]} for k in ("accuracy", "macro_f1")}
    return {"n": len(data), **numbers, **{k: table[k].to_dict() for k in ("recall", "f1")}}


TEACHERS = {  # key in teachers.npz
    "hse_": "EmotiEffLib MobileNet",
    "facex_": "facex",
    "faceapi_": "@vladmandic/face-api",
    "": "ensemble of the three",
}


def measure_teachers(
    folder: Path,  # with the three files
    sets: dict[str, FaceData],  # FER+ test and muxspace, or some faces of them
    seed: int = 0,  # of the intervals
) -> dict[str, dict]:  # by teacher, then by set
    "The stored answers of the teachers of ours on the same faces, and of their ensemble."
    found = {title: {} for title in TEACHERS.values()}
    with np.load(folder / "teachers.npz") as teachers:
        for name, data in sets.items():
            key = "fer2013plus" if data.source == "fer2013plus.npz" else "muxspace"
            with np.load(folder / f"{key}.npz") as z:
                row = {face: i for i, face in enumerate(z["name"].astype(str))}
            rows = [row[face] for face in data.names]
            for prefix, title in TEACHERS.items():
                answers = teachers[prefix + key][rows]
                found[title][name] = measure_set(answers, list(DEFAULT_CLASS_NAMES), data, seed)
    return found


def measure_model(worker: Worker, sets: Sets, seed: int) -> dict:
    "Choose a model's framing, then measure it."
    classes, choose = worker.about["classes"], sets.choose
    tried = {}
    for side in SIDES:
        p = five_classes(worker.scores(crops_of(choose, side)), classes)
        tried[side] = headline(p, choose.labels)["macro_f1"]
    side = max(tried, key=tried.get)

    found = {}
    for title, data in sets.report.items():
        found[title] = m = measure_set(worker.scores(crops_of(data, side)), classes, data, seed)
        numbers = f"accuracy {m['accuracy']['value']:.3f}, macro-F1 {m['macro_f1']['value']:.3f}"
        print(f"{worker.model.name}, {title}, side {side}: {numbers}", flush=True)
    return {"side": side, "macro_f1_on_validation": {str(k): v for k, v in tried.items()}, "sets": found}


def measure_times(
    workers: dict[str, Worker],  # by name
    faces: dict[str, np.ndarray],  # crops in each worker's framing
) -> dict[str, list[float]]:  # milliseconds of every call
    "Time one face a call. Models take turns, after a few calls that don't count."
    times = {name: [] for name in workers}
    for name, worker in workers.items():
        worker.request(faces[name], calls=10)
    for _ in range(ROUNDS):
        for name, worker in workers.items():
            times[name] += worker.request(faces[name], calls=CALLS)["ms"]
    return times


def use_two_cores() -> int:  # how many cores this process and its children now have
    "Stay on two cores where the system allows it."
    if not hasattr(os, "sched_setaffinity"):
        return os.cpu_count() or 1
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
    return len(os.sched_getaffinity(0))


def last_line(error: Exception) -> str:
    "The last line of what a failed command or worker wrote."
    text = getattr(error, "stderr", "") or str(error)
    return (text.strip().splitlines() or [repr(error)])[-1][:300]


def compare(models: list[Model], sets: Sets, seed: int) -> dict:
    "The rows of the report. A model that can't be installed or run is reported with the reason."
    rows, workers = {}, {}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        for model in models:
            training = model.trained or own_training()
            row = rows[model.name] = {"title": model.title, "trained_on": training, "source": model.source}
            try:
                install(model)
                worker = Worker(model, Path(folder))
                stack.callback(worker.close)
                row |= {**worker.about, **measure_model(worker, sets, seed)}
                workers[model.name] = worker
            except (subprocess.CalledProcessError, RuntimeError, OSError) as e:
                row["error"] = last_line(e)
                print(f"{model.name}: {row['error']}", file=sys.stderr, flush=True)

        few = sets.report["muxspace"].take(np.arange(min(CALLS, len(sets.report["muxspace"]))))
        crops = {name: crops_of(few, rows[name]["side"]) for name in workers}
        for name, ms in measure_times(workers, crops).items():
            quartiles = np.percentile(ms, (25, 75)).tolist()
            rows[name]["ms"] = {"median": statistics.median(ms), "quartiles": quartiles, "calls": len(ms)}
    return rows


# ---- the report


def results_table(report: dict) -> pd.DataFrame:
    "The table to read first: a row per model."
    rows = []
    for model in report["models"].values():
        row = {"model": f"{model['title']} {model.get('version', '')}".strip()}
        for title in report["sets"]:
            for key, name in (("accuracy", "accuracy"), ("macro_f1", "macro-F1")):
                m = model["sets"][title][key] if "sets" in model else None
                span = f"{m['value']:.3f} ({m['interval'][0]:.3f} to {m['interval'][1]:.3f})" if m else "not run"
                row[f"{title}: {name}"] = span
        row["ms a face"] = f"{model['ms']['median']:.1f}" if "ms" in model else ""
        row["MB"] = f"{model['bytes'] / 1e6:.1f}" if "bytes" in model else ""
        row["trained on"] = model.get("error", model["trained_on"])
        rows.append(row)
    return pd.DataFrame(rows)


def teacher_table(report: dict) -> pd.DataFrame:
    "Accuracy and macro-F1 of each teacher, a row per teacher."
    rows = []
    for title, found in report["teachers"].items():
        row = {"teacher": title}
        for name, m in found.items():
            for key, text in (("accuracy", "accuracy"), ("macro_f1", "macro-F1")):
                low, high = m[key]["interval"]
                row[f"{name}: {text}"] = f"{m[key]['value']:.3f} ({low:.3f} to {high:.3f})"
        rows.append(row)
    return pd.DataFrame(rows)


def recall_table(report: dict) -> pd.DataFrame:
    "Which emotions each model finds."
    rows = []
    for model in report["models"].values():
        for title, m in model.get("sets", {}).items():
            recall = {c: f"{m['recall'][c]:.2f}" for c in report["class_names"]}
            rows.append({"model": model["title"], "set": title, **recall})
    return pd.DataFrame(rows)


def markdown(report: dict) -> str:
    "The report as a page."
    machine, models = report["machine"], report["models"].values()
    n = ", ".join(f"{title} {k:,} faces" for title, k in report["sets"].items())
    load = f"{machine['load_before'][0]:.1f} before and {machine['load_after'][0]:.1f} after"
    sides = ", ".join(f"{name} {row['side']}" for name, row in report["models"].items() if "side" in row)
    parts = [
        "# The bundled model and others",
        results_table(report).to_markdown(index=False, disable_numparse=True),
        f"Seed {report['seed']}; {n}; 95 % intervals from resampled faces. {machine['cores']} cores of "
        f"{machine['processor']}, load {load}.",
        "ms: median over single faces that are cropped already, with each model's own preparation. Threads as each "
        "library sets them; models take turns.",
        "`embarrassed` is compared with the others' surprise, `anxiety` with their fear. muxspace without the "
        "photographs that ours was trained or chosen on. Framing chosen on FER+ validation, as the side of the crop "
        f"over the side of the face's box: {sides}.",
        "## Recall",
        recall_table(report).to_markdown(index=False, disable_numparse=True),
        "## The teachers of ours",
        "Their stored answers (teachers.npz) on the same faces, not calibrated; in the ensemble they are.",
        teacher_table(report).to_markdown(index=False, disable_numparse=True),
        "## Training data",
        "\n".join(f"- {row['title']}: {row['trained_on']}. {row['source']}" for row in models),
    ]
    return "\n\n".join(parts) + "\n"


def figure(report: dict) -> Figure:
    "Macro-F1 with its interval on each set, and what a face costs."
    rows = [r for r in report["models"].values() if "error" not in r][::-1]
    titles = [r["title"] for r in rows]
    colors = ["#3876d6" if t.startswith("face_emotion") else "#9aa0a8" for t in titles]
    fig = Figure(figsize=(9, 0.8 + 0.38 * len(rows)), layout="constrained")
    axs = fig.subplots(1, len(report["sets"]) + 1, sharey=True)

    for ax, (name, n) in zip(axs, report["sets"].items()):
        found = [r["sets"][name]["macro_f1"] for r in rows]
        ax.barh(titles, [m["value"] for m in found], color=colors)
        for y, m in enumerate(found):
            ax.plot(m["interval"], [y, y], color="black", lw=1.2)
        ax.set(xlim=(0, 1), xlabel=f"macro-F1, {name}, n={n:,}")
    axs[-1].barh(titles, [r["ms"]["median"] for r in rows], color=colors)
    axs[-1].set_xlabel("ms a face, median")
    for ax in axs:
        ax.tick_params(labelsize=8)
        ax.xaxis.label.set_size(8)
    return fig


def processor() -> str:
    "The system's name for its processor."
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def parse(argv: list[str] | None) -> argparse.Namespace:
    "The command's arguments."
    names = [m.name for m in MODELS]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("reports/compare"), help="folder of the report")
    parser.add_argument("--data", type=Path, help=f"folder with {', '.join(FILES)} (default: PUBLIC_DATA_DIR)")
    parser.add_argument("--models", nargs="+", choices=names, default=names, help="which models")
    parser.add_argument("--limit", type=int, help="at most so many faces per set, for a quick run")
    parser.add_argument("--seed", type=int, default=0, help="of what is drawn, and of the intervals")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    "Compare, and write the report."
    args = parse(argv)
    folder = args.data or load_settings().public_data_folder
    if lacking := [n for n in FILES if not (folder / n).is_file()]:
        print(
            f"{folder} has no {', '.join(lacking)}. docs/data.md says how to get them; or give --data", file=sys.stderr
        )
        return 1

    before, cores = os.getloadavg(), use_two_cores()
    sets = load_sets(folder, args.limit, args.seed)
    rows = compare([m for m in MODELS if m.name in args.models], sets, args.seed)
    machine = {"processor": processor(), "cores": cores, "python": platform.python_version()}
    report = {
        "class_names": list(DEFAULT_CLASS_NAMES),
        "seed": args.seed,
        "chosen_on": {"FER+ validation": len(sets.choose)},
        "sets": {title: len(d) for title, d in sets.report.items()},
        "weights": weights(),
        "machine": {**machine, "load_before": before, "load_after": os.getloadavg()},
        "models": rows,
        "teachers": measure_teachers(folder, sets.report, args.seed),
    }
    write_atomically(args.out / "compare.json", json.dumps(report, indent=1) + "\n")
    write_atomically(args.out / "compare.md", markdown(report))
    figure(report).savefig(args.out / "compare.png", dpi=110)
    print(f"\n{results_table(report).to_string()}\n\n{args.out}/compare.json, compare.md, compare.png")
    return int(any("error" in r for r in rows.values()))


if __name__ == "__main__":
    sys.exit(main())
