"""No frame and no token is written to the disk or to the log."""

import ast
import json
import re
import sys

import pytest
from serving import ROOT, WAIT_S, ServerProcess, ThreadedServer, as_text, connect, fetch, portrait

pytestmark = pytest.mark.timeout(120)
PACKAGE = ROOT / "face_emotion"
CORE = ("image", "crop", "classifier", "detector", "tracker", "predictor")
SERVING = ("protocol", "schema", "guard", "transport", "workers", "service", "session")
SOURCES = [
    *(PACKAGE / "core" / f"{name}.py" for name in CORE),
    *(PACKAGE / "serving" / f"{name}.py" for name in SERVING),
    PACKAGE / "serve.py",
]
WRITES = {
    "imwrite",
    "tofile",
    "save",
    "write_bytes",
    "write_text",
    "write_atomically",
    "NamedTemporaryFile",
    "TemporaryFile",
    "SpooledTemporaryFile",
    "mkstemp",
    "open",
    "dump",
    "VideoWriter",
}
ALLOWED = {
    ("image", "open"),  # Image.open reads
    ("classifier", "TemporaryFile"),  # holds what LiteRT prints while it starts
}
LOGS = {"debug", "info", "warning", "error", "exception"}
FRAMES = {"message", "encoded", "image", "body", "frame", "data", "pending", "text"}


def calls(path) -> list[tuple[str, ast.Call]]:
    "Every call in a source file, with the name of what is called."
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return [(getattr(node.func, "attr", getattr(node.func, "id", "")), node) for node in found]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_no_code_that_writes(path):
    for name, node in calls(path):
        where = f"{path.name} line {node.lineno}"
        assert name not in WRITES or (path.stem, name) in ALLOWED, f"{where} calls {name}"
        if name in LOGS:
            words = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
            assert not words & FRAMES, f"{where} may log a frame"


opened: list[tuple[str, str]] = []
watching = False


def hook(event, args):
    "Note every file that is opened for writing."
    if not watching or event != "open" or not isinstance(args[0], (str, bytes)):
        return
    mode, flags = args[1], args[2]
    if (isinstance(mode, str) and set(mode) & set("wax+")) or (isinstance(flags, int) and flags & 3):
        opened.append((str(args[0]), str(args[1])))


def test_nothing_is_opened_for_writing():
    "Python itself reports every file opened, while frames and uploads of several megabytes are answered."
    global watching
    sys.addaudithook(hook)
    large = portrait()[:-2] + b"\xff\xfe\xff\xff" + b"x" * 65533 + b"\xff\xd9"
    while len(large) < 4_000_000:
        large = large[:-2] + b"\xff\xfe\xff\xff" + b"x" * 65533 + b"\xff\xd9"
    with ThreadedServer() as server:
        watching = True
        with server.connect() as ws:
            for message in (portrait(), as_text(portrait()), "{", b"<html>"):
                ws.send(message)
                ws.recv(WAIT_S)
        boundary = (
            b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.jpg"\r\nContent-Type: image/jpeg\r\n\r\n'
            + large
            + b"\r\n--b--\r\n"
        )
        status, body = fetch(server.url + "/api/predict", boundary, content_type="multipart/form-data; boundary=b")
        assert status == 200 and json.loads(body)["results"]
        watching = False
    assert opened == []


def test_log_and_disk_hold_no_frame_and_no_token(tmp_path):
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    with ServerProcess(tmp_path, ACCESS_TOKEN="s3cret-token", TMPDIR=str(temporary)) as server:
        with connect(server.ws + "?ticket=s3cret-token", compression=None) as ws:
            for _ in range(3):
                for message in (
                    portrait(),
                    as_text(portrait()),
                    as_text(portrait()[:3000]),
                    '{"image": "MARKER-in-the-frame"}',
                ):
                    ws.send(message)
                    ws.recv(WAIT_S)
        fetch(server.url + "/api/predict?ticket=s3cret-token", portrait(), content_type="image/jpeg")
        fetch(server.url + "/api/predict?ticket=wrong-but-private", portrait(), content_type="image/jpeg")
        assert server.stop()[0] == 0
    log = server.log()
    assert "/ws/emotion" in log and "POST /api/predict" in log, "uvicorn's lines are there"
    assert "s3cret" not in log and "wrong-but-private" not in log and "MARKER" not in log
    assert not re.search(r"[A-Za-z0-9+/]{120,}", log), "nothing that looks like base64"
    marks = (portrait()[1000:1032], as_text(portrait())[2000:2040].encode())
    for path in tmp_path.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert not any(m in content for m in marks), path
    assert list(temporary.iterdir()) == []
