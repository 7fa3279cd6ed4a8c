"""Clients that try to stop an open port, on real sockets. Each test fails on version 0.1.0."""

import asyncio
import contextlib
import os
import socket
import ssl
import struct
import subprocess
import sys
import threading
from pathlib import Path

import cv2
import numpy as np
import psutil
import pytest
from serving import ROOT, WAIT_S, ServerProcess, ThreadedServer, portrait, wait_until

import face_emotion.serving.transport as transport
from face_emotion.serving.transport import free_port

pytestmark = pytest.mark.timeout(240)
UPGRADE = (
    b"GET /ws/emotion HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
)


@pytest.fixture(scope="module")
def server():
    with ThreadedServer() as server:
        yield server


@pytest.fixture(autouse=True)
def _forgiven(server):
    "No test pays for the misuse of the one before it, which came from the same address."
    server.listeners[0].count._rates.clear()


def dial(server) -> socket.socket:
    "A TCP connection to the server."
    return socket.create_connection(("127.0.0.1", server.settings.server_port), WAIT_S)


def until_closed(connection: socket.socket) -> bytes:
    "What the server sends until it closes the connection, which it must do."
    connection.settimeout(WAIT_S)
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while data := connection.recv(65536):
            received += data
    return received


def upgraded(server) -> socket.socket:
    "A WebSocket whose frames the test writes by hand."
    connection = dial(server)
    connection.sendall(UPGRADE + b"\r\n")
    assert connection.recv(4096).startswith(b"HTTP/1.1 101")
    return connection


def frame(opcode: int, payload: bytes = b"", fin: bool = True) -> bytes:
    "A masked frame."
    size = len(payload)
    head = bytes([opcode | (0x80 if fin else 0)])
    head += bytes([0x80 | size]) if size < 126 else bytes([0x80 | 127]) + struct.pack(">Q", size)
    return head + bytes(4) + payload


def closed_with(connection: socket.socket) -> int | None:
    "The close code that arrives."
    connection.settimeout(WAIT_S)
    received = b""
    with contextlib.suppress(ConnectionResetError, BrokenPipeError):
        while data := connection.recv(65536):
            received += data
    at = received.find(b"\x88")
    return struct.unpack(">H", received[at + 2 : at + 4])[0] if at >= 0 else None


BROKEN = {
    "long header": (UPGRADE + b"X: " + b"x" * 9000 + b"\r\n\r\n", b"431"),
    "many headers": (UPGRADE + b"X: x\r\n" * 150 + b"\r\n", b"431"),
    "long address": (UPGRADE.replace(b"/ws/emotion", b"/ws/emotion?" + b"x" * 9000) + b"\r\n", b"414"),
    "escape in a header": (UPGRADE + b"X: \x1b[2J\r\n\r\n", b"400"),
    "body": (UPGRADE + b"Content-Length: 5\r\n\r\nhello", b"400"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_refused_upgrade_is_answered_and_closed(server, name):
    request, status = BROKEN[name]
    with dial(server) as connection:
        connection.sendall(request)
        answer = until_closed(connection)
        assert answer[:12] in (b"HTTP/1.1 " + status, b"HTTP/1.1 400")  # websockets before 17 prepares no answer
    wait_until(lambda: not server.server_state.connections)


def test_a_handshake_has_a_time_limit(monkeypatch, server):
    monkeypatch.setattr(transport, "HANDSHAKE_WITHIN", 0.2)
    monkeypatch.setattr("face_emotion.serve.check_handshake", lambda *_: asyncio.sleep(3))
    with dial(server) as connection:
        connection.sendall(UPGRADE + b"\r\n")
        assert until_closed(connection) == b""


@pytest.mark.parametrize("opcode", (0x9, 0xA), ids=("ping", "pong"))
def test_a_flood_of_control_frames_is_cut(server, opcode):
    flood = frame(opcode) * 20_000
    with server.connect() as good, upgraded(server) as bad:
        good.send(portrait())
        good.recv(WAIT_S)
        sender = threading.Thread(target=_send, args=(bad, flood), daemon=True)
        sender.start()
        for _ in range(5):
            good.send(portrait())
            assert "happy" in good.recv(WAIT_S)
        assert closed_with(bad) in (1008, None)
        sender.join(WAIT_S)
        wait_until(lambda: len(server.server_state.connections) == 1)


def _send(connection: socket.socket, data: bytes) -> None:
    with contextlib.suppress(OSError):
        connection.sendall(data)


def test_one_byte_fragments_are_cut(server):
    with upgraded(server) as bad:
        _send(bad, frame(0x2, b"x", fin=False) + frame(0x0, b"x", fin=False) * 2000)
        assert closed_with(bad) == 1008


def test_a_flood_keeps_its_address_away(server):
    with upgraded(server) as bad:
        _send(bad, frame(0x2, b"x", fin=False) + frame(0x0, b"x", fin=False) * 2000)
        assert closed_with(bad) == 1008
    with dial(server) as connection:
        _send(connection, b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
        assert until_closed(connection) == b""
    assert answers(server.settings.server_port)


def test_unfinished_messages_have_a_total(server):
    half = frame(0x2, bytes(4_000_000))[:-1]
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(upgraded(server)) for _ in range(8)]
        for s in sockets:
            _send(s, half)
        wait_until(lambda: len(server.server_state.connections) <= 4)
        table = server.server_state.sockets
        assert table.unfinished <= transport.UNFINISHED_PER_ADDRESS
    wait_until(lambda: not server.server_state.connections and table.unfinished == 0)


def test_a_message_must_end(monkeypatch, server):
    monkeypatch.setattr(transport, "MESSAGE_WITHIN", 0.3)
    with upgraded(server) as bad:
        bad.sendall(frame(0x2, b"x" * 1000)[:-1])
        assert closed_with(bad) == 1008


def test_a_silent_connection_is_cut(monkeypatch, server):
    monkeypatch.setattr(transport, "FIRST_BYTE_WITHIN", 0.2)
    with dial(server) as connection:
        assert until_closed(connection) == b""
    with dial(server) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
        assert b'"ok"' in until_closed(connection)


def answers(port: int) -> bool:
    "Whether the server answers an address of its own, which 127.0.0.2 counts as."
    with socket.create_connection(("127.0.0.1", port), WAIT_S, source_address=("127.0.0.2", 0)) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
        return b'"ok"' in until_closed(connection)


def test_one_address_cannot_take_all_connections():
    with ThreadedServer(connections_per_address=8, connections_total=32) as server, contextlib.ExitStack() as stack:
        idle = [stack.enter_context(dial(server)) for _ in range(300)]
        assert answers(server.settings.server_port)
        wait_until(lambda: server.listeners[0].count.refused >= 280)
        assert server.listeners[0].count.open["127.0.0.1"] <= 16
        del idle


def test_repeated_wrong_handshakes_are_closed_unread():
    "Each costs the event loop about a millisecond, and 400 sockets that try again made others wait 15 times as long."
    with ThreadedServer() as server:
        refused = server.listeners[0].count
        for _ in range(60):
            with dial(server) as connection:
                _send(connection, BROKEN["long header"][0])
                until_closed(connection)
        assert refused.refused >= 30
        assert answers(server.settings.server_port)


def test_slow_uploads_of_one_address_leave_room_for_others(server):
    upload = (
        b"POST /api/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\nContent-Length: 9000\r\n\r\nx"
    )
    image = portrait()
    with contextlib.ExitStack() as stack:
        for _ in range(16):
            slow = stack.enter_context(dial(server))
            slow.sendall(upload)
        wait_until(lambda: server.service.uploads["127.0.0.1"] == 4)
        port = server.settings.server_port
        with socket.create_connection(("127.0.0.1", port), WAIT_S, source_address=("127.0.0.2", 0)) as other:
            head = "POST /api/predict HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
            other.sendall(head.encode() + b"Content-Length: %d\r\n\r\n" % len(image) + image)
            assert b"happy" in until_closed(other)
    wait_until(lambda: not server.service.uploads)


def test_large_images_do_not_stop_another_client(server):
    "A hog sends 25-megapixel JPEGs on eight sockets; a webcam gets its answers in between."
    large = cv2.imencode(".jpg", np.zeros((5000, 5000, 3), np.uint8))[1].tobytes()
    elsewhere = socket.create_connection(
        ("127.0.0.1", server.settings.server_port), WAIT_S, source_address=("127.0.0.2", 0)
    )
    with server.connect(sock=elsewhere) as good, contextlib.ExitStack() as stack:
        for hog in [stack.enter_context(server.connect()) for _ in range(8)]:
            hog.send(large)
        wait_until(lambda: len(server.service.pool.queue) >= 6)
        good.send(portrait())
        good.recv(WAIT_S)
        assert server.service.pool.queue, "the hog's images still wait"


def test_tls_is_not_waited_for(tmp_path):
    "Connections that never begin TLS are counted too, and write nothing to the log."
    certificate = make_certificate(tmp_path)
    with ServerProcess(tmp_path, "--ssl-certfile", certificate, wait=False, CONNECTIONS_PER_ADDRESS="8") as server:
        wait_until(lambda: _tls_answers(server.port))
        with contextlib.ExitStack() as stack:
            for _ in range(100):
                stack.enter_context(socket.create_connection(("127.0.0.1", server.port), WAIT_S))
            assert psutil.Process(server.process.pid).num_fds() < 120
            assert _tls_answers(server.port, "127.0.0.2")
        wait_until(lambda: _tls_answers(server.port))  # until the closed connections are no longer counted
        assert b"strict-transport-security: max-age" in _over_tls(server.port, "127.0.0.1", socket.gethostname())
        assert b"strict-transport-security" not in _over_tls(server.port, "127.0.0.1", "localhost")
        assert "Traceback" not in server.log() + server.text()


def make_certificate(folder: Path) -> str:
    "A self-signed certificate with its key in one file."
    file = folder / "server.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost"]
    subprocess.run([*command, "-keyout", file, "-out", folder / "c.pem"], check=True, capture_output=True)
    file.write_bytes(file.read_bytes() + (folder / "c.pem").read_bytes())
    return str(file)


def _tls_answers(port: int, source: str = "127.0.0.1") -> bool:
    try:
        return b'"ok"' in _over_tls(port, source)
    except OSError:
        return False


def _over_tls(port: int, source: str, host: str = "localhost") -> bytes:
    context = ssl._create_unverified_context()
    with socket.create_connection(("127.0.0.1", port), WAIT_S, source_address=(source, 0)) as raw:
        with context.wrap_socket(raw) as connection:
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n" % host.encode())
            return until_closed(connection)


def test_too_few_files_are_said_at_the_start(tmp_path):
    command = f"ulimit -n 64; exec {sys.executable} -m face_emotion.serve --port {free_port()}"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 1 and "may open 64 files" in done.stderr and "Traceback" not in done.stderr


def test_workers_end_with_their_parent(tmp_path):
    with ServerProcess(tmp_path, "--workers", "2") as server:
        workers = server.children()
        assert len(workers) == 2
        server.process.kill()
        _, alive = psutil.wait_procs(workers, timeout=WAIT_S)
        assert not alive
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", server.port))


def test_bad_utf8_and_refused_handshakes_write_no_traceback(tmp_path):
    with ServerProcess(tmp_path) as server:
        for _ in range(3):
            with socket.create_connection(("127.0.0.1", server.port), WAIT_S) as bad:
                bad.sendall(UPGRADE + b"\r\n")
                assert b" 101 " in bad.recv(4096)
                bad.sendall(frame(0x1, b"\xff\xfe"))
                assert closed_with(bad) == 1007
            with socket.create_connection(("127.0.0.1", server.port), WAIT_S) as bad:
                bad.sendall(UPGRADE.replace(b"Version: 13", b"Version: 12") + b"\r\n")
                until_closed(bad)
            with socket.create_connection(("127.0.0.1", server.port), WAIT_S) as bad:
                head = b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
                bad.sendall(b"GET /%1b[2J" + b"a" * 30_000 + head)
                until_closed(bad)
        text = server.log() + server.text()
    assert "Traceback" not in text and "\x1b" not in text and len(text) < 20_000
