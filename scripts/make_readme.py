"""README.md from nbs/index.ipynb, without quarto. `--check` fails when the two differ."""

import argparse
import ast
import re
import sys
from pathlib import Path

import nbformat
from nbconvert import MarkdownExporter
from nbdev.process import extract_directives

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOK, IMAGES = ROOT / "nbs" / "index.ipynb", ROOT / "nbs" / "images"
_NOTE = "<!-- Made from nbs/index.ipynb by scripts/make_readme.py: edit the notebook. -->\n\n"


def processed(
    notebook: Path,  # an .ipynb file
    with_exports: bool = False,  # keep the cells that go into the module, except its imports
) -> nbformat.NotebookNode:  # without hidden cells, directives and hidden code; outputs kept
    "The notebook as its readers see it."
    nb = nbformat.read(notebook, 4)
    kept = []
    for cell in nb.cells:
        directives = extract_directives(cell) if cell.cell_type == "code" else {}
        cell.source = re.sub(r"^#\|.*\n?", "", cell.source, flags=re.MULTILINE)
        exported = "export" in directives
        if directives.keys() & {"hide", "default_exp"} or (exported and not (with_exports and tells(cell.source))):
            continue
        if directives.get("echo:") == ["false"]:
            cell.metadata["transient"] = {"remove_source": True}
        kept.append(cell)
    nb.cells = kept
    nb.metadata["language_info"] = {"name": "python"}
    return nb


def tells(
    source: str,  # of a code cell
) -> bool:
    "Whether a cell defines something; imports and the line that makes a module a program are left out."
    body = ast.parse(source).body
    imports = any(isinstance(node, (ast.Import, ast.ImportFrom)) for node in body)
    plain = (ast.Import, ast.ImportFrom, ast.If, *([ast.Assign] if imports else []))
    return not all(isinstance(node, plain) for node in body)


def relink(
    text: str,  # Markdown whose links start in nbs/
) -> str:  # Markdown whose links start at the top
    "Links of the notebook, as seen from the top of the repository."
    text = re.sub(r"\]\(\.\./", "](", text)
    return re.sub(
        r"\]\((?!https?:|#|/)([\w./-]+\.(?:ipynb|png|jpg|svg))\)",
        lambda m: m[0] if (ROOT / m[1]).exists() else f"](nbs/{m[1]})",
        text,
    )


def readme() -> dict[Path, bytes]:  # each file's content
    "README.md and its pictures."
    text, resources = MarkdownExporter().from_notebook_node(
        processed(NOTEBOOK), {"unique_key": "readme", "output_files_dir": "images"}
    )
    text = re.sub(r"!\[png\]\(images/", "![The bundled model on two portraits](images/", text)
    text = re.sub(r"[ \t]+\n", "\n", text)
    text = re.sub(r"\n{3,}", "\n\n", relink(text)).strip() + "\n"
    pictures = {IMAGES / Path(name).name: content for name, content in resources.get("outputs", {}).items()}
    return {ROOT / "README.md": (_NOTE + text).encode(), **pictures}


def main(argv: list[str] | None = None) -> int:
    "Write README.md and its pictures, or check that they are up to date."
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, fail when something would change")
    args = parser.parse_args(argv)
    stale = [path for path, content in readme().items() if not path.exists() or path.read_bytes() != content]
    if args.check:
        for path in stale:
            print(
                f"{path.relative_to(ROOT)} is not what nbs/index.ipynb gives. Run: python scripts/make_readme.py",
                file=sys.stderr,
            )
        return 1 if stale else 0
    for path, content in readme().items():
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    print(f"README.md: {len(stale)} file(s) changed")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
