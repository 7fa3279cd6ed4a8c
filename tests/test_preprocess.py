"""Preprocessing as a process: killed, interrupted, crashed, crowded."""

import gc
import json
import os
import random
import signal
import subprocess
import sys
import time
import tracemalloc
import unicodedata
from collections import Counter
from functools import partial
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import cv2
import numpy as np
import pandas as pd
import psutil
import pytest

from face_emotion.data.defects import Person, draw_entry
from face_emotion.data.engines import run_local
from face_emotion.data.plan import CropFolder, FinishedCrop, PlannedCrop, make_plan
from face_emotion.data.sample import SMALL_SIZES, Sample, make_sample
from face_emotion.data.sources import load_data
from face_emotion.preprocess import Cropper, Options, PreprocessError, preprocess

RECORDS, KILLS = 1000, 10


def listen_to_ctrl_c():
    """A test run that was started in the background ignores Ctrl-C, and its children would too."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def cli(*args, **kwargs) -> subprocess.Popen:
    """`python -m face_emotion.preprocess` with its output piped."""
    return subprocess.Popen(
        preexec_fn=listen_to_ctrl_c,
        args=[sys.executable, "-m", "face_emotion.preprocess", *map(str, args)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **kwargs,
    )


def content(out: Path) -> dict[str, bytes]:
    """Every file that a user of the data set sees."""
    return {
        str(p.relative_to(out)): p.read_bytes()
        for p in out.rglob("*")
        if p.is_file() and "state" not in p.relative_to(out).parts
    }


@pytest.fixture(scope="module")
def sample(tmp_path_factory) -> Sample:
    """A thousand records, with every defect and every quirk ten times or more."""
    return make_sample(
        tmp_path_factory.mktemp("aihub") / "sample",
        RECORDS,
        persons=150,
        defects=0.12,
        sizes=SMALL_SIZES,
        scenes=40,
        seed=5,
    )


class Run(NamedTuple):
    """A finished run, and how long it took on this machine, today."""

    out: Path
    start_s: float  # to the first crop
    work_s: float  # from there to the end


def journal_of(out: Path) -> bytes:
    """The journal as it is now, empty while there is none."""
    try:
        return (out / "state" / "journal.jsonl").read_bytes()
    except FileNotFoundError:
        return b""


def wait_while(process: subprocess.Popen, condition, seconds: float) -> bool:
    """Whether the condition ended in time, while the process lived."""
    deadline = time.monotonic() + seconds
    while condition():
        if process.poll() is not None or time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return process.poll() is None


@pytest.fixture(scope="module")
def timed(sample, tmp_path_factory) -> Run:
    """A run from the command line that nothing disturbed."""
    out = tmp_path_factory.mktemp("undisturbed") / "crops"
    process, begun = cli("--source", sample.folder, "--out", out, "--workers", 2, cwd=out.parent), time.monotonic()
    wait_while(process, lambda: b'"status": "ok"' not in journal_of(out), 120)
    started = time.monotonic()
    stdout, stderr = process.communicate(timeout=250)
    assert process.returncode == 0, stderr
    assert f"{len(sample.truths):,}  records" in stdout
    return Run(out, started - begun, time.monotonic() - started)


@pytest.fixture(scope="module")
def undisturbed(timed) -> Path:
    """The data set of that run."""
    return timed.out


def test_every_record_is_a_row_with_the_planted_reason(sample, undisturbed):
    m = pd.read_csv(undisturbed / "manifest.csv", keep_default_na=False)
    assert len(m) == len(sample.truths) > RECORDS
    assert Counter(zip(m.status, m.reason.str.split(":").str[0])) == Counter(
        (t.status, t.reason) for t in sample.truths
    )
    assert set(m.status[m.reason.str.startswith("label not in")]) == {"skipped"}  # nothing is wrong with them
    planted = Counter(t.planted for t in sample.truths)
    assert min(planted[p] for p in planted if p not in ("label file cut off",)) >= 10
    ok = m[m.status == "ok"]
    assert set(ok.crop) == {p for p in content(undisturbed) if p.endswith(".jpg")}
    assert all(min(cv2.imread(str(undisturbed / c)).shape[:2]) > 0 for c in ok.crop)
    assert Counter(ok.emotion) == Counter(t.emotion for t in sample.truths if t.status == "ok")
    assert set(ok.face) == {"detected", "box"} and (ok.face == "box").sum() == sum(
        t.planted == "no face" and t.status == "ok" for t in sample.truths
    )
    parquet = pd.read_parquet(undisturbed / "manifest.parquet")
    assert list(parquet.columns) == list(m.columns) and parquet.source.tolist() == m.source.tolist()


def test_no_person_is_on_both_sides_and_classes_keep_their_shares(undisturbed):
    m = pd.read_parquet(undisturbed / "manifest.parquet")
    ok = m[m.status == "ok"]
    assert ok.groupby("person").split.nunique().max() == 1
    planned = m[m.split.notna()]  # with the photographs that turned out to be broken, which the split could not know
    shares = planned.groupby("split").emotion.value_counts(normalize=True).unstack(0) * 100
    assert (shares.train - shares.validation).abs().max() < 2, shares
    assert 0.08 < (ok.split == "validation").mean() < 0.12


def kill_during_start(process, out: Path, rng: random.Random, timed: Run) -> None:
    """Wait for some time before the first new row, and kill."""
    before = len(journal_of(out))
    wait_while(process, lambda: len(journal_of(out)) == before, rng.uniform(0, timed.start_s))


def kill_during_work(process, out: Path, rng: random.Random, timed: Run, share: float) -> None:
    """Wait until a share of the journal is written, and a moment more, and kill."""
    aim = max(len(journal_of(out)) + 1, int(share * len(journal_of(timed.out))))
    wait_while(process, lambda: len(journal_of(out)) < aim, 60 + 2 * (timed.start_s + timed.work_s))
    time.sleep(rng.uniform(0, timed.work_s / 100))
    assert len(journal_of(out)) >= aim, f"only {len(journal_of(out))} of {aim} bytes of the journal"


def test_killed_ten_times_and_resumed_it_ends_the_same(sample, timed, tmp_path):
    """In turn somewhere in its start and after a share of the work: on any machine, work is left for every kill."""
    out, rng, grew = tmp_path / "crops", random.Random(3), []
    for kill in range(KILLS):
        process = cli("--source", sample.folder, "--out", out, "--workers", 2, cwd=tmp_path)
        if kill % 2:
            kill_during_work(process, out, rng, timed, kill / (KILLS + 2))
        else:
            kill_during_start(process, out, rng, timed)
        assert process.poll() is None, f"ended by itself, before kill {kill + 1} of {KILLS}: {process.communicate()}"
        children = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        process.communicate(timeout=180)
        _, alive = psutil.wait_procs(children, timeout=60)
        assert not alive, "workers outlive a parent that was killed"
        crops = [p for side in ("train", "validation") for p in (out / side).rglob("*") if p.is_file()]
        assert all(p.suffix == ".jpg" and p.read_bytes().endswith(b"\xff\xd9") for p in crops), "half a crop"
        grew.append(len(crops))
    process = cli("--source", sample.folder, "--out", out, "--workers", 2, cwd=tmp_path)
    _, stderr = process.communicate(timeout=300)
    assert process.returncode == 0, stderr
    assert grew == sorted(grew) and grew[-1] > 0, grew
    assert content(out).keys() == content(timed.out).keys()
    assert content(out) == content(timed.out)
    again = cli("--source", sample.folder, "--out", out, cwd=tmp_path)
    assert "Nothing to do" in again.communicate(timeout=120)[0]


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_leaves_a_manifest_and_goes_on(sample, how, tmp_path):
    out = tmp_path / "crops"
    process = cli("--source", sample.folder, "--out", out, "--workers", 2, cwd=tmp_path)
    assert wait_while(process, lambda: b'"status": "ok"' not in journal_of(out), 180), process.communicate()
    process.send_signal(how)
    _, stderr = process.communicate(timeout=180)
    assert process.returncode == 130 and "run the same command to continue" in stderr
    m = pd.read_parquet(out / "manifest.parquet")
    done = (m.status == "ok").sum()
    assert done > 0 and all((out / c).is_file() for c in m[m.status == "ok"].crop)
    left = preprocess(sample.folder, out, workers=0, limit=5, progress=False)
    assert left.new == 5 and left.records >= len(m) + 5


class Fragile:
    """Stands in for a cropper: some photographs end its process."""

    def __call__(self, planned: PlannedCrop) -> FinishedCrop:
        if planned.key in ("3", "17"):
            os._exit(9)
        return FinishedCrop(planned.key, "ok")


class Broken:
    """A worker that cannot even start."""

    def __init__(self):
        raise OSError("no model")


def planned_crops(n: int) -> list[PlannedCrop]:
    return [PlannedCrop(str(i), f"{i}.jpg", (0, 0, 1, 1), f"train/sad/{i}.jpg") for i in range(n)]


def test_a_photograph_that_kills_its_process_is_a_failed_row():
    finished = [f for batch in run_local(planned_crops(30), Fragile, 2) for f in batch]
    assert sorted(int(f.key) for f in finished) == list(range(30))
    assert {f.key for f in finished if f.status == "failed"} == {"3", "17"}
    assert all(f.reason.startswith("worker died") for f in finished if f.status == "failed")


def test_workers_that_cannot_start_stop_the_run():
    with pytest.raises(PreprocessError, match="do not start"):
        list(run_local(planned_crops(1), Broken, 1))


def test_two_runs_on_one_data_set_exclude_each_other(sample, tmp_path):
    out = tmp_path / "crops"
    first = cli("--source", sample.folder, "--out", out, cwd=tmp_path)
    assert wait_while(first, lambda: not (out / "state" / "options.json").exists(), 180), first.communicate()
    first.send_signal(signal.SIGSTOP)  # or it may end before the second one starts
    second = cli("--source", sample.folder, "--out", out, cwd=tmp_path)
    assert "Another process is writing" in second.communicate(timeout=180)[1] and second.returncode == 2
    first.send_signal(signal.SIGCONT)
    first.terminate()
    first.communicate(timeout=180)


def test_a_folder_that_cannot_be_written_stops_the_run_with_what_was_done_kept(sample, tmp_path):
    out = tmp_path / "crops"
    for side in ("train", "validation"):
        (out / side).mkdir(parents=True)
        (out / side / "sad").write_text("in the way of a folder")
    process = cli("--source", sample.folder, "--out", out, "--workers", 2, cwd=tmp_path)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 1 and "run the same command to continue" in stderr and "Traceback" not in stderr
    for side in ("train", "validation"):
        (out / side / "sad").unlink()
    assert preprocess(sample.folder, out, workers=0, limit=3, progress=False).new == 3


@pytest.mark.parametrize(
    "args, says",
    [
        (["--label-rule", "loudest"], "does not exist"),
        (["--val-fraction", "1.5"], "less than 1"),
        (["--source", "nowhere"], "is not a folder"),
        (["--val-fraction", "0.6", "--test-fraction", "0.5"], "nothing is left for training"),
        (["--test-fraction", "0.1", "--test-source", "valid"], "leave out --test-fraction"),
    ],
)
def test_wrong_options_are_told_in_words(sample, args, says, tmp_path):
    process = cli("--source", sample.folder, *args, cwd=tmp_path)
    _, stderr = process.communicate(timeout=180)
    assert process.returncode == 2 and says in stderr and "Traceback" not in stderr


def split_table(stdout: str) -> pd.DataFrame:
    """The table of crops by class and split that a run prints."""
    head, *lines = stdout.split("\n\n")[0].splitlines()
    rows = {words[0]: [int(n.replace(",", "")) for n in words[1:]] for words in map(str.split, lines)}
    return pd.DataFrame.from_dict(rows, "index", columns=head.split())


@pytest.mark.parametrize("option", [("--test-fraction", "0.15"), ("--test-source", "valid")])
def test_a_test_split_by_person(sample, option, tmp_path):
    process = cli("--source", sample.folder, *option, "--dry-run", cwd=tmp_path)
    stdout, stderr = process.communicate(timeout=180)
    assert process.returncode == 0, stderr
    table = split_table(stdout)
    assert list(table) == ["train", "validation", "test"] and (table > 0).all(axis=None), stdout
    share = table.loc["crops"] / table.loc["crops"].sum()
    assert 0.08 < share.validation < 0.12 and 0.12 < share.test < 0.18, stdout


def test_people_of_valid_and_train_go_to_training(tmp_path):
    """The sample has people who are only in VALID, and people who are in both."""
    own = make_sample(tmp_path / "own", 150, persons=40, defects=0, sizes=SMALL_SIZES, scenes=3)
    preprocess(own.folder, tmp_path / "crops", Options(test_source="valid"), workers=0, progress=False)
    m = pd.read_parquet(tmp_path / "crops" / "manifest.parquet")
    parts = {t.person: set() for t in own.truths}
    for t in own.truths:
        parts[t.person].add(t.archive.split("_")[1])
    splits = m[m.split.notna()].groupby("person").split.agg(set)
    assert {p for p, s in splits.items() if s == {"test"}} == {p for p in splits.index if parts[p] == {"VALID"}}
    assert all(splits[p] == {"train"} for p in splits.index if parts[p] == {"TRAIN", "VALID"})
    assert all(p.parts[-3] == s for p, s in zip(map(Path, m.crop.dropna()), m.split[m.crop.notna()]))


def test_a_sample_of_60_photographs_can_be_trained_on(tmp_path):
    """0.1.0 left validation without three of the five classes, and training could not start."""
    own = make_sample(tmp_path / "own", 60, sizes=SMALL_SIZES)
    summary = preprocess(own.folder, tmp_path / "crops", workers=0, progress=False)
    assert load_data(tmp_path / "crops").keys() == {"train", "validation"} and not summary.warnings()
    assert "Add photographs" in str(preprocess(own.folder, tmp_path / "few", workers=0, limit=3, progress=False))


def test_more_data_moves_nobody(sample, tmp_path):
    """Archives come one after the other: half of the label files, then all."""
    half, whole = tmp_path / "half", tmp_path / "crops"
    files = sorted(sample.folder.rglob("*.json"))
    half.mkdir()
    for f in files[:5]:
        (half / f.name).write_bytes(f.read_bytes())
    for folder in sample.folder.iterdir():
        if folder.is_dir():
            (half / folder.name).symlink_to(folder)
    parts = [half / f.name for f in files[:5]]
    staged = tmp_path / "staged"
    staged.mkdir()
    for f in parts:
        f.rename(staged / f.name)
    photos = {p.name: p for p in sample.folder.rglob("*") if p.is_file() and p.suffix != ".json"}
    for name, p in photos.items():
        os.link(p, staged / name)
    preprocess(staged, whole, workers=0, limit=60, progress=False)
    before = json.loads((whole / "state" / "split.json").read_text())
    preprocess([staged, sample.folder], whole, workers=0, limit=5, progress=False)
    after = json.loads((whole / "state" / "split.json").read_text())
    assert len(after) > len(before) > 40 and {p: after[p] for p in before} == before


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a file name be any bytes")
def test_names_that_are_raw_cp949_bytes(tmp_path):
    own = make_sample(tmp_path / "own", 20, defects=0, sizes=SMALL_SIZES, scenes=2)
    for t in own.truths:
        path = own.folder / t.photo
        os.rename(path, os.path.join(os.fsencode(path.parent), unicodedata.normalize("NFC", path.name).encode("cp949")))
    expected = Counter(f"{t.status} {t.reason}".strip() for t in own.truths)
    assert preprocess(own.folder, tmp_path / "crops", workers=0, progress=False).by_reason == expected
    assert len(pd.read_csv(tmp_path / "crops" / "manifest.csv")) == len(own.truths)


def test_deleted_photographs_and_overwrite(sample, tmp_path):
    """Crops stay when their archive is deleted; --overwrite removes what it made and nothing else."""
    own = make_sample(tmp_path / "own", 40, defects=0, sizes=SMALL_SIZES, scenes=4)
    out = tmp_path / "crops"
    first = preprocess(own.folder, out, workers=0, progress=False)
    for t in own.truths:
        (own.folder / t.photo).unlink()
    second = preprocess(own.folder, out, workers=0, progress=False)
    assert (second.new, second.by_reason) == (0, first.by_reason)
    (out / "train" / "happy" / "mine.jpg").write_bytes(b"not ours")
    third = preprocess(own.folder, out, workers=0, progress=False, overwrite=True)
    assert "ok" not in third.by_reason and third.by_reason["failed image missing"] == first.by_reason["ok"]
    assert [p.name for p in out.rglob("*.jpg")] == ["mine.jpg"]


def test_a_crop_that_lost_its_label_goes(tmp_path):
    own = make_sample(tmp_path / "own", 30, defects=0, sizes=SMALL_SIZES, scenes=3)
    out = tmp_path / "crops"
    first = preprocess(own.folder, out, workers=0, progress=False)
    labels = next(p for p in own.folder.rglob("*.json") if "기쁨" in p.name)
    entries = json.loads(labels.read_bytes().decode("utf-8-sig"))
    for e in entries:
        e["faceExp_uploader"] = "슬픔"
        for a in "ABC":
            e[f"annot_{a}"]["faceExp"] = "슬픔"
    labels.write_text(json.dumps(entries, ensure_ascii=False), encoding="utf-8")
    second = preprocess(own.folder, out, workers=0, progress=False)
    assert 0 < second.new <= len(entries) and second.by_reason["ok"] >= first.by_reason["ok"]
    m = pd.read_parquet(out / "manifest.parquet")
    assert {p for p in content(out) if p.endswith(".jpg")} == set(m[m.status == "ok"].crop)


def write_label_set(folder: Path, records: int) -> Path:
    """Label files with records of 40 photographs a person, and empty photographs, which planning does not open."""
    rng, entries = np.random.default_rng(0), []
    folder.mkdir()
    for i in range(records):
        person = Person(f"{i // 40:040x}", "남", 20)
        entries.append(draw_entry(rng, i, person, "happy", "상업시설/점포/시장", (100.0, 100.0, 300.0, 300.0)))
        (folder / entries[-1]["filename"]).touch()
    for k in range(4):
        (folder / f"img_emotion_training_data({k}).json").write_text(json.dumps(entries[k::4], ensure_ascii=False))
    return folder


def planned_bytes(source: Path) -> int:
    """The memory that a plan takes. (The most that planning takes varies with the garbage collector.)"""
    folder = CropFolder(source.parent / f"{source.name}_crops", Options())
    tracemalloc.start()
    try:
        plan = make_plan([source], folder, folder.journal())
        assert len(plan.pending) > 1000
        gc.collect()
        return tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()


def test_a_plan_takes_little_memory_per_record(tmp_path):
    """350,000 records must fit into 0.7 GB with everything else; plans were uncompressed before."""
    few, many = (planned_bytes(write_label_set(tmp_path / str(n), n)) for n in (2001, 4001))
    assert (many - few) / 2000 < 700


def test_a_second_run_plans_nothing_and_a_changed_one_does(tmp_path):
    own = make_sample(tmp_path / "own", 60, sizes=SMALL_SIZES, scenes=4)
    out = tmp_path / "crops"
    first = preprocess(own.folder, out, workers=0, progress=False)
    before = content(out)
    with mock.patch("face_emotion.preprocess.make_plan", side_effect=AssertionError("it plans")):
        second = preprocess(own.folder, out, workers=0, progress=False)
    assert (second.new, second.kept, second.by_reason) == (0, first.records, first.by_reason)
    assert content(out) == before and "Nothing to do" in str(second)
    lost = next((out / "train").rglob("*.jpg"))
    lost.unlink()
    (out / "manifest.csv").unlink()
    third = preprocess(own.folder, out, workers=0, progress=False)
    assert (third.new, third.by_reason) == (1, first.by_reason) and content(out) == before


def test_a_label_file_that_is_cut_off_keeps_what_came_before(tmp_path):
    own = make_sample(tmp_path / "own", 40, defects=0, sizes=SMALL_SIZES, scenes=4)
    labels = max(own.folder.rglob("*.json"), key=lambda p: p.stat().st_size)
    whole = labels.read_bytes()
    labels.write_bytes(whole[: len(whole) * 9 // 10])
    cut_off = preprocess(own.folder, tmp_path / "crops", workers=0, progress=False)
    assert cut_off.by_reason["failed label file unreadable"] == 1 and 1 < cut_off.records <= len(own.truths)
    labels.write_bytes(whole)
    mended = preprocess(own.folder, tmp_path / "crops", workers=0, progress=False)
    assert mended.by_reason["ok"] == sum(t.status == "ok" for t in own.truths)


def test_neither_tensorflow_nor_pandas_is_loaded_by_a_worker():
    heavy = "('tensorflow', 'keras', 'pandas', 'matplotlib', 'ray')"
    code = f"import sys, face_emotion.preprocess; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_damaged_journal_stops_the_run_with_what_to_do(sample, tmp_path):
    out = tmp_path / "crops"
    preprocess(sample.folder, out, workers=0, limit=2, progress=False)
    journal = out / "state" / "journal.jsonl"
    journal.write_bytes(b'{"of": "another program"}\n' + journal.read_bytes())
    process = cli("--source", sample.folder, "--out", out, cwd=tmp_path)
    _, stderr = process.communicate(timeout=180)
    assert process.returncode == 2 and "Line 1 of" in stderr and "--overwrite" in stderr and "Traceback" not in stderr


@pytest.mark.parametrize("module", ["sample", "aihub_sample"])
def test_the_sample_has_a_command_under_both_of_its_names(module, tmp_path):
    command = [sys.executable, "-m", f"face_emotion.{module}"]
    usage = subprocess.run([*command, "--help"], capture_output=True, text=True, check=True).stdout
    assert usage.startswith("usage: face-emotion sample")
    made = subprocess.run([*command, "--out", "s", "--photos", "30", "--scenes", "2", "--small"], cwd=tmp_path)
    assert made.returncode == 0 and (tmp_path / "s" / "truth.csv").is_file()


def test_cropper_is_picklable():
    import pickle

    make = pickle.loads(pickle.dumps(partial(Cropper, CropFolder("x", Options(size=64)))))
    assert make.args[0].options == Options(size=64)
