"""Every image of the corpus against a running server, by socket and by HTTP: the right answer, no 500, no leak."""

import json
import time

import psutil
import pytest
from corpus import corpus
from serving import WAIT_S, ServerProcess, fetch
from tabulate import tabulate

from face_emotion.serving.protocol import ERRORS

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with ServerProcess(tmp_path_factory.mktemp("server")) as server:
        yield server


def verdict(answer: dict) -> str:
    return answer["error"]["code"] if "error" in answer else "faces" if answer["results"] else "picture"


def test_table(server):
    "Each input gets its answer. `pytest -s tests/test_corpus.py` shows the table."
    wrong, rows = [], []
    for name, (data, expected) in corpus().items():
        with server.connect() as ws:
            start = time.perf_counter()
            ws.send(data)
            answer = json.loads(ws.recv(WAIT_S))
            ms = (time.perf_counter() - start) * 1e3
        status, body = fetch(server.url + "/api/predict", data, content_type="application/octet-stream", timeout=30)
        by_http = verdict(json.loads(body))
        rows.append((name, len(data), verdict(answer), f"{status} {by_http}", round(ms)))
        same = by_http == verdict(answer) or (name.startswith("too large") and by_http == "faces")
        if verdict(answer) != expected or not same or status != (ERRORS[by_http][0] if by_http in ERRORS else 200):
            wrong.append((name, expected, answer.get("error"), status, by_http))
    print("\n" + tabulate(rows, ("input", "bytes", "socket", "HTTP", "ms"), tablefmt="github"))
    assert not wrong, "\n".join(map(str, wrong))


def test_no_leak(server):
    "Memory and open files stay flat while the corpus is sent again and again."
    entries = [data for data, _ in corpus().values() if len(data) < 1_000_000]
    process = psutil.Process(server.process.pid)

    def once():
        with server.connect() as ws:
            for data in entries:
                ws.send(data)
                ws.recv(WAIT_S)
        return process.memory_info().rss / 2**20

    early, files = [once() for _ in range(5)], process.num_fds()
    late = [once() for _ in range(5)]
    print(f"\nmemory {[round(m) for m in early + late]} MB, files open {files} → {process.num_fds()}")
    assert min(late) < max(early) * 1.3 + 10 and process.num_fds() <= files + 3
    assert "Traceback" not in server.log()
