"""The server on Ray: two nodes on this machine, a replica killed under load, and the limits of the plain server."""

import asyncio
import contextlib
import importlib.util
import json
import logging
import os
import signal
import tempfile
import time

import cv2
import numpy as np
import psutil
import pytest
from serving import ServerProcess, as_text, fetch, pair, portrait, wait_until
from websockets.exceptions import ConnectionClosed, InvalidStatus

from face_emotion.serving.client import EmotionClient

pytestmark = [
    pytest.mark.timeout(240),
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed (pip install '.[ray]')"),
]
TOKEN = "a token that is long enough"
REPLICA = "ray::ServeReplica:face_emotion:EmotionServer"


def family_of(pid: int) -> list[psutil.Process]:
    "The processes of a process tree."
    return psutil.Process(pid).children(recursive=True)


def replicas() -> dict[int, int]:
    "The replicas that run below this process: process id, and process id of their node."
    mine = family_of(os.getpid())
    found = {}
    for process in mine:
        with contextlib.suppress(psutil.Error):
            if " ".join(process.cmdline()).startswith(REPLICA):
                found[process.pid] = process.ppid()
    return found


def two_nodes(folder: str):
    "A cluster of two nodes on this machine."
    from ray.cluster_utils import Cluster

    options = {"num_cpus": 1, "object_store_memory": 100 * 2**20}
    cluster = Cluster(initialize_head=True, head_node_args={**options, "temp_dir": folder, "include_dashboard": False})
    cluster.add_node(**options)
    return cluster


@pytest.fixture(scope="module")
def cluster():
    "Two Ray nodes with a core each."
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    logging.getLogger("ray").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory(prefix="ray_") as folder:
        try:
            cluster = two_nodes(folder)
        except Exception as e:  # Ray gives a node 30 seconds
            print(f"Ray starts for the second time: {e}")
            cluster = two_nodes(f"{folder}/again")
        yield cluster
        cluster.shutdown()
    left = [p for p in family_of(os.getpid()) if "ray" in p.name()]
    assert not left, f"processes of Ray are left: {left}"


@pytest.fixture(scope="module")
def server(cluster, tmp_path_factory):
    settings = {"RAY_ADDRESS": cluster.address, "RAY_REPLICAS_MIN": "2", "RAY_REPLICAS_MAX": "2", "SEND_TIMEOUT": "3"}
    folder = tmp_path_factory.mktemp("ray")
    with ServerProcess(folder, "--engine", "ray", ACCESS_TOKEN=TOKEN, MAX_PIXELS="1000000", **settings) as server:
        wait_until(lambda: len(replicas()) == 2, 150)
        yield server


def counters(server: ServerProcess) -> dict[str, float]:
    "Every line of /metrics."
    text = fetch(server.url + "/metrics", authorization=f"Bearer {TOKEN}")[1].decode()
    rows = (line.rpartition(" ")[::2] for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, value in rows}


def stream_frame(n: int) -> tuple[bytes, list[int]]:
    "A picture with a size of its own, and that size: (w, h) pixels."
    image = cv2.imdecode(np.frombuffer(portrait(), "uint8"), cv2.IMREAD_COLOR)
    size = [400 + 16 * n, 400 + 8 * n]
    return cv2.imencode(".jpg", cv2.resize(image, size))[1].tobytes(), size


def client_of(server: ServerProcess, **options) -> EmotionClient:
    return EmotionClient(server.ws, TOKEN, **options)


def test_replicas_are_on_both_nodes(server):
    assert len(set(replicas().values())) == 2


def test_same_answers(server):
    status, body = fetch(server.url + "/")
    assert status == 200 and b"<title>" in body
    assert fetch(server.url + "/readyz") == (200, b'{"status":"ready"}')
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    with server.connect(additional_headers=bearer) as ws:  # the API of 0.1.0
        for frame_id in ("a", 7):
            ws.send(as_text(portrait(), id=frame_id))
            answer = json.loads(ws.recv(20))
            assert set(answer) == {"results", "id"} and answer["id"] == frame_id
            assert answer["results"][0]["emotion"] == "happy"
    status, body = fetch(
        server.url + "/api/predict", pair(), content_type="image/jpeg", authorization=bearer["Authorization"]
    )
    assert (status, len(json.loads(body)["results"])) == (200, 2)


def test_refusals(server):
    with pytest.raises(InvalidStatus) as refused, server.connect():
        pass
    assert refused.value.response.status_code == 401
    wrong = {"authorization": "Bearer another token"}
    assert fetch(server.url + "/api/predict", portrait(), **wrong)[0] == 401
    assert fetch(server.url + "/metrics", **wrong)[0] == 401
    assert fetch(server.url + "/healthz", host="evil.example")[0] in (200, 421)
    assert fetch(server.url + "/", host="evil.example")[0] == 421
    ticket = json.loads(fetch(server.url + "/api/ticket", b"", authorization=f"Bearer {TOKEN}")[1])["ticket"]
    address = server.ws
    server.ws = f"{address}?ticket={ticket}"
    with server.connect() as ws:  # whichever replica has issued it
        ws.send(portrait())
        assert json.loads(ws.recv(20))["results"]
    server.ws = address


def test_bad_input(server):
    large = cv2.imencode(".png", cv2.resize(cv2.imdecode(np.frombuffer(portrait(), "uint8"), 1), (1200, 1200)))
    cases = {
        "{": "bad_json",
        '{"image": 5}': "no_image",
        '{"image": "*"}': "bad_base64",
        b"<html>": "not_an_image",
        b"x" * 2_200_000: "too_large",
        large[1].tobytes(): "too_many_pixels",
    }

    async def ask() -> dict:
        async with client_of(server) as client:
            answers = {m: (await client.ask(m))["error"]["code"] for m in cases}
            assert (await client.ask(portrait()))["results"], "the connection lives"
            return answers

    assert asyncio.run(ask()) == cases
    upload = fetch(server.url + "/api/predict", b"x" * 9_000_000, authorization=f"Bearer {TOKEN}")
    assert upload[0] == 413 and b"too_large" in upload[1]


def test_a_client_that_floods_and_never_reads(server):
    "Its frames stay in its own buffers, and it is closed after SEND_TIMEOUT; others go on."
    before = {p: psutil.Process(p).memory_full_info().uss for p in processes_with_frames()}

    async def flood() -> tuple[int, int]:
        from websockets.asyncio.client import connect

        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with connect(server.ws, additional_headers=headers, compression=None, max_queue=1) as ws:
            ws.transport.pause_reading()
            sent = 0
            with contextlib.suppress(ConnectionClosed, asyncio.TimeoutError):
                for sent in range(1500):
                    await asyncio.wait_for(ws.send(b"x" * 1_000_000), 5)
            grown = {p: (psutil.Process(p).memory_full_info().uss - m) >> 20 for p, m in before.items()}
            ws.transport.abort()
            return sent, max(grown.values())

    sent, grown = asyncio.run(flood())
    print(f"{sent} MB sent, {grown} MB held")
    assert grown < 80, f"{grown} MB more after {sent} MB"
    assert json.loads(fetch(server.url + "/readyz")[1]) == {"status": "ready"}


def processes_with_frames() -> list[int]:
    "The process ids of the proxies and replicas."
    names = ("ray::ProxyActor", "ray::ServeReplica")
    return [p.pid for p in family_of(os.getpid()) if " ".join(p.cmdline()).startswith(names)]


def test_a_killed_replica(server):
    "Every stream goes on at once, with its own answers, and no counter is lost."
    start = counters(server)["face_emotion_frames_total"]
    killed = []

    async def stream(n: int, until: asyncio.Event) -> tuple[int, int, list]:
        frame, size = stream_frame(n)
        async with client_of(server) as client:
            answered, strange = 0, []
            while not until.is_set():
                frame_id = f"{n}-{answered}"
                answer = await client.ask(as_text(frame, id=frame_id))
                if (answer.get("id"), answer["frame"], len(answer["results"])) != (frame_id, size, 1):
                    strange.append(answer)
                answered += 1
            return answered, client.connects, strange

    async def watch() -> list:
        until = asyncio.Event()
        streams = [asyncio.create_task(stream(n, until)) for n in range(8)]
        await asyncio.sleep(2)
        killed.append(next(iter(replicas())))
        os.kill(killed[0], signal.SIGKILL)
        await asyncio.sleep(4)
        until.set()
        return await asyncio.gather(*streams)

    found = asyncio.run(watch())
    answered, connects, strange = zip(*found)
    assert not any(strange), strange
    assert set(connects) == {1, 2}, f"some streams were on the replica that was killed: {connects}"
    lost = counters(server)["face_emotion_frames_total"] - start - sum(answered)
    assert 0 <= lost <= connects.count(2), "counted, but the answer was on its way when the replica was killed"
    wait_until(lambda: len(replicas()) == 2 and killed[0] not in replicas(), 30)
    wait_until(lambda: counters(server)["face_emotion_connections"] == 0)


def test_stop(server):
    "Sockets are closed with 1001, the process ends with 0, and nothing of the app is left on the cluster."
    with server.connect(additional_headers={"Authorization": f"Bearer {TOKEN}"}) as ws:
        ws.send(portrait())
        assert json.loads(ws.recv(20))["results"]
        server.process.send_signal(signal.SIGTERM)
        with pytest.raises(ConnectionClosed) as closed:
            ws.recv(15)
        assert closed.value.rcvd.code == 1001
    start = time.monotonic()
    assert server.process.wait(30) == 0, server.text()
    print(f"stopped after {time.monotonic() - start:.1f} s")
    assert not replicas() and "Traceback" not in server.log()
