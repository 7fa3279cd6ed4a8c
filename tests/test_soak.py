"""A short run of benchmarks/soak.py: a few seconds among misbehaving clients."""

import json
import subprocess
import sys

import pytest
from serving import ROOT


@pytest.mark.timeout(240)
def test_soak(tmp_path):
    out = tmp_path / "soak.json"
    options = "--minutes 0.15 --good 4 --bad 8 --rate 4 --attacks all --out".split()
    command = [sys.executable, "benchmarks/soak.py", *options, str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=230)
    assert done.returncode == 0, done.stderr[-3000:]
    figures = json.loads(out.read_text())
    print(json.dumps({k: v for k, v in figures.items() if k not in ("counts", "server")}, indent=1))
    counts = figures["counts"]
    assert (figures["tracebacks in log"], figures["exit code"]) == (0, 0)
    assert "face_emotion_connections 0.0" in figures["server"]
    assert figures["memory end MB"] < 500  # large pictures leave gaps: seconds can't show that it's flat
    assert counts["good: answered"] > 20
    refused = [counts.get(f"stuck_upgrade: answered {status} and closed") for status in (431, 400)]
    assert any(refused) and counts["fragments: closed 1008"]  # websockets before 17, on Python 3.10: 400
    assert counts["ping_flood: closed 1008"] and counts["idle_tcp: closed"] and counts["hog: answered"]
    assert {k for k in counts if k.startswith(("good:", "harness"))} == {"good: answered"}
