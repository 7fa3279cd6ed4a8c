"""Every code of the protocol, provoked on a real server; docs/protocol.md shows the same tables."""

import contextlib
import json
import re
import socket
import struct
import threading
import time

import cv2
import numpy as np
import pytest
from jsonschema import validate
from serving import ROOT, WAIT_S, ThreadedServer, as_text, connect, fetch, pair, portrait, wait_until
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.protocol import State

import face_emotion.serve as serve
import face_emotion.serving.transport as transport
from face_emotion.serving.protocol import CLOSES, ERRORS, REFUSALS, code_tables
from face_emotion.serving.schema import schema_of

pytestmark = pytest.mark.timeout(240)
BOMB = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
PASSES = portrait()[:-2] + b"\xff\xda\x00\x02" * 100 + b"\xff\xd9"


@pytest.fixture(scope="module")
def server():
    with ThreadedServer() as server:
        yield server


@pytest.fixture(autouse=True)
def _forgiven(server):
    "No test pays for the misuse of the one before it, which came from the same address."
    server.listeners[0].count._rates.clear()


def ask(server, message, **options) -> dict:
    "The answer to one message of version 1. It must fit its schema, and the connection must live on."
    with server.connect(**options) as ws:
        ws.send(message)
        answer = json.loads(ws.recv(WAIT_S))
        ws.send(portrait())
        alive = json.loads(ws.recv(WAIT_S))
    validate(answer, schema_of("AnswerV1"))
    assert "error" not in alive
    return answer


# ---------------------------------------------------------------- error codes

MESSAGES = {
    "bad_json": "{",
    "no_image": "[]",
    "bad_base64": '{"image": "%"}',
    "bad_id": as_text(b"", id=[1]),
    "empty": as_text(b""),
    "not_an_image": b"<html>",
    "broken_image": portrait()[:5000],
    "too_complex": PASSES,
    "too_large": b"x" * (2 * 1024 * 1024 + 1),
    "too_many_pixels": BOMB,
}


@pytest.mark.parametrize("code", MESSAGES)
def test_bad_message(server, code):
    answer = ask(server, MESSAGES[code])
    assert answer["error"]["code"] == code and answer["results"] == [] and len(answer["error"]["message"]) > 10


@pytest.mark.parametrize("code", [c for c in MESSAGES if ERRORS[c][0] and isinstance(MESSAGES[c], bytes)])
def test_bad_upload(server, code):
    picture = MESSAGES[code] * 5 if code == "too_large" else MESSAGES[code]
    status, body = fetch(server.url + "/api/predict", picture, content_type="image/jpeg")
    assert (status, json.loads(body)["error"]["code"]) == (ERRORS[code][0], code)
    validate(json.loads(body), schema_of("Prediction"))


def too_many_frames():
    with ThreadedServer(frames_per_address=3) as server, server.connect() as ws:
        for _ in range(8):
            ws.send("{")
            yield json.loads(ws.recv(WAIT_S))


def test_too_many_frames():
    codes = [a["error"]["code"] for a in too_many_frames()]
    assert codes[:3] == ["bad_json"] * 3 and "too_many_frames" in codes[3:]


def test_too_many_frames_over_http():
    with ThreadedServer(frames_per_address=1) as server:
        answers = [fetch(server.url + "/api/predict", b"x", content_type="image/jpeg") for _ in range(3)]
    assert [s for s, _ in answers][:2] == [415, 429] and json.loads(answers[1][1])["error"]["code"] == "too_many_frames"


def test_frames_are_counted_over_all_addresses():
    with ThreadedServer(frames_total=2) as server, server.connect() as ws:
        codes = []
        for _ in range(4):
            ws.send(BOMB)
            codes.append(json.loads(ws.recv(WAIT_S))["error"]["code"])
    assert "too_many_frames" in codes


def test_upload_that_is_too_slow(server, monkeypatch):
    monkeypatch.setattr("face_emotion.serving.uploads.UPLOAD_WITHIN", 0.3)
    with socket.create_connection(("127.0.0.1", server.settings.server_port)) as s:
        s.sendall(
            b"POST /api/predict HTTP/1.1\r\nHost: localhost\r\n"
            b"Content-Type: image/jpeg\r\nContent-Length: 1000\r\n\r\nabc"
        )
        answer = s.recv(2000) + s.recv(2000)
        assert answer.startswith(b"HTTP/1.1 408") and b'"too_slow"' in answer


def test_overloaded(server, monkeypatch):
    monkeypatch.setattr(serve, "_MAX_UPLOADS", 0)
    status, body = fetch(server.url + "/api/predict", portrait(), content_type="image/jpeg")
    assert (status, json.loads(body)["error"]["code"]) == (503, "overloaded")


def test_no_model():
    with ThreadedServer(model_path="nowhere/nothing") as server:
        status, body = fetch(server.url + "/api/predict", portrait(), content_type="image/jpeg")
        assert (status, json.loads(body)["error"]["code"]) == (503, "no_model")
        assert (
            fetch(server.url + "/readyz") == (503, b'{"status":"Model not loaded"}')
            and fetch(server.url + "/healthz")[0] == 200
        )
        with server.connect() as ws, pytest.raises(ConnectionClosed):
            ws.recv(WAIT_S)
        assert (ws.close_code, ws.close_reason) == (1011, "Model not loaded")


def test_detector_that_raises(monkeypatch):
    with ThreadedServer() as server, server.connect(subprotocols=["emotion.v2"]) as ws:
        ws.recv(WAIT_S)
        ws.send(portrait())
        assert json.loads(ws.recv(WAIT_S))["results"][0]["face_id"] == 1
        detector = type(server.service.predictor.detector)
        intact = detector.refine
        monkeypatch.setattr(detector, "refine", lambda *_: 1 / 0)
        ws.send(portrait())
        assert json.loads(ws.recv(WAIT_S))["error"]["code"] == "internal"
        assert fetch(server.url + "/api/predict", portrait(), content_type="image/jpeg")[0] == 500
        monkeypatch.undo()
        assert detector.refine is intact
        ws.send(portrait())
        assert json.loads(ws.recv(WAIT_S))["results"][0]["face_id"] == 1, "the new tracker counts from 1 again"


def test_worker_that_hangs(monkeypatch):
    hangs, release = threading.Event(), threading.Event()
    with ThreadedServer(frame_timeout=3.0) as server, server.connect() as victim, server.connect() as other:
        monkeypatch.setattr("face_emotion.serving.workers.decode_image", lambda *_: hangs.set() or release.wait(60))
        victim.send(portrait())
        assert hangs.wait(WAIT_S)
        monkeypatch.undo()
        other.send(portrait())
        assert json.loads(other.recv(WAIT_S))["results"]
        assert json.loads(victim.recv(WAIT_S))["error"]["code"] == "worker_lost"
        victim.send(portrait())
        assert json.loads(victim.recv(WAIT_S))["results"], "the new worker answers"
        assert server.metric("face_emotion_workers_lost_total") == 1 and fetch(server.url + "/readyz")[0] == 200
        release.set()
        wait_until(lambda: not server.service.pool.lost)


def test_upload_whose_worker_hangs(monkeypatch):
    release = threading.Event()
    with ThreadedServer(frame_timeout=3.0) as server:
        monkeypatch.setattr("face_emotion.serving.workers.decode_image", lambda *_: release.wait(30))
        status, body = fetch(server.url + "/api/predict", portrait(), content_type="image/jpeg")
        assert (status, json.loads(body)["error"]["code"]) == (503, "worker_lost")
        monkeypatch.undo()
        assert fetch(server.url + "/api/predict", portrait(), content_type="image/jpeg")[0] == 200
        release.set()
        wait_until(lambda: not server.service.pool.lost)


def test_threads_that_hang_make_the_server_unready_until_they_come_back(monkeypatch):
    release = threading.Event()
    with ThreadedServer(frame_timeout=0.3) as server, contextlib.ExitStack() as stack:
        monkeypatch.setattr("face_emotion.serving.workers.decode_image", lambda *_: release.wait(60))
        for victim in [stack.enter_context(server.connect()) for _ in range(4)]:
            victim.send(portrait())
        wait_until(lambda: fetch(server.url + "/readyz") == (503, b'{"status":"Workers were lost"}'))
        monkeypatch.undo()
        release.set()
        wait_until(lambda: fetch(server.url + "/readyz")[0] == 200)


def test_health_checks_do_not_wait_for_frames(monkeypatch):
    release, started = threading.Event(), threading.Semaphore(0)
    with ThreadedServer(frame_timeout=2 * WAIT_S) as server, contextlib.ExitStack() as stack:
        stack.callback(release.set)
        hang = lambda *_: started.release() or release.wait(2 * WAIT_S)  # noqa: E731
        monkeypatch.setattr("face_emotion.serving.workers.decode_image", hang)
        clients = [stack.enter_context(server.connect()) for _ in range(8)]
        for client in clients:
            client.send(portrait())
        assert started.acquire(timeout=WAIT_S)
        assert [fetch(server.url + path)[0] for path in ("/healthz", "/readyz", "/metrics", "/")] == [200] * 4
        assert server.service.pool.queue, "frames still wait for a worker"


def test_too_many_faces():
    with ThreadedServer(max_faces=1) as server, server.connect(subprotocols=["emotion.v2"]) as ws:
        ws.recv(WAIT_S)
        ws.send(pair())
        answer = json.loads(ws.recv(WAIT_S))
        status, body = fetch(server.url + "/api/predict", pair(), content_type="image/jpeg")
    for a in (answer, json.loads(body)):
        assert len(a["results"]) == 1 and a["warning"]["code"] == "too_many_faces"
    validate(answer, schema_of("AnswerV2"))


# ---------------------------------------------------------------- refusals


def refused(server, **options) -> tuple[int, str]:
    with pytest.raises(InvalidStatus) as e:
        server.connect(**options)
    return e.value.response.status_code, json.loads(e.value.response.body)["error"]["code"]


def test_forbidden_origin(server):
    for path in ("/ws/emotion", "/ws/debug"):
        assert refused(server, path=path, origin="https://evil.example") == (403, "forbidden_origin")
    assert (
        fetch(server.url + "/api/predict", portrait(), content_type="image/jpeg", origin="https://evil.example")[0]
        == 403
    )
    with server.connect(origin=server.url) as ws:
        ws.send("{")


def test_unauthorized():
    with ThreadedServer(access_token="s3cret-token") as server:
        for options in (
            {},
            {"additional_headers": {"Authorization": "Bearer wrong"}},
            {"path": "/ws/emotion?ticket=wrong"},
            {"path": "/ws/debug"},
        ):
            assert refused(server, **options) == (401, "unauthorized")
        for options in (
            {"additional_headers": {"Authorization": "Bearer s3cret-token"}},
            {"path": "/ws/emotion?ticket=s3cret-token"},
        ):
            with server.connect(**options) as ws:
                ws.send("{")


def by_name(server, name: str, path: str = "/ws/emotion", **options):
    "A socket of a client that knows the server by another name."
    connection = socket.create_connection(("127.0.0.1", server.settings.server_port), WAIT_S)
    return connect(f"ws://{name}{path}", sock=connection, compression=None, **options)


def test_wrong_host(server):
    port = server.settings.server_port
    for path in ("/ws/emotion", "/ws/debug"):
        with pytest.raises(InvalidStatus) as e:
            by_name(server, f"evil.example:{port}", path, origin=f"http://evil.example:{port}")
        assert e.value.response.status_code == 421
    for path in ("/", "/api/predict", "/metrics", "/openapi.json", "/model-card.json"):
        status, body = fetch(server.url + path, host=f"evil.example:{port}")
        error = json.loads(body)["error"]
        assert (status, error["code"]) == (421, "wrong_host") and "ALLOWED_HOSTS" in error["message"], path
    assert fetch(server.url + "/healthz", host="evil.example")[0] == 200
    with ThreadedServer(allowed_hosts="faces.example") as other:
        with by_name(other, "faces.example") as ws:
            ws.send("{")


def test_a_ticket_opens_one_socket():
    with ThreadedServer(access_token="s3cret-token") as server:
        assert fetch(server.url + "/api/ticket", b"")[0] == 401
        status, body = fetch(server.url + "/api/ticket", b"", authorization="Bearer s3cret-token")
        path = f"/ws/emotion?ticket={json.loads(body)['ticket']}"
        with server.connect(path=path) as ws:
            ws.send("{")
        assert refused(server, path=path) == (401, "unauthorized")


def test_too_many_tokens():
    with ThreadedServer(access_token="s3cret-token") as server:
        statuses = [fetch(server.url + "/metrics", authorization=f"Bearer {i}")[0] for i in range(12)]
        assert statuses == [401] * 10 + [429] * 2
        right = {"additional_headers": {"Authorization": "Bearer s3cret-token"}}
        assert refused(server, **right) == (429, "too_many_tokens")
        elsewhere = socket.create_connection(
            ("127.0.0.1", server.settings.server_port), 5, source_address=("127.0.0.2", 0)
        )
        with server.connect(sock=elsewhere, **right) as ws:
            ws.send("{")


def test_debug_off(server):
    with server.connect(path="/ws/debug") as ws:  # a client on the same machine
        ws.send("a")
        assert ws.recv(WAIT_S) == "Echo: a"
    with ThreadedServer(debug_socket="off") as closed:
        assert refused(closed, path="/ws/debug") == (403, "debug_off")


def test_two_lengths(server):
    with socket.create_connection(("127.0.0.1", server.settings.server_port), WAIT_S) as s:
        s.sendall(
            b"POST /api/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
        )
        answer = b""
        while data := s.recv(4096):  # until the server closes the connection
            answer += data
    assert answer.startswith(b"HTTP/1.1 400 ") and b'"two_lengths"' in answer


def test_too_many_connections():
    with ThreadedServer(connections_per_address=2) as server:
        with server.connect(), server.connect(path="/ws/debug"):
            assert refused(server) == (429, "too_many_connections")
        wait_until(lambda: server.service.guard.connections == 0)
        with server.connect() as ws:
            ws.send("{")


def test_server_full():
    with ThreadedServer(connections_total=1) as server, server.connect():
        assert refused(server) == (503, "server_full")


# ---------------------------------------------------------------- close codes


def closed_with(ws) -> int:
    with pytest.raises(ConnectionClosed):
        while True:
            ws.recv(WAIT_S)
    return ws.close_code


def test_1001_the_server_stops():
    with ThreadedServer() as server:
        with (
            server.connect() as a,
            server.connect(path="/ws/debug") as b,
            server.connect(subprotocols=["emotion.v2"]) as c,
        ):
            server.should_exit = True
            for ws in (a, b, c):
                assert closed_with(ws) == 1001 and ws.close_reason == CLOSES[1001][0]


def test_1002_and_1007_what_is_not_websocket(server):
    for code, data in ((1002, b"\xff\xff\xff"), (1007, frame(b"\xff\xfe", opcode=1))):
        with not_reading(server) as s:
            s.sendall(data)
            s.settimeout(WAIT_S)
            assert s.recv(100)[2:4] == struct.pack(">H", code)


def test_1003_text_only(server):
    with server.connect(path="/ws/debug") as ws:
        ws.send(b"binary")
        assert closed_with(ws) == 1003


def test_1008_fragments(server):
    with server.connect() as ws:
        try:
            ws.send(b"" for _ in range(2000))
        except ConnectionClosed:
            pass
        assert closed_with(ws) == 1008


def test_1009_beyond_the_hard_cap(server):
    with server.connect() as ws:
        try:
            ws.send(b"x" * (4 * 1024 * 1024 + 1))
        except ConnectionClosed:
            pass
        assert closed_with(ws) == 1009


def test_4000_idle():
    with ThreadedServer(idle_timeout=1.0) as server, server.connect() as ws:
        start = time.monotonic()
        assert closed_with(ws) == 4000 and time.monotonic() - start >= 1.0
        wait_until(lambda: server.service.guard.connections == 0)


def test_4001_slow_reader():
    with ThreadedServer(send_timeout=1.0) as server:
        with not_reading(server, "/ws/debug") as s:
            message = frame(b"x" * 500_000, opcode=1)
            s.settimeout(WAIT_S)
            with pytest.raises(OSError):
                while True:
                    s.sendall(message)
        wait_until(
            lambda: (
                server.metric('face_emotion_closed_total{code="4001"}') == 1 and server.service.guard.connections == 0
            )
        )


def test_4002_no_pong():
    with ThreadedServer(options={"ws_ping_interval": 0.3, "ws_ping_timeout": 1.0}) as server:
        with not_reading(server) as s:
            s.settimeout(WAIT_S)
            data = b""
            while chunk := s.recv(1000):
                data += chunk
            assert struct.pack(">H", 4002) in data
        with server.connect() as ws:  # a client that answers pings stays
            time.sleep(2.5)  # longer than one of them and what it may take
            assert ws.protocol.state is State.OPEN


def not_reading(server, path: str = "/ws/emotion") -> socket.socket:
    "A WebSocket as a plain socket with a small receive buffer, which reads nothing after the handshake."
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    s.connect(("127.0.0.1", server.settings.server_port))
    s.sendall(
        f"GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    head = b""
    while b"\r\n\r\n" not in head:
        head += s.recv(1)
    assert head.startswith(b"HTTP/1.1 101"), head
    return s


def frame(payload: bytes, opcode: int) -> bytes:
    "A client's WebSocket frame, masked with zeros."
    n = len(payload)
    if n < 126:
        length = bytes([0x80 | n])
    elif n < 65536:
        length = bytes([0x80 | 126]) + struct.pack(">H", n)
    else:
        length = bytes([0x80 | 127]) + struct.pack(">Q", n)
    return bytes([0x80 | opcode]) + length + b"\0\0\0\0" + payload


# ---------------------------------------------------------------- what clients must not be able to do


def test_pings_without_reading_do_not_pile_up(monkeypatch):
    monkeypatch.setattr(transport, "FRAMES_PER_SECOND", 1_000_000)  # or the connection is closed for its many frames
    with ThreadedServer() as server, not_reading(server) as s:
        wait_until(lambda: server.service.sessions)
        [session] = server.service.sessions
        pings = frame(b"x" * 125, opcode=9) * 1000
        s.settimeout(WAIT_S)
        for _ in range(20):
            s.sendall(pings)  # 2.5 MB of pongs
        s.sendall(frame(b"{", opcode=1))
        wait_until(lambda: session.seq == 1)  # every ping before it has been handled
        assert session.transport.transport.get_write_buffer_size() < 1_000_000, "the pongs of one read, and no more"


def test_garbage_without_reading_is_bounded(monkeypatch):
    monkeypatch.setattr(transport, "FRAMES_PER_SECOND", 1_000_000)
    with (
        ThreadedServer(send_timeout=60, frames_per_address=100_000, frames_total=100_000) as server,
        not_reading(server) as s,
    ):
        s.settimeout(2)
        garbage = frame(b"{", opcode=1) * 500
        for _ in range(60):
            try:
                s.sendall(garbage)
            except TimeoutError:
                break
        [session] = server.service.sessions
        assert session.transport.transport.get_write_buffer_size() < 200_000
        assert session.transport.queue.qsize() < 5000


def test_headers_that_do_not_come(monkeypatch):
    monkeypatch.setattr(transport, "STALLED_AFTER", 0.5)
    with ThreadedServer() as server, socket.create_connection(("127.0.0.1", server.settings.server_port)) as s:
        s.sendall(b"GET / HTTP/1.1\r\nHost:")
        s.settimeout(WAIT_S)
        assert is_cut(s)


def is_cut(s: socket.socket) -> bool:
    "Whether the other end has closed or reset the connection without sending anything."
    try:
        return s.recv(10) == b""
    except ConnectionResetError:
        return True


def test_a_bomb_costs_nothing(server):
    "Refusing a bomb takes far less time than an ordinary frame."

    def milliseconds(message) -> float:
        start = time.perf_counter()
        ws.send(message)
        answers.append(json.loads(ws.recv(WAIT_S)))
        return (time.perf_counter() - start) * 1e3

    with server.connect() as ws:
        answers = []
        for message in (portrait(), BOMB):
            milliseconds(message)
        times = np.array([(milliseconds(portrait()), milliseconds(BOMB)) for _ in range(30)])
    frame_ms, bomb_ms = np.median(times, axis=0)
    print(f"\nan ordinary frame {frame_ms:.2f} ms, a bomb {bomb_ms:.2f} ms")
    assert all(a["error"]["code"] == "too_many_pixels" for a in answers[1::2])
    assert not any("error" in a for a in answers[::2])
    assert bomb_ms < frame_ms / 2


def test_not_a_number_as_smoothing(server):
    for value in ("nan", "inf", "-1", "x", "0.5"):
        with server.connect(path=f"/ws/emotion?smoothing={value}", subprotocols=["emotion.v2"]) as ws:
            ws.recv(WAIT_S)
            ws.send(portrait())
            assert "NaN" not in (text := ws.recv(WAIT_S)) and json.loads(text)["results"], value


def test_lone_surrogate_as_id(server):
    with server.connect() as ws:
        ws.send('{"image": "", "id": "\\ud800"}')
        assert json.loads(ws.recv(WAIT_S))["id"] == "\ud800"


def test_sixteen_bits_and_strange_modes(server):
    for picture in (
        np.full((40, 50), 30000, np.uint16),
        np.zeros((1, 1, 3), np.uint8),
        np.zeros((2, 3000, 4), np.uint8),
    ):
        assert "error" not in ask(server, cv2.imencode(".png", picture)[1].tobytes())


# ---------------------------------------------------------------- the tables


def test_every_code_is_provoked_here():
    here = (ROOT / "tests" / "test_codes.py").read_text(encoding="utf-8")
    for code in (*ERRORS, *REFUSALS):
        assert f'"{code}"' in here, code
    for code in CLOSES:
        marks = (f"def test_{code}_", f"_and_{code}_", f"(({code},", f"== ({code},")
        assert any(mark in here for mark in marks), code


def test_tables_are_documented():
    text = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")
    errors, refusals, closes = code_tables().split("\n\n")
    assert errors in text and refusals in text and closes in text


def test_codes_in_the_source_are_in_the_tables():
    package = ROOT / "face_emotion"
    sources = [package / "core" / "image.py", package / "serve.py", *(package / "serving").glob("*.py")]
    text = "\n".join(path.read_text(encoding="utf-8") for path in sources)
    used = set(re.findall(r'(?:FrameError|ImageError|Refusal)\(\s*"(\w+)"', text))
    assert len(used) > 15 and used <= set(ERRORS) | set(REFUSALS)
