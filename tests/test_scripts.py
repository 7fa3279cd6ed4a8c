"""The scripts behind `make check` and `make docs`: they find what they are there to find."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

import check_imports  # noqa: E402
import make_docs  # noqa: E402
import make_readme  # noqa: E402
import module_map  # noqa: E402


@pytest.fixture
def package(tmp_path):
    "Three modules, of which the first imports the last, and two that must not know each other."
    (tmp_path / "nbs").mkdir()
    (tmp_path / "face_emotion").mkdir()
    for notebook, source in {
        "00_low": "from .high import x",
        "05_dataset": "import face_emotion.low",
        "07_model": "def f():\n    from face_emotion import dataset",
        "09_high": "",
    }.items():
        module = notebook.split("_")[1]
        (tmp_path / "nbs" / f"{notebook}.ipynb").write_text(f'{{"cells": [{{"source": "#| default_exp {module}"}}]}}')
        (tmp_path / "face_emotion" / f"{module}.py").write_text(source)
    return tmp_path


def test_imports_upwards_and_between_strangers_are_found(package):
    found = check_imports.problems(package)
    assert len(found) == 2
    assert "face_emotion.low imports face_emotion.high of the later 09_high.ipynb" in found[0]
    assert "face_emotion.model imports face_emotion.dataset" in found[1]
    assert check_imports.graph(package)["dataset"] == {"low"}


def test_this_repository_is_in_order():
    assert check_imports.problems() == []
    assert module_map.main(["--check"]) == 0
    assert make_readme.main(["--check"]) == 0


def test_readme_drift_is_found(monkeypatch, capsys):
    real = make_readme.readme()
    monkeypatch.setattr(make_readme, "readme", lambda: {p: c + b"more" for p, c in real.items()})
    assert make_readme.main(["--check"]) == 1
    assert "README.md is not what nbs/index.ipynb gives" in capsys.readouterr().err


def test_map_leaves_out_what_follows_from_other_imports():
    edges = {"a": set(), "b": {"a"}, "c": {"a", "b"}}
    assert module_map.levels(edges) == {"a": 0, "b": 1, "c": 2}
    assert module_map.reduced(edges)["c"] == {"b"}


def test_broken_links_are_found(tmp_path):
    (tmp_path / "a.html").write_text(
        '<h2 id="here">x</h2><a href="b.html">1</a><a href="a.html#here">2</a><a href="#there">3</a><img src="no.png"><a href="https://example.org/x">4</a>'
    )
    assert make_docs.broken_links(tmp_path) == [
        "a.html: #there has no such place",
        "a.html: b.html is not there",
        "a.html: no.png is not there",
    ]


def test_relink():
    page = '<a href="10_predict.ipynb#x">a</a><a href="../README.ko.md">b</a><a href="nbs/11_serve.ipynb">c</a><a href="https://a.b/c.ipynb">d</a>'
    assert (
        make_docs.relink(page)
        == '<a href="10_predict.html#x">a</a><a href="readme_ko.html">b</a><a href="11_serve.html">c</a><a href="https://a.b/c.ipynb">d</a>'
    )


def test_api_entries_carry_the_comments_of_the_parameters():
    import face_emotion.predict as predict

    text = make_docs.entry(predict, "Predictor")
    for part in (
        'id="Predictor"',
        'id="Predictor.classify"',
        "(n, h, w, 3) uint8 RGB face crops, any h and w",
        "<code>str | Path | None</code>",
    ):
        assert part in text


@pytest.mark.timeout(300)
def test_the_site_has_no_broken_link():
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "make_docs.py")], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr[-3000:]
