"""Fails when a notebook's module imports one of a later notebook: reading in the order of the numbers must be enough."""

import ast
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
STRANGERS = ("dataset", "augment", "model")  # train joins them; they do not know each other


def modules(
    root: Path = ROOT,  # of the repository
) -> dict[str, str]:  # module -> notebook, in the order of the notebooks
    "Which notebook makes which module."
    found = {}
    for path in sorted((root / "nbs").glob("*.ipynb")):
        if name := re.search(r"#\| *default_exp +(\w+)", path.read_text(encoding="utf-8")):
            found[name[1]] = path.name
    return found


def imports(
    path: Path,  # of a module of the package
    known: set[str],  # its modules
) -> set[str]:  # the modules of the package that it imports, also inside functions
    "What a module imports from its own package."
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            name = (
                (node.module or "").removeprefix("face_emotion").lstrip(".")
                if node.level or (node.module or "").startswith("face_emotion")
                else None
            )
            if name is not None:
                found |= {name.split(".")[0]} if name else {a.name for a in node.names}
        elif isinstance(node, ast.Import):
            found |= {a.name.split(".")[1] for a in node.names if a.name.startswith("face_emotion.")}
    return found & known


def graph(root: Path = ROOT) -> dict[str, set[str]]:  # module -> modules, in the order of the notebooks
    "Who imports whom."
    order = modules(root)
    return {
        m: imports(root / "face_emotion" / f"{m}.py", set(order)) - {m}
        for m in order
        if (root / "face_emotion" / f"{m}.py").exists()
    }


def problems(root: Path = ROOT) -> list[str]:  # a line each
    "Imports against the order, and between modules that do not know each other."
    order, out = modules(root), []
    for module, imported in graph(root).items():
        out += [
            f"{order[module]}: face_emotion.{module} imports face_emotion.{m} of the later {order[m]}. Move what it needs into an earlier notebook."
            for m in sorted(imported)
            if order[m] > order[module]
        ]
        out += [
            f"{order[module]}: face_emotion.{module} imports face_emotion.{m}. Join them in 08_train instead."
            for m in sorted(imported & set(STRANGERS))
            if module in STRANGERS
        ]
    return out


def main() -> int:
    "Print every import that points upwards; fail when there is one."
    found = problems()
    for line in found:
        print(line, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
