"""The short form of benchmarks/soak.py: some seconds among bad clients."""

import json
import subprocess
import sys

import pytest
from serving import ROOT


@pytest.mark.timeout(240)
def test_soak(tmp_path):
    out = tmp_path / "soak.json"
    done = subprocess.run(
        [
            sys.executable,
            "benchmarks/soak.py",
            "--minutes",
            "0.15",
            "--good",
            "4",
            "--bad",
            "8",
            "--rate",
            "4",
            "--out",
            str(out),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=230,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    figures = json.loads(out.read_text())
    print(json.dumps({k: v for k, v in figures.items() if k not in ("counts", "server")}, indent=1))
    counts = figures["counts"]
    assert (
        figures["tracebacks in log"] == 0
        and figures["exit code"] == 0
        and "face_emotion_connections 0.0" in figures["server"]
    )
    assert figures["memory end MB"] < figures["memory start MB"] * 1.3 + 20
    assert (
        counts["good: answered"] > 20
        and not {k for k in counts if k.startswith("good:")} - {"good: answered"}
        and not {k for k in counts if k.startswith("harness")}
    )
