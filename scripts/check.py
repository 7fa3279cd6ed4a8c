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
HOSTS = re.compile(
    "|".join([r"pypi\.org/" + "simple", "files" + r"\.pythonhosted", "registry" + r"\.npmjs", "deb" + r"\.debian\.org"])
)


def tracked() -> list[Path]:
    "Files that git tracks, relative to the root, and that are there."
    out = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True).stdout.decode()
    return [Path(p) for p in out.split("\0") if p and (ROOT / p).is_file()]


def drift(files: list[Path]) -> list[str]:
    "What nbdev_clean and nbdev_export would change, tried in a copy."
    with tempfile.TemporaryDirectory() as d:
        copy = Path(d)
        for f in files:
            (copy / f).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / f, copy / f, follow_symlinks=False)
        for command in ("nbdev_clean", "nbdev_export"):
            subprocess.run([BIN / command], cwd=copy, check=True, capture_output=True)
        changed = [
            f for f in files if f.suffix in (".ipynb", ".py") and not filecmp.cmp(ROOT / f, copy / f, shallow=False)
        ]
        changed += [
            p.relative_to(copy)
            for p in (copy / "face_emotion").glob("*.py")
            if not (ROOT / p.relative_to(copy)).exists()
        ]
    return [f"{f} is not clean or not in sync: run nbdev_clean and nbdev_export" for f in changed]


def leftovers(files: list[Path]) -> list[str]:
    "Modules whose notebook is gone."
    sources = "\n".join((ROOT / f).read_text(encoding="utf-8") for f in files if f.suffix == ".ipynb")
    modules = [
        f for f in files if f.parent == Path("face_emotion") and f.suffix == ".py" and not f.stem.startswith("_")
    ]
    return [
        f"{f} has no notebook: remove it"
        for f in modules
        if f'#| default_exp {f.stem}"' not in sources and f"#| default_exp {f.stem}\\n" not in sources
    ]


def sizes(files: list[Path]) -> list[str]:
    "Notebooks and binaries that are too large."
    size = {f: (ROOT / f).stat().st_size for f in files}
    out = [
        f"{f} has {s // 1024} KB, 300 are allowed: make its pictures smaller"
        for f, s in size.items()
        if f.suffix == ".ipynb" and s > MAX_NOTEBOOK
    ]
    binaries = sum(s for f, s in size.items() if s > 1024 * 1024)
    return out + ([f"large files have {binaries >> 20} MB together, 30 are allowed"] if binaries > MAX_BINARIES else [])


def texts(files: list[Path]) -> list[str]:
    "The settings example, and addresses that do not belong into a repository."
    example = subprocess.run(
        [sys.executable, "-m", "face_emotion.config", "--example"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    out = (
        []
        if (ROOT / ".env.example").read_text(encoding="utf-8") == example
        else [".env.example is not in sync: run python -m face_emotion.config --example > .env.example"]
    )
    text = [f for f in files if f.suffix in (".py", ".md", ".txt", ".ini", ".ipynb", ".yml", ".sh", ".toml")]
    return out + [
        f"{f} names a package registry's address" for f in text if HOSTS.search((ROOT / f).read_text(encoding="utf-8"))
    ]


def programs() -> list[str]:
    "Checks that are programs of their own."
    commands = [
        [sys.executable, "scripts/check_imports.py"],
        [sys.executable, "scripts/make_readme.py", "--check"],
        [sys.executable, "scripts/module_map.py", "--check"],
        [sys.executable, "-m", "ruff", "check", "."],
    ]
    out = []
    for c in commands:
        done = subprocess.run(c, cwd=ROOT, capture_output=True, text=True)
        if done.returncode:
            out.append(f"{' '.join(map(str, c[1:]))} failed:\n{done.stdout}{done.stderr}")
    return out


def main() -> int:
    "Print every problem; fail when there is one."
    files = tracked()
    problems = drift(files) + leftovers(files) + sizes(files) + texts(files) + programs()
    print(
        "\n".join(problems) or "check: notebooks clean, library and README in sync, imports downwards, lint: all good"
    )
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main())
