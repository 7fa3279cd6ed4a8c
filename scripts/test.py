"""Run every test: the asserts of the notebooks (nbdev_test) and tests/ (pytest). The last line is `N passed, N failed[, N skipped]`."""

import os
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent


def run_notebook(path: Path, env: dict) -> bool:
    "Run one notebook's cells as nbdev does; print its time, and its output if it failed."
    start = time.monotonic()
    done = subprocess.run(
        [BIN / "nbdev_test", "--path", path, "--n_workers", "0"], cwd=ROOT, env=env, capture_output=True, text=True
    )
    ok = done.returncode == 0
    print(f"{'ok  ' if ok else 'FAIL'} {time.monotonic() - start:6.1f} s  {path.name}", flush=True)
    if not ok:
        print(done.stdout, done.stderr, sep="\n", flush=True)
    return ok


def run_pytest(env: dict) -> tuple[int, int, int]:
    "Run tests/; returns passed, failed and skipped."
    with tempfile.TemporaryDirectory() as d:
        report = Path(d) / "report.xml"
        code = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-rs", "--durations=8", f"--junitxml={report}", "tests"],
            cwd=ROOT,
            env=env,
        ).returncode
        if not report.exists():
            return 0, 1, 0
        suite = next(ET.parse(report).getroot().iter("testsuite"))
    total, failed, skipped = (
        sum(int(suite.get(k, 0)) for k in keys) for keys in (("tests",), ("failures", "errors"), ("skipped",))
    )
    return total - failed - skipped, max(failed, int(code not in (0, 5))), skipped


def main() -> int:
    "Run all, count, and fail when a test failed or none ran."
    env = {
        **os.environ,
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "MPLBACKEND": "agg",
        "PYTHONPATH": str(ROOT),
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
    }
    notebooks = [run_notebook(p, env) for p in sorted((ROOT / "nbs").glob("*.ipynb"))]
    passed, failed, skipped = run_pytest(env)
    passed, failed = passed + sum(notebooks), failed + len(notebooks) - sum(notebooks)
    print(f"{passed} passed, {failed} failed" + f", {skipped} skipped" * bool(skipped))
    return int(failed > 0 or passed == 0)


if __name__ == "__main__":
    sys.exit(main())
