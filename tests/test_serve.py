"""`python -m face_emotion.serve` as a process, driven by real clients.

The old JSON API, several connections with separate faces, start-up, imports, https, and `EmotionClient`.
"""

import asyncio
import json
import re
import ssl
import subprocess
import sys
import urllib.error
import urllib.request

import pytest
from jsonschema import validate
from serving import ROOT, WAIT_S, ServerProcess, as_text, connect, fetch, pair, portrait, wait_until

from face_emotion.serving.client import EmotionClient
from face_emotion.serving.schema import schema_of

pytestmark = pytest.mark.timeout(180)
CLASSES = ["happy", "sad", "neutral", "embarrassed", "anxiety"]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with ServerProcess(tmp_path_factory.mktemp("server")) as server:
        yield server


def test_old_client(server):
    "A client from years ago: text in, text out, and it knows nothing else."
    with connect(server.ws) as ws:
        ws.send(as_text(portrait()))
        answer = json.loads(ws.recv(WAIT_S))
        assert list(answer) == ["results"]
        [face] = answer["results"]
        probabilities = face["probabilities"]
        assert list(face) == ["bbox", "emotion", "confidence", "probabilities"] and list(probabilities) == CLASSES
        assert all(type(v) is int for v in face["bbox"])
        assert face["emotion"] == max(probabilities, key=probabilities.get)
        assert face["confidence"] == probabilities[face["emotion"]] and abs(sum(probabilities.values()) - 1) < 1e-3
        ws.send("not json")
        assert json.loads(ws.recv(WAIT_S))["error"]["code"] == "bad_json"
        ws.send(as_text(portrait()))
        assert json.loads(ws.recv(WAIT_S))["results"]
    with connect(server.ws.replace("emotion", "debug")) as ws:
        ws.send("안녕")
        assert ws.recv(WAIT_S) == "Echo: 안녕"


def test_old_client_that_names_the_old_protocol(server):
    with connect(server.ws, subprotocols=["emotion.v1"]) as ws:
        assert ws.subprotocol == "emotion.v1"
        ws.send(portrait())
        validate(answer := json.loads(ws.recv(WAIT_S)), schema_of("AnswerV1"))
        assert list(answer) == ["results"]


def test_unsure_answers_reach_new_clients_only(server, tmp_path):
    "MIN_CONFIDENCE from the environment: the old API answers as before, byte for byte."

    def old(url):
        with connect(url) as ws:
            ws.send(as_text(portrait()))
            return ws.recv(WAIT_S)

    with ServerProcess(tmp_path, MIN_CONFIDENCE="1") as strict:
        assert old(strict.ws) == old(server.ws)
        with connect(strict.ws, subprotocols=["emotion.v2"]) as ws:
            assert json.loads(ws.recv(WAIT_S))["class_names"] == CLASSES
            ws.send(portrait())
            validate(answer := json.loads(ws.recv(WAIT_S)), schema_of("AnswerV2"))
        [face] = answer["results"]
        assert face["emotion"] == "uncertain" and list(face["probabilities"]) == CLASSES
        assert face["confidence"] == max(face["probabilities"].values())


def test_connections_have_separate_faces(server):
    "Three interleaved sockets: each numbers its faces from 1, and each face keeps its number."
    pictures = {"a": portrait(), "b": pair(), "c": portrait()}
    sockets = {name: connect(server.ws, subprotocols=["emotion.v2"]) for name in pictures}
    with sockets["a"], sockets["b"], sockets["c"]:
        for ws in sockets.values():
            validate(json.loads(ws.recv(WAIT_S)), schema_of("Hello"))
        seen = {name: [] for name in pictures}
        for n in range(1, 6):
            for name, ws in sockets.items():
                ws.send(as_text(pictures[name], id=f"{name}{n}"))
            for name, ws in sockets.items():
                validate(answer := json.loads(ws.recv(WAIT_S)), schema_of("AnswerV2"))
                assert (answer["id"], answer["seq"], answer["dropped"]) == (f"{name}{n}", n, 0)
                seen[name].append([f["face_id"] for f in answer["results"]])
    assert seen["a"] == seen["c"] == [[1]] * 5
    assert all(sorted(ids) == [1, 2] for ids in seen["b"]) and seen["b"] == [seen["b"][0]] * 5


def test_latest_frame_wins(server):
    "A hundred frames at once: the last one is answered, most are dropped, and the server says how many."
    with connect(server.ws, subprotocols=["emotion.v2"]) as ws:
        ws.recv(WAIT_S)
        for _ in range(100):
            ws.send(portrait())
        answers = []
        while not answers or answers[-1]["seq"] < 100:
            answers.append(json.loads(ws.recv(WAIT_S)))
    assert len(answers) + answers[-1]["dropped"] == 100 and answers[-1]["dropped"] > 50


def test_emotion_client(server):
    async def talk():
        async with EmotionClient(server.ws) as client:
            answers = [await client.ask(portrait()) for _ in range(3)]
            assert client.hello["class_names"] == CLASSES
        return answers

    answers = asyncio.run(talk())
    assert [a["seq"] for a in answers] == [1, 2, 3] and answers[0]["results"][0]["emotion"] == "happy"


PAGES = ("/", "/docs")
FILES = ("/static/app.js", "/static-offline-docs/swagger-ui-bundle.js", "/openapi.json", "/asyncapi.json")


@pytest.mark.parametrize("path", [*PAGES, *FILES, "/model-card", "/nothing"])
def test_pages_and_headers(server, path):
    try:
        answer = urllib.request.urlopen(server.url + path)
    except urllib.error.HTTPError as e:
        answer = e
    assert answer.headers["X-Content-Type-Options"] == "nosniff" and answer.headers["X-Frame-Options"] == "DENY"
    assert "default-src" in answer.headers["Content-Security-Policy"] and "server" not in answer.headers
    body = answer.read().decode()
    if path in PAGES:
        assert not re.findall(r"(?:src|href)=[\"'](?:https?:)?//", body), "it loads something from another host"


def test_ready_without_tensorflow(tmp_path):
    "Everything that the serving process imports until its first answers, as Python itself reports it."
    with ServerProcess(tmp_path, command=("-X", "importtime", "-m", "face_emotion.serve")) as server:
        with connect(server.ws) as ws:
            ws.send(portrait())
            assert json.loads(ws.recv(WAIT_S))["results"]
        assert fetch(server.url + "/api/predict", portrait(), content_type="image/jpeg")[0] == 200
        imported = {m.partition(".")[0] for m in re.findall(r"^import time:.*\| +(\S+)$", server.text(), re.M)}
    assert "fastapi" in imported and not imported & {"tensorflow", "keras", "jax", "mediapipe", "torch", "matplotlib"}


def test_start_and_memory(tmp_path):
    with ServerProcess(tmp_path) as server:
        with connect(server.ws) as ws:
            ws.send(portrait())
            ws.recv(WAIT_S)
        print(f"\nready after {server.ready_s:.1f} s, {server.memory_mb():.0f} MB after the first answer")
        assert server.memory_mb() < 400
        assert re.search(
            r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d - face_emotion\.serve - INFO - Frame received\. Faces detected: 1$",
            server.log(),
            re.M,
        )


def test_port_in_use(server):
    done = subprocess.run(
        [sys.executable, "-m", "face_emotion.serve", "--host", "127.0.0.1", "--port", str(server.port)],
        cwd=server.folder,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1 and f"Cannot serve on 127.0.0.1:{server.port}" in done.stderr
    assert "Traceback" not in done.stderr


def test_https(tmp_path):
    "With a certificate, which cameras need on any host except localhost."
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=localhost".split()
    try:
        subprocess.run([*command, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("openssl is not installed")
    context = ssl.create_default_context(cafile=str(certificate))
    context.check_hostname = False
    with ServerProcess(tmp_path, "--ssl-certfile", str(certificate), "--ssl-keyfile", str(key), wait=False) as server:
        wait_until(lambda: "Application startup complete" in server.log() or server.process.poll() is not None)
        with connect(server.ws.replace("ws:", "wss:"), ssl=context, origin=server.url.replace("http", "https")) as ws:
            ws.send(portrait())
            assert json.loads(ws.recv(WAIT_S))["results"]
