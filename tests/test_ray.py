"""What runs on a Ray cluster: the same rows as on one machine, whatever happens to nodes, processes and files."""

import csv
import importlib.util
import json
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path
from unittest import mock

import cv2
import numpy as np
import pytest
from skimage import data

from face_emotion.core import cluster as cluster_room
from face_emotion.core.cluster import map_on_ray
from face_emotion.core.predictor import Predictor
from face_emotion.core.remote import Done, predict_on_ray
from face_emotion.core.run import Run, predict_sources
from face_emotion.core.sources import find_sources
from face_emotion.data.sample import SMALL_SIZES, make_sample
from face_emotion.preprocess import preprocess

has_ray = importlib.util.find_spec("ray") is not None
needs_ray = pytest.mark.skipif(not has_ray, reason="Ray is an optional extra: pip install '.[ray]'")
pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    "Twenty pictures, one of which is broken, and a short video."
    d, astronaut = tmp_path_factory.mktemp("inputs"), data.astronaut()[..., ::-1]
    for i in range(20):
        cv2.imwrite(str(d / f"{i:02}.png"), np.roll(astronaut, 25 * i, axis=1))
    (d / "07.png").write_bytes((d / "06.png").read_bytes()[:3000])
    clip = cv2.VideoWriter(str(d / "clip.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), 10, (512, 512))
    for i in range(6):
        clip.write(np.roll(astronaut, 4 * i, axis=1) if i else np.zeros_like(astronaut))
    clip.release()
    return d


@pytest.fixture(scope="module")
def local_table(folder, tmp_path_factory) -> bytes:
    "The table of a run without Ray."
    table = tmp_path_factory.mktemp("local") / "emotions.csv"
    for _ in predict_sources(Run(Predictor(), progress=False), find_sources([folder])[0], table):
        pass
    return table.read_bytes()


@pytest.fixture(scope="module")
def nodes(tmp_path_factory):
    "A cluster of two nodes with a core each."
    pytest.importorskip("ray", reason="Ray is an optional extra: pip install '.[ray]'")
    import ray
    from ray.cluster_utils import Cluster

    options = {"num_cpus": 1, "object_store_memory": 100 * 2**20}
    started = Cluster(initialize_head=True, head_node_args={"include_dashboard": False, **options})
    second = started.add_node(**options)
    ray.init(address=started.address, log_to_driver=False, logging_level="error")
    yield started, second
    ray.shutdown()
    started.shutdown()


def predict(folder: Path, out: Path) -> tuple[Run, bytes]:
    run = Run(Predictor(), out, progress=False, workers=2)
    predict_on_ray(run, [str(folder)], out / "emotions.csv")
    return run, (out / "emotions.csv").read_bytes()


@needs_ray
def test_an_item_that_ends_its_process_is_the_only_one_that_is_lost(nodes):
    make = partial(eval, "lambda n: __import__('os')._exit(1) if n == 5 else 2 * n")
    with mock.patch.object(cluster_room, "RETRIES", 0):
        results = [r for part in map_on_ray(range(8), make, lambda n: f"{n} lost", batch=4) for r in part]
    assert sorted(results, key=str) == sorted([0, 2, 4, 6, 8, "5 lost", 12, 14], key=str)


@needs_ray
def test_an_exception_of_the_function_ends_the_run(nodes):
    make = partial(eval, "lambda n: open('/none/there')")
    with pytest.raises(FileNotFoundError):
        list(map_on_ray(range(3), make, str))


@needs_ray
def test_a_run_that_was_interrupted_goes_on_where_it_stopped(nodes, folder, local_table, tmp_path):
    real, done = Done.add, []

    def add(self, found):
        if len(done) == 8:
            raise KeyboardInterrupt
        done.append(found.key)
        real(self, found)

    with mock.patch.object(Done, "add", add), pytest.raises(KeyboardInterrupt):
        predict(folder, tmp_path)
    with open(tmp_path / "emotions.csv", encoding="utf-8") as f:
        assert len({row["source"] for row in csv.DictReader(f)}) == 8, "what was found so far is in the table"

    before, later = set(done), []
    with mock.patch.object(Done, "add", lambda self, found: (later.append(found.key), real(self, found))):
        run, table = predict(folder, tmp_path)
    assert table == local_table
    assert len(later) == 20 - 8 and not before & set(later), "nothing is done twice"
    assert [Path(p.name).name for p in run.problems] == ["07.png"]
    lines = (tmp_path / "emotions_done.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["key"] for line in lines[1:]] == done + later


@needs_ray
def test_preprocessing_on_two_nodes_makes_the_same_data_set(nodes, tmp_path):
    own = make_sample(tmp_path / "own", 40, defects=0.05, sizes=SMALL_SIZES, scenes=4)
    preprocess(own.folder, tmp_path / "local", workers=0, progress=False)
    preprocess(own.folder, tmp_path / "ray", workers=2, engine="ray", progress=False)
    assert content(tmp_path / "ray") == content(tmp_path / "local")


def content(out: Path) -> dict[str, bytes]:
    "Every crop and table of a data set."
    files = [p for p in out.rglob("*") if p.suffix in (".jpg", ".csv") and p.is_file()]
    return {str(p.relative_to(out)): p.read_bytes() for p in files}


@needs_ray
def test_a_node_that_is_killed_loses_nothing(nodes, folder, local_table, tmp_path):
    started, second = nodes
    kill, seen = threading.Thread(target=started.remove_node, args=(second, False)), []

    def add(self, found, real=Done.add):
        real(self, found)
        seen.append(found.key)
        if len(seen) == 3:
            kill.start()

    with mock.patch.object(Done, "add", add):
        run, table = predict(folder, tmp_path)
    kill.join(30)
    import ray

    assert len([n for n in ray.nodes() if n["Alive"]]) == 1, "the node is gone"
    assert table == local_table and len(run.problems) == 1
    assert len(seen) == len(set(seen)) == 20


def test_without_ray_the_command_says_how_to_install_it(folder, tmp_path):
    code = """
import importlib.util
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "ray" else find(name, *rest)
from face_emotion.predict import main
raise SystemExit(main())
"""
    command = [sys.executable, "-c", code, str(folder), "--engine", "ray", "--output", str(tmp_path / "out")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "--engine ray needs ray" in done.stderr and "Run: " in done.stderr
    assert "Traceback" not in done.stderr
