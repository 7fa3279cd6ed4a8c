"""The documentation site in _docs/: notebooks, API reference and texts as Markdown pages, built by MkDocs Material.

Where quarto is installed, `nbdev_docs` builds the same notebooks with `_quarto.yml`.
"""

import importlib
import inspect
import re
import shutil
import subprocess
import sys
from pathlib import Path

import yaml
from fastcore.docments import docments
from make_readme import ROOT, processed
from nbconvert import MarkdownExporter
from tabulate import tabulate

PAGES = ROOT / "_proc" / "site"
SHELVES = {"core": "Core", "data": "Data", "learning": "Learning", "serving": "Serving", "essays": "Essays"}
TEXTS = {
    "docs/operation.md": "Running the server",
    "docs/capacity.md": "A million people",
    "docs/ray.md": "The server on Ray",
    "docs/protocol.md": "WebSocket and HTTP API",
    "docs/data.md": "Public data sets",
    "docs/training-on-several-machines.md": "Training on several machines",
    "docs/evaluation.md": "Evaluation protocol",
    "face_emotion/assets/MODEL_CARD.md": "Model card",
    "README.ko.md": "한국어 안내",
    "CONTRIBUTING.md": "Contributing",
    "CHANGELOG.md": "Changes",
}
LINK = re.compile(r"(\]\()(?!https?:|#|mailto:)([^)\s#]+)([^)]*\))")
TEXT_LINK = re.compile(r"\[([^\[\]]*)" + LINK.pattern)


def place_of(
    path: Path,  # a file of the repository
) -> Path | None:  # relative to PAGES; None: not part of the site
    "Where a file of the repository lies in the site."
    path = path.resolve()
    if not path.is_relative_to(ROOT):
        return None
    relative = path.relative_to(ROOT)
    if relative.name == "README.md":
        return Path("index.md")
    if str(relative) in TEXTS:
        return Path("texts") / relative.name
    if relative.parts[0] == "nbs":
        page = Path(*relative.parts[1:])
        return page.with_suffix(".md") if page.suffix == ".ipynb" else page
    return None


def relink(
    text: str,  # Markdown of a file
    source: Path,  # that file, in the repository
    url: str,  # where the repository's other files are shown; empty: nowhere, so links to them become plain text
) -> str:
    "The text with its links pointing into the site, or to the repository for files that are not part of it."
    page = place_of(source)

    def is_outside(link: str) -> bool:
        target = (source.parent / link).resolve()
        return place_of(target) is None and target.exists() and target.is_relative_to(ROOT)

    def replace(match: re.Match) -> str:
        target = (source.parent / match[2]).resolve()
        place = place_of(target)
        if is_outside(match[2]):
            return f"{match[1]}{url}/blob/main/{target.relative_to(ROOT).as_posix()}{match[3]}"
        if place is None:
            return match[0]
        up = "../" * (len(page.parts) - 1)
        return f"{match[1]}{up}{place.as_posix()}{match[3]}"

    if not url:
        text = TEXT_LINK.sub(lambda match: match[1] if is_outside(match[3]) else match[0], text)
    return LINK.sub(replace, text)


def write(page: Path, text: str) -> None:
    "Write one page."
    path = PAGES / page
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def write_notebook(notebook: Path, url: str) -> str:  # title of the page
    "Write a notebook with its outputs as a Markdown page, with a link to its API reference."
    page = place_of(notebook)
    resources = {"unique_key": page.stem, "output_files_dir": f"{page.stem}_files"}
    text, resources = MarkdownExporter().from_notebook_node(processed(notebook, with_exports=True), resources)
    for name, content in resources.get("outputs", {}).items():
        picture = PAGES / page.parent / name
        picture.parent.mkdir(parents=True, exist_ok=True)
        picture.write_bytes(content)
    write(page, relink(text, notebook, url))
    return text.lstrip().splitlines()[0].lstrip("# ")


def parameters(function: object) -> str:  # a Markdown table, or nothing
    "The parameters and the result of a function or class, with the comments beside them."
    try:
        found = docments(function, full=True)
    except (ValueError, TypeError):
        return ""
    rows = []
    for name, p in found.items():
        if name in ("self", "cls") or (name == "return" and not p.docment):
            continue
        kind = "" if p.anno is inspect.Parameter.empty else _code(inspect.formatannotation(p.anno))
        default = "" if name == "return" or p.default is inspect.Parameter.empty else _code(repr(p.default))
        rows.append([f"*{name}s*" if name == "return" else _code(name), kind, default, p.docment or ""])
    return tabulate(rows, ["name", "type", "default", ""], tablefmt="github") if rows else ""


def _code(text: str) -> str:
    short = re.sub(r"\b(?:[a-z_]\w*\.)+(?=\w)", "", text).replace("|", "\\|").replace("\n", " ")
    return f"`{short}`"


def entry(name: str, thing: object, level: int = 2) -> list[str]:  # Markdown paragraphs
    "What the API reference says of a function, a class with its methods, or a constant."
    if not callable(thing):
        return []
    out = [f"{'#' * level} `{name}`", (inspect.getdoc(thing) or "").partition("\n\nParameters:")[0], parameters(thing)]
    if inspect.isclass(thing):
        for method, function in vars(thing).items():
            if not method.startswith("_") and inspect.isfunction(function) and inspect.getdoc(function):
                out += entry(f"{name}.{method}", function, level + 1)
    return out


def write_api(modules: list[str]) -> list[str]:  # the pages
    "Write a page for each module, from its docstrings and comments."
    pages = []
    for name in modules:
        module = importlib.import_module(f"face_emotion.{name}")
        parts = [f"# face_emotion.{name}", module.__doc__ or ""]
        for symbol in getattr(module, "__all__", []):
            thing = getattr(module, symbol)
            if getattr(thing, "__module__", "") == module.__name__:
                parts += entry(symbol, thing)
        write(Path("api") / f"{name}.md", "\n\n".join(p for p in parts if p) + "\n")
        pages.append(f"api/{name}.md")
    return pages


def module_map() -> str:  # Markdown with a Mermaid diagram
    "Who imports whom, from the imports themselves; an import that follows from others is left out."
    import grimp

    graph = grimp.build_graph("face_emotion", include_external_packages=False)
    rooms = sorted(m for m in graph.modules if _source(m))
    edges = {m: {x for x in graph.find_modules_directly_imported_by(m) if x in rooms} for m in rooms}
    lines = ["graph BT"]
    for shelf in ("", *SHELVES):
        inside = [m for m in rooms if (m.split(".")[1] if m.count(".") == 2 else "") == shelf]
        if inside:
            lines += [f"  subgraph {shelf or 'road'}", *(f"    {m.split('.')[-1]}" for m in inside), "  end"]
    for module, imported in edges.items():
        indirect = {x for y in imported for x in graph.find_upstream_modules(y)}
        lines += [f"  {module.split('.')[-1]} --> {x.split('.')[-1]}" for x in sorted(imported - indirect)]
    intro = "An arrow goes from a module to one that it imports. `make check` holds the order (`.importlinter`)."
    return "\n".join(["# Module map", "", intro, "", "```mermaid", *lines, "```", ""])


def _source(module: str) -> str:  # the notebook that a module is exported from
    path = ROOT / f"{module.replace('.', '/')}.py"
    found = re.search(r"File to edit: (\S+)\.ipynb", path.read_text(encoding="utf-8")) if path.is_file() else None
    return found[1] if found else ""


def exported_modules() -> list[str]:  # such as "core.image"
    "The modules that notebooks export, the road first."
    paths = sorted((ROOT / "face_emotion").rglob("*.py"), key=lambda p: (len(p.parts), p))
    names = [".".join(p.relative_to(ROOT).with_suffix("").parts) for p in paths]
    return [n.removeprefix("face_emotion.") for n in names if _source(n)]


def navigation(url: str) -> list[dict]:
    "Write every page; returns MkDocs' navigation."
    nbs = ROOT / "nbs"
    road = [{"Start": "index.md"}]
    write_notebook(nbs / "index.ipynb", url)
    road += [{write_notebook(p, url): place_of(p).as_posix()} for p in sorted(nbs.glob("[0-9]*.ipynb"))]
    out = [{"The road": road}]
    for folder, title in SHELVES.items():
        pages = [{write_notebook(p, url): place_of(p).as_posix()} for p in sorted((nbs / folder).glob("*.ipynb"))]
        out.append({title: pages})
    for path in TEXTS:
        if (ROOT / path).exists():
            write(place_of(ROOT / path), relink((ROOT / path).read_text(encoding="utf-8"), ROOT / path, url))
    out.append({"Guides": [{t: place_of(ROOT / p).as_posix()} for p, t in TEXTS.items() if (ROOT / p).exists()]})
    write(Path("api/index.md"), module_map())
    pages = [{p.removeprefix("api/").removesuffix(".md"): p} for p in write_api(exported_modules())]
    return [*out, {"Reference": [{"Module map": "api/index.md"}, *pages]}]


def main() -> int:
    "Write the pages and build the site; fails when a link is broken."
    from nbdev.config import get_config

    shutil.rmtree(PAGES, ignore_errors=True)
    shutil.copytree(ROOT / "nbs" / "images", PAGES / "images")
    config = yaml.load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"), yaml.UnsafeLoader)
    url = get_config().git_url
    config |= {"nav": navigation(url), "docs_dir": str(PAGES), "site_dir": str(ROOT / "_docs")}
    config |= {"repo_url": url} if url else {}
    generated = PAGES.parent / "mkdocs.yml"
    generated.write_text(yaml.dump(config, allow_unicode=True, sort_keys=False), encoding="utf-8")
    return subprocess.run([sys.executable, "-m", "mkdocs", "build", "-q", "--strict", "-f", generated]).returncode


if __name__ == "__main__":
    sys.exit(main())
