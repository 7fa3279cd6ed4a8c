"""The commands of the READMEs and CONTRIBUTING.md: those without data are run, of the others every option exists."""

import io
import json
import os
import re
import shlex
import subprocess
import sys
from functools import lru_cache

import pytest
from PIL import Image
from serving import ROOT, ServerProcess

TEXTS = ("README.md", "README.ko.md", "CONTRIBUTING.md")
RUN_AS_THEY_ARE = {"config"}  # commands that need no file of the reader's
ELSEWHERE = ("pip", "pre-commit", "source", "ssh", "sudo", "unzip")  # programs of the reader's machine
OWN = {"--help", "info", "completion"}  # what `face-emotion` answers itself


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def fences(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def commands(text: str) -> list[str]:
    return [line for block in fences(text, "sh") for line in block.splitlines() if line and not line.startswith("#")]


def project_commands(text: str) -> list[tuple[str, list[str]]]:
    "Name and arguments of each `face-emotion NAME …` and `python -m face_emotion.NAME …`, in fences and inline."
    inline = re.findall(r"`((?:python -m face_emotion\.|face-emotion )[^`]*)`", text)
    found = []
    for words in map(shlex.split, [*commands(text), *inline]):
        if words[0].endswith("face-emotion") and len(words) > 1 and words[1] not in OWN:
            found.append((words[1], words[2:]))
        elif words[0].endswith("python") and words[1] == "-m" and words[2].startswith("face_emotion."):
            found.append((words[2].removeprefix("face_emotion."), words[3:]))
    return [(name, [a for a in args if a != "--json"]) for name, args in found]


def run(*argv, cwd=ROOT, **kw) -> subprocess.CompletedProcess:
    env = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3", "COLUMNS": "200"}
    return subprocess.run([str(a) for a in argv], cwd=cwd, env=env, capture_output=True, text=True, timeout=240, **kw)


HELP = """
import contextlib, importlib, io, json, sys
found = {}
for name in sys.argv[1:]:
    with contextlib.redirect_stdout(text := io.StringIO()), contextlib.suppress(SystemExit):
        importlib.import_module(f"face_emotion.{name}").main(["--help"])
    found[name] = text.getvalue()
print(json.dumps(found))
"""


@lru_cache
def helps() -> dict[str, str]:
    "The `--help` of every module with a command, from one process: importing TensorFlow takes longest."
    sources = sorted((ROOT / "face_emotion").glob("*.py"))
    modules = [p.stem for p in sources if "raise SystemExit(main())" in p.read_text(encoding="utf-8")]
    done = run(sys.executable, "-c", HELP, *modules)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def help_of(command: str) -> str:
    assert helps().get(command), f"there is no command {command}"
    return helps()[command]


@pytest.fixture(params=TEXTS)
def text(request):
    return read(request.param)


def test_every_command_is_known(text):
    for command in commands(text):
        program = shlex.split(command)[0]
        known = program in ("make", "face-emotion", *ELSEWHERE) or program.startswith(".venv/bin/")
        assert known, f"what is {command!r}?"


def test_make_targets_exist(text):
    targets = set(re.findall(r"^([a-z]+):", read("Makefile"), re.MULTILINE))
    lines = [*commands(text), *re.findall(r"`(make [^`]+)`", text)]
    named = {line.split()[1] for line in lines if line.startswith("make ")}
    assert named <= targets, f"no such target: {named - targets}"


def test_commands_and_options_exist(text):
    for command, args in project_commands(text):
        usage = help_of(command)
        for option in (a for a in args if a.startswith("--")):
            assert re.search(rf"{option}\b", usage), f"face-emotion {command} has no {option}"


def test_commands_without_data_run(text, tmp_path):
    for command, args in project_commands(text):
        if command in RUN_AS_THEY_ARE:
            done = run(sys.executable, "-m", f"face_emotion.{command}", *args, cwd=tmp_path)
            assert done.returncode == 0, done.stderr


def test_files_named_exist(text):
    for path in re.findall(r"\]\((?!https?:|#)([^)#]+)", text):
        assert (ROOT / path).exists(), f"there is no {path}"


def headings(text: str) -> list[int]:
    "The level of each heading, in order, outside of code."
    return [len(m) for m in re.findall(r"^(#+) ", re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S), re.MULTILINE)]


def code_of(text: str, language: str) -> list[str]:
    "The code blocks of a language, without comments and blank lines."
    return [re.sub(r"\n+", "\n", re.sub(r"\s*#.*", "", block)) for block in fences(text, language)]


def test_readmes_have_the_same_sections_and_commands():
    english, korean = read("README.md"), read("README.ko.md")
    assert headings(english) == headings(korean)
    assert commands(english) == commands(korean)
    for language in ("python", "json", "mermaid"):
        assert code_of(english, language) == code_of(korean, language), language


def test_readme_names_every_road_notebook():
    missing = [p.name for p in (ROOT / "nbs").glob("[0-9]*.ipynb") if f"(nbs/{p.name})" not in read("README.md")]
    assert not missing


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    "The address of a running server."
    with ServerProcess(tmp_path_factory.mktemp("server")) as server:
        yield server.ws


@pytest.mark.parametrize("readme", ["README.md", "README.ko.md"])
def test_python_blocks_run(readme, tmp_path, server):
    photograph(tmp_path / "photo.jpg")
    for name in ("a.jpg", "b.jpg"):
        photograph(tmp_path / name)
    film(tmp_path / "film.mp4")
    code = ""
    for block in fences(read(readme), "python"):
        code = block if "import" in block else code + block  # a block without imports continues the one before
        done = run(sys.executable, "-c", code.replace("EmotionClient()", f"EmotionClient({server!r})"), cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        if "EmotionClient" in block:
            assert "happy" in done.stdout


def photograph(path):
    data, cv2 = pytest.importorskip("skimage.data"), pytest.importorskip("cv2")
    cv2.imwrite(str(path), data.astronaut()[..., ::-1])


def film(path):
    "A video of five frames with one face."
    data, cv2 = pytest.importorskip("skimage.data"), pytest.importorskip("cv2")
    frames = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 10, (512, 512))
    for _ in range(5):
        frames.write(data.astronaut()[..., ::-1])
    frames.release()


def test_commands_with_a_picture_and_a_sample(tmp_path):
    "What the README does first, with the generator and a portrait in place of the reader's own files."
    for folder in ("photos", "more"):
        (tmp_path / folder).mkdir()
    for name in ("photo.jpg", "photos/one.jpg", "more/one.heic"):
        photograph(tmp_path / name) if name.endswith("jpg") else (tmp_path / name).write_bytes(heic())
    film(tmp_path / "film.mp4")
    found = project_commands("\n".join(f"```sh\n{b}```" for b in fences(read("README.md"), "sh")))
    wanted = [(name, args) for name, args in found if name in ("predict", "sample") and args[0] != "0"]
    assert len(wanted) == 3
    for name, args in wanted:
        arguments = ["30" if a == "200" else a for a in args]
        done = run(sys.executable, "-m", f"face_emotion.{name}", *arguments, cwd=tmp_path)
        assert done.returncode == 0, f"{name} {args}: {done.stderr}"
    made = {p.name for p in tmp_path.iterdir()}
    assert made >= {"photo_emotions.jpg", "photo_emotions.csv", "results", "aihub_sample"}
    assert (tmp_path / "results" / "emotions.csv").exists()


def heic() -> bytes:
    "The portrait as a HEIC file."
    heif = pytest.importorskip("pillow_heif")
    data, file = pytest.importorskip("skimage.data"), io.BytesIO()
    heif.from_pillow(Image.fromarray(data.astronaut())).save(file, format="HEIF")
    return file.getvalue()


def test_git_ignores_what_the_commands_write(text):
    options = ("--out", "--output", "--source")
    folders = [b for _, words in project_commands(text) for a, b in zip(words, words[1:]) if a in options]
    written = {name.split("/")[0] + "/x" for name in folders} | {"photo_emotions.jpg", "video_emotions.csv", "key.pem"}
    done = subprocess.run(["git", "check-ignore", *written], capture_output=True, text=True, cwd=ROOT)
    if done.returncode == 128:
        pytest.skip("needs a git checkout")
    assert not written - set(done.stdout.splitlines())


def test_cli_knows_the_options_of_the_modules():
    from face_emotion.serving.cli import COMMANDS

    for name, command in COMMANDS.items():
        if name in OWN:
            continue
        real = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", help_of(name))) - {"--help", "--json"}
        listed = {o for o in command.options.split() if o.startswith("--")} - {"--json"}
        assert listed == real, f"face-emotion {name}: {listed ^ real}"
