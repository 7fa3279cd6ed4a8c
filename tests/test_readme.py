"""The commands of README.md, README.ko.md and CONTRIBUTING.md: those that need no data are run, of the others every option has to exist."""

import json
import os
import re
import shlex
import subprocess
import sys
from functools import lru_cache

import pytest
from serving import ROOT, ServerProcess

TEXTS = ("README.md", "README.ko.md", "CONTRIBUTING.md")
WITHOUT_DATA = {
    "face_emotion.config"
}  # modules whose commands run as they stand; the generator and the portraits do for some others
ELSEWHERE = ("ssh", "sudo", "unzip", "pre-commit")  # programs of the reader's machine


def fences(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def commands(text: str) -> list[str]:
    return [line for block in fences(text, "sh") for line in block.splitlines() if line and not line.startswith("#")]


def modules_commands(text: str) -> list[tuple[str, list[str]]]:
    "The module and the arguments of each `python -m face_emotion.x`, in fences and in the map."
    found = [shlex.split(c) for c in commands(text)] + [
        shlex.split(c) for c in re.findall(r"`(python -m face_emotion[^`]*)`", text)
    ]
    return [
        (c[2], c[3:])
        for c in found
        if len(c) > 2 and c[0].endswith("python") and c[1] == "-m" and c[2].startswith("face_emotion")
    ]


def run(*argv, cwd=ROOT, **kw) -> subprocess.CompletedProcess:
    env = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3", "COLUMNS": "200"}
    return subprocess.run([str(a) for a in argv], cwd=cwd, env=env, capture_output=True, text=True, timeout=240, **kw)


HELP = """import contextlib, importlib, io, json, sys
found = {}
for name in sys.argv[1:]:
    with contextlib.redirect_stdout(text := io.StringIO()), contextlib.suppress(SystemExit): importlib.import_module(name).main(["--help"])
    found[name] = text.getvalue()
print(json.dumps(found))"""


@lru_cache
def helps() -> dict[str, str]:
    "What `--help` of every module with a command says. One process for all, since importing TensorFlow takes longest."
    modules = [
        f"face_emotion.{p.stem}"
        for p in sorted((ROOT / "face_emotion").glob("*.py"))
        if "raise SystemExit(main())" in p.read_text(encoding="utf-8")
    ]
    done = run(sys.executable, "-c", HELP, *modules)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def help_of(module: str) -> str:
    assert helps().get(module), f"python -m {module} is no command"
    return helps()[module]


@pytest.fixture(params=TEXTS)
def text(request):
    return (ROOT / request.param).read_text(encoding="utf-8")


def test_every_command_is_known(text):
    for command in commands(text):
        program = shlex.split(command)[0]
        assert program in ("make", "face-emotion", "eval", *ELSEWHERE) or program.startswith(".venv/bin/"), (
            f"what is {command!r}?"
        )


def test_make_targets_exist(text):
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = {
        m
        for c in [*commands(text), *re.findall(r"`(make [^`]+)`", text)]
        if (m := c.split()[1] if c.startswith("make ") else "")
    }
    assert named <= targets, f"no such target: {named - targets}"


def test_modules_and_options_exist(text):
    for module, args in modules_commands(text):
        if not (ROOT / (module.replace(".", "/") + ".py")).exists():
            pytest.fail(f"there is no {module}")
        for option in (a for a in args if a.startswith("--")):
            assert re.search(rf"{option}\b", help_of(module)), f"python -m {module} has no {option}"


def test_commands_without_data_run(text, tmp_path):
    for module, args in modules_commands(text):
        if module not in WITHOUT_DATA:
            continue
        done = run(sys.executable, "-m", module, *args, cwd=tmp_path)
        assert done.returncode == 0, done.stderr


def test_files_named_exist(text):
    for path in re.findall(r"\]\((?!https?:|#)([^)#]+)", text):
        assert (ROOT / path).exists(), f"there is no {path}"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    "The address of a running server."
    with ServerProcess(tmp_path_factory.mktemp("server")) as server:
        yield server.ws


def test_python_blocks_run(text, tmp_path, server):
    photograph(tmp_path / "photo.jpg")
    for block in fences(text, "python"):
        done = run(sys.executable, "-c", block.replace("EmotionClient()", f"EmotionClient({server!r})"), cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        if "EmotionClient" in block:
            assert "happy" in done.stdout


def photograph(path):
    data, cv2 = pytest.importorskip("skimage.data"), pytest.importorskip("cv2")
    cv2.imwrite(str(path), data.astronaut()[..., ::-1])


def test_commands_with_a_picture_and_a_sample(tmp_path):
    "What README.ko.md does first, with the generator and a portrait in place of the reader's own files."
    data = pytest.importorskip("skimage.data")
    cv2 = pytest.importorskip("cv2")
    photograph(tmp_path / "photo.jpg")
    frames = cv2.VideoWriter(str(tmp_path / "film.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), 10, (512, 512))
    for _ in range(5):
        frames.write(data.astronaut()[..., ::-1])
    frames.release()
    text = (ROOT / "README.ko.md").read_text(encoding="utf-8")
    wanted = [(m, a) for m, a in modules_commands(text) if m in ("face_emotion.predict", "face_emotion.aihub_sample")]
    assert len(wanted) == 3
    for module, args in wanted:
        done = run(sys.executable, "-m", module, *["30" if a == "200" else a for a in args], cwd=tmp_path)
        assert done.returncode == 0, f"{module} {args}: {done.stderr}"
    assert {p.name for p in tmp_path.iterdir()} >= {
        "photo_emotions.jpg",
        "photo_emotions.csv",
        "results",
        "aihub_sample",
    }


def test_cli_knows_the_options_of_the_modules():
    from face_emotion.serving.cli import _COMMANDS

    for name, (_, options) in _COMMANDS.items():
        if not (ROOT / "face_emotion" / f"{name}.py").exists():
            continue
        real = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", help_of(f"face_emotion.{name}"))) - {"--help"}
        listed = {o for o in options.split() if o.startswith("--")} - {"--json"}
        assert listed == real - {"--json"}, f"face-emotion {name}: {listed ^ real}"
