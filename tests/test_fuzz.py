"""A short run of benchmarks/fuzz.py, and schemathesis on the HTTP API where it is installed."""

import subprocess
import sys

import pytest
from serving import ROOT

pytestmark = pytest.mark.timeout(300)


def fuzz(*options: str) -> str:
    "The output of benchmarks/fuzz.py in a separate process, so that a crash in native code is noticed."
    command = [sys.executable, "benchmarks/fuzz.py", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=250)
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    return done.stdout


def test_messages_and_pictures():
    output = fuzz("--inputs", "3000", "--seed", "1")
    assert "decoded" in output and "broken_image" in output and "bad_json" in output


def test_coverage_guided():
    pytest.importorskip("atheris", reason="atheris is not installed (pip install atheris)")
    assert "2000 inputs (atheris)" in fuzz("--inputs", "2000", "--atheris")


def test_http_api():
    "Generated requests for every operation: no 5xx, no undocumented answer, and answers fit their schema."
    schemathesis = pytest.importorskip(
        "schemathesis", reason="schemathesis is not installed (pip install schemathesis)"
    )
    requests = 0
    from fastapi.testclient import TestClient
    from hypothesis import HealthCheck, given, seed, settings
    from schemathesis.specs.openapi.checks import positive_data_acceptance

    from face_emotion.core.config import load_settings
    from face_emotion.serve import create_app

    with TestClient(create_app(load_settings(env_file=None))) as client:
        schema = schemathesis.openapi.from_asgi("/openapi.json", client.app)
        operations = [o.ok() for o in schema.get_all_operations()]
        for operation in operations:

            @seed(0)
            @settings(
                max_examples=100 if operation.method.upper() == "POST" else 10,
                deadline=None,
                database=None,
                suppress_health_check=list(HealthCheck),
            )
            @given(case=operation.as_strategy())
            def check(case):
                nonlocal requests
                requests += 1
                # random bytes fit the schema without being an image
                case.call_and_validate(session=client, excluded_checks=[positive_data_acceptance])

            check()
        names = ", ".join(f"{o.method.upper()} {o.path}" for o in operations)
        print(f"{requests} requests, {len(operations)} operations: {names}")
