"""The comparison's own logic, with a stand-in for the models: nothing is installed and nothing is measured."""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
pytest.importorskip("pandas")
spec = importlib.util.spec_from_file_location("compare", ROOT / "benchmarks" / "compare.py")
compare = sys.modules["compare"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(compare)

from dataclasses import replace  # noqa: E402

from face_emotion.core.crop import Framing  # noqa: E402
from face_emotion.data.dataset import from_arrays  # noqa: E402

STAND_IN = """
import json, sys
import numpy as np

classes = ["sadness", "fear", "happy", "surprise", "neutral", "anger"]
print(json.dumps({"classes": classes, "bytes": 5, "version": "1"}), flush=True)
for line in sys.stdin:
    job = json.loads(line)
    faces = np.fromfile(job["faces"], np.uint8).reshape(job["shape"])
    if "calls" in job:
        print(json.dumps({"ms": [1.0] * job["calls"]}), flush=True)
        continue
    order = [2, 0, 4, 3, 1]  # the grey of a face is its class
    np.eye(6, dtype=np.float32)[[order[int(f.mean()) // 50] for f in faces]].tofile(job["scores"])
    print(json.dumps({"done": len(faces)}), flush=True)
"""


@pytest.fixture
def sets():
    "Grey squares whose shade is the class."
    labels = np.arange(40) % 5
    faces = from_arrays(np.repeat(labels * 50 + 10, 60 * 60).reshape(40, 60, 60).astype(np.uint8), labels)
    mux = replace(faces, framing=Framing(side=1.25, shift_y=-0.046))
    return compare.Sets(faces, {"FER+ test": faces, "muxspace": mux})


@pytest.fixture
def stand_in(monkeypatch, tmp_path):
    (tmp_path / "worker.py").write_text(STAND_IN)
    monkeypatch.setattr(compare, "HERE", tmp_path)
    monkeypatch.setattr(compare, "BUILD", tmp_path)
    monkeypatch.setattr(compare, "install", lambda model: None)
    return tmp_path / "worker.py"


def report_of(sets, models) -> dict:
    "A report as `main` writes it."
    rows = compare.compare(models, sets, 0)
    return {
        "class_names": list(compare.DEFAULT_CLASS_NAMES),
        "seed": 0,
        "sets": {t: len(d) for t, d in sets.report.items()},
        "models": rows,
        "teachers": {},
        "machine": {"processor": "p", "cores": 2, "load_before": [0], "load_after": [0]},
    }


def test_a_perfect_model_is_right_in_every_framing(stand_in, sets):
    report = json.loads(json.dumps(report_of(sets, [compare.MODELS[0]])))
    row = report["models"]["ours"]
    for title in sets.report:
        for key in ("accuracy", "macro_f1"):
            assert row["sets"][title][key] == {"value": 1, "interval": [1, 1]}
    assert set(row["macro_f1_on_validation"].values()) == {1.0}
    assert row["side"] in compare.SIDES
    assert row["ms"] == {"median": 1.0, "quartiles": [1.0, 1.0], "calls": compare.ROUNDS * compare.CALLS}
    page = compare.markdown(report)
    assert "1.000 (1.000 to 1.000)" in page
    assert page.count("| face_emotion (this project)") == 3  # results, and recall on two sets
    assert len(compare.figure(report).axes) == 3


def test_teachers_are_found_by_name(sets, tmp_path):
    faces = replace(sets.report["FER+ test"], source="fer2013plus.npz", names=[f"{i}.png" for i in range(40)])
    order = np.random.default_rng(0).permutation(40)
    right, wrong = faces.targets[order], np.roll(faces.targets, 1, 1)[order]
    for key in ("fer2013plus", "muxspace"):
        np.savez(tmp_path / f"{key}.npz", name=np.array(faces.names)[order])
    answers = {f"{p}fer2013plus": wrong if p == "facex_" else right for p in compare.TEACHERS}
    np.savez(tmp_path / "teachers.npz", **answers)

    few = faces.take(np.arange(5, 25))
    found = compare.measure_teachers(tmp_path, {"FER+ test": few})
    assert found["ensemble of the three"]["FER+ test"]["n"] == 20
    accuracy = {title: m["FER+ test"]["accuracy"]["value"] for title, m in found.items()}
    assert accuracy == {"EmotiEffLib MobileNet": 1, "facex": 0, "@vladmandic/face-api": 1, "ensemble of the three": 1}
    table = compare.teacher_table({"teachers": found}).set_index("teacher")
    assert table.loc["facex", "FER+ test: accuracy"] == "0.000 (0.000 to 0.000)"


def test_a_broken_model_is_reported_and_the_others_continue(stand_in, sets, tmp_path):
    broken = compare.Model("broken", "broken", "nothing", "nowhere", package="none")
    python = tmp_path / "none" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\necho no such library >&2\nexit 3\n")
    python.chmod(0o755)
    report = report_of(sets, [broken, compare.MODELS[0]])
    assert "ended with code 3" in report["models"]["broken"]["error"]
    assert "no such library" in report["models"]["broken"]["error"]
    assert "ms" in report["models"]["ours"]
    table = compare.results_table(report).set_index("model")
    assert table.loc["broken", "muxspace: accuracy"] == "not run"
    assert "no such library" in table.loc["broken", "trained on"]


def test_every_package_is_pinned():
    for model in compare.MODELS:
        if model.package:
            assert f"{model.package}==" in (compare.HERE / f"requirements-{model.package}.txt").read_text()
    pins = json.loads((compare.HERE / "package.json").read_text())["dependencies"]
    assert all(v[0].isdigit() for v in pins.values())
    assert {f"@vladmandic/{m.name}" for m in compare.MODELS if m.kind == "node"} <= set(pins)


def test_missing_data_is_named(tmp_path, capsys):
    assert compare.main(["--data", str(tmp_path), "--out", str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert "fer2013plus.npz, muxspace.npz, teachers.npz" in error
    assert "docs/data.md" in error
    assert not (tmp_path / "out").exists()
