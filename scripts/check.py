"""The repository's own rules: `make check`. Each problem is a line that says what to run."""

import filecmp
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
MAX_NOTEBOOK, MAX_BINARIES = 300 * 1024, 30 * 1024 * 1024
TEXT = (".py", ".md", ".txt", ".ini", ".ipynb", ".yml", ".sh", ".toml")
HOSTS = re.compile(
    "|".join([r"pypi\.org/" + "simple", "files" + r"\.pythonhosted", "registry" + r"\.npmjs", "deb" + r"\.debian\.org"])
)
PROGRAMS = (
    ["-m", "ruff", "check", "."],
    ["-m", "ruff", "format", "--check", "."],
    ["scripts/make_readme.py", "--check"],
)


def tracked() -> list[Path]:
    "Files that git tracks, relative to the root, and that are there."
    out = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True).stdout.decode()
    return [Path(p) for p in out.split("\0") if p and (ROOT / p).is_file()]


def drift(files: list[Path]) -> list[str]:
    "What nbdev_clean and nbdev_export would change, tried in a copy."
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for f in files:
            (copy / f).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / f, copy / f, follow_symlinks=False)
        for command in ("nbdev_clean", "nbdev_export"):
            subprocess.run([BIN / command], cwd=copy, check=True, capture_output=True)
        sources = [f for f in files if f.suffix in (".ipynb", ".py")]
        changed = [f for f in sources if not filecmp.cmp(ROOT / f, copy / f, shallow=False)]
        made = [p.relative_to(copy) for p in (copy / "face_emotion").rglob("*.py")]
        changed += [p for p in made if not (ROOT / p).exists()]
    return [f"{f} is not clean or not in sync: run nbdev_clean and nbdev_export" for f in changed]


def leftovers(files: list[Path]) -> list[str]:
    "Exported modules whose notebook is gone."
    problems = []
    for f in files:
        if f.parts[0] != "face_emotion" or f.suffix != ".py":
            continue
        source = re.search(r"File to edit: (\S+\.ipynb)", (ROOT / f).read_text(encoding="utf-8"))
        if source and not (ROOT / f.parent / source[1]).exists():
            problems.append(f"{f} has no notebook any more: remove it")
    return problems


def sizes(files: list[Path]) -> list[str]:
    "Notebooks and binaries that are too large."
    size = {f: (ROOT / f).stat().st_size for f in files}
    large = [f for f, s in size.items() if f.suffix == ".ipynb" and s > MAX_NOTEBOOK]
    out = [f"{f} has {size[f] // 1024} KB, 300 are allowed: make its pictures smaller" for f in large]
    binaries = sum(s for s in size.values() if s > 1024 * 1024)
    if binaries > MAX_BINARIES:
        out.append(f"large files have {binaries >> 20} MB together, 30 are allowed")
    return out


def texts(files: list[Path]) -> list[str]:
    "The settings example, and addresses that do not belong in a repository."
    command = [sys.executable, "-m", "face_emotion.config", "--example"]
    example = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    out = [f"{f} names a package registry's address" for f in files if f.suffix in TEXT and HOSTS.search(_read(f))]
    if _read(Path(".env.example")) != example:
        out.append(".env.example is not in sync: run face-emotion config --example > .env.example")
    return out


def _read(path: Path) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def programs() -> list[str]:
    "Checks that are programs of their own: import-linter, ruff, the README."
    out = []
    for command in ([BIN / "lint-imports"], *([sys.executable, *arguments] for arguments in PROGRAMS)):
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        if done.returncode:
            out.append(f"{' '.join(map(str, command[1:] or ['lint-imports']))} failed:\n{done.stdout}{done.stderr}")
    return out


def main() -> int:
    "Print every problem; fail when there is one."
    files = tracked()
    problems = drift(files) + leftovers(files) + sizes(files) + texts(files) + programs()
    print("\n".join(problems) or "check: notebooks clean, library and README in sync, import order, lint: all good")
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main())
