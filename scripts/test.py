"""Run every test: notebooks (nbdev_test) and tests/ (pytest). The last line is `N passed, N failed`.

`--layer serving` runs the tests in tests/ that need no TensorFlow, notebooks or documentation tools. They run in an
environment with a serving lock and these packages, on Python 3.10 to 3.14:

    pip install --no-deps -r requirements/serve-py313.txt
    pip install pytest pytest-asyncio pytest-timeout pytest-xdist psutil httpx jsonschema nbformat pyyaml scikit-image
    python scripts/test.py --layer serving
"""

import argparse
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
APART = ("essays",)  # folders of nbs/ whose notebooks need data that a clone lacks
# The slowest first, so that none of them is left for last.
FIRST = "00_tour 04_train 02_export 05_evaluate 03_model 16_label_noise 08_robustness 01_preprocess".split()
WORKERS = max(2, min(8, os.cpu_count() or 2))


def notebooks() -> list[Path]:
    "The notebooks to test, the slowest first."
    found = [p for p in (ROOT / "nbs").rglob("*.ipynb") if not {*APART, ".ipynb_checkpoints"} & set(p.parts)]
    return sorted(found, key=lambda p: (FIRST.index(p.stem) if p.stem in FIRST else len(FIRST), str(p)))


def run_notebooks(paths: list[Path]) -> int:
    "Run notebooks as nbdev_test does, several in one process; print the time of each. Returns how many passed."
    from nbdev.config import get_config
    from nbdev.test import test_nb

    good, flags = 0, get_config().tst_flags.split()
    with ProcessPoolExecutor(WORKERS, multiprocessing.get_context("spawn")) as pool:
        jobs = {pool.submit(test_nb, path, flags, basepath=ROOT): path for path in paths}
        for job in as_completed(jobs):
            problem = job.exception()  # such as a notebook that ended its process
            passed, seconds = (False, 0.0) if problem else job.result()
            if problem:
                print(problem, flush=True)
            print(f"{'ok  ' if passed else 'FAIL'} {seconds:6.1f} s  {jobs[job].relative_to(ROOT)}", flush=True)
            good += passed
    return good


def run_pytest(env: dict[str, str], layer: str = "all") -> tuple[int, int, int]:
    "Run tests/ on all cores, a file at a time; returns how many passed, failed and were skipped."
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        options = [
            "-q",
            "-rs",
            f"--layer={layer}",
            "--durations=40",
            f"--numprocesses={WORKERS}",
            "--dist=loadfile",
            "--no-loadscope-reorder",  # conftest.py has the order
            f"--junitxml={report}",
        ]
        code = subprocess.run([sys.executable, "-m", "pytest", *options, "tests"], cwd=ROOT, env=env).returncode
        if not report.exists():
            return 0, 1, 0
        suite = next(ET.parse(report).getroot().iter("testsuite"))
    total, failures, errors, skipped = (int(suite.get(k, 0)) for k in ("tests", "failures", "errors", "skipped"))
    failed = failures + errors
    return total - failed - skipped, max(failed, int(code not in (0, 5))), skipped


def main() -> int:
    "Run all, count, and fail when a test failed or none ran."
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layer", choices=("all", "serving"), default="all", help="what to test (default: all)")
    layer = parser.parse_args().layer
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    env = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "MPLBACKEND": "agg", "PYTHONPATH": str(ROOT), "PATH": path}
    start = time.monotonic()
    found = notebooks() if layer == "all" else []
    os.environ.update(env)
    good = run_notebooks(found) if found else 0
    between = time.monotonic()
    passed, failed, skipped = run_pytest(env, layer)
    print(f"notebooks {between - start:.0f} s, tests {time.monotonic() - between:.0f} s, {WORKERS} workers")
    passed, failed = passed + good, failed + len(found) - good
    print(f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else ""))
    return int(failed > 0 or passed == 0)


if __name__ == "__main__":
    sys.exit(main())
