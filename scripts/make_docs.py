"""The documentation site in _docs/: with quarto (nbdev_docs) where it is installed, otherwise with nbconvert. Every link is checked."""

import argparse
import ast
import html
import importlib
import inspect
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import nbformat
import yaml
from fastcore.docments import docments, empty
from nbconvert import HTMLExporter
from nbdev.process import extract_directives
from pygments.formatters import HtmlFormatter

try:
    from latex2mathml.converter import convert as to_mathml
except ImportError:  # formulas then stay as they are written
    to_mathml = None

ROOT = Path(__file__).resolve().parents[1]
NBS, OUT, PACKAGE = ROOT / "nbs", ROOT / "_docs", "face_emotion"
TEXTS = {
    "README.ko.md": "한국어 안내",
    "CONTRIBUTING.md": "Contributing",
    "CHANGELOG.md": "Changes",
    "face_emotion/assets/MODEL_CARD.md": "Model card",
}


# ---------------------------------------------------------------- API entries


def _plain(annotation) -> str:
    if annotation is empty or annotation is inspect.Parameter.empty:
        return ""
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    return re.sub(r"\b(?:[a-z_]\w*\.)+(?=\w)", "", text)


def _default(value) -> str:
    if value is inspect.Parameter.empty:
        return ""
    return repr(value) if not callable(value) else value.__name__


def _rows(rows: list[tuple]) -> str:
    cells = "".join("<tr>" + "".join(f"<td>{c}</td>" for c in r) + "</tr>" for r in rows)
    return (
        f'<table class="api"><tr><th>name</th><th>type</th><th>default</th><th></th></tr>{cells}</table>'
        if rows
        else ""
    )


def _code(text: str) -> str:
    return f"<code>{html.escape(text)}</code>" if text else ""


def _text(words: str) -> str:
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(words))


def _parameters(f) -> str:  # a table in HTML
    "The parameters and the result of a callable, with the comments beside them."
    try:
        signature, docs = inspect.signature(f), docments(f, full=True)
    except (ValueError, TypeError):
        return ""
    rows = []
    for name, p in signature.parameters.items():
        if name == "self":
            continue
        star = {p.VAR_POSITIONAL: "*", p.VAR_KEYWORD: "**"}.get(p.kind, "")
        rows.append(
            (
                _code(star + name),
                _code(_plain(p.annotation)),
                _code(_default(p.default)),
                _text((docs.get(name) or {}).get("docment") or ""),
            )
        )
    result = docs.get("return") or {}
    if _plain(signature.return_annotation) not in ("", "None"):
        rows.append(
            ("<em>returns</em>", _code(_plain(signature.return_annotation)), "", _text(result.get("docment") or ""))
        )
    return _rows(rows)


def _fields(cls) -> str:  # a table in HTML
    "The fields of a pydantic model."
    return _rows(
        [
            (
                _code(n),
                _code(_plain(f.annotation)),
                "" if f.is_required() else _code(repr(f.default)),
                _text(f.description or ""),
            )
            for n, f in cls.model_fields.items()
        ]
    )


def _doc(obj) -> str:
    text = inspect.getdoc(obj)
    return f"<p>{_text(text)}</p>" if text else ""


def entry(
    module,  # an imported module
    name: str,  # of something in it, with dots for a method
) -> str:  # HTML
    "What a reader has to know to use it: first sentence, parameters, and a class's methods."
    obj = module
    for part in name.split("."):
        obj = inspect.getattr_static(obj, part) if inspect.isclass(obj) else getattr(obj, part)
    kind = (
        "class"
        if inspect.isclass(obj)
        else "property"
        if isinstance(obj, property) or type(obj).__name__ == "cached_property"
        else ""
    )
    head = f'<div class="entry" id="{name}"><h4>{f"<small>{kind}</small> " * bool(kind)}{html.escape(name)}</h4>'
    if kind == "property":
        return head + _doc(obj) + "</div>"
    if not inspect.isclass(obj):
        return head + _doc(obj) + _parameters(getattr(obj, "__func__", obj)) + "</div>"
    body = _fields(obj) if hasattr(obj, "model_fields") else _parameters(obj)
    methods = [
        n
        for n, m in vars(obj).items()
        if not n.startswith("_")
        and (
            inspect.isfunction(m)
            or isinstance(m, (property, classmethod, staticmethod))
            or type(m).__name__ == "cached_property"
        )
        and getattr(getattr(m, "__func__", m), "__module__", module.__name__) == module.__name__
    ]
    return head + _doc(obj) + body + "".join(entry(module, f"{name}.{m}") for m in methods) + "</div>"


def defined(source: str) -> list[str]:
    "Public functions and classes that a cell defines; a patched method is part of its class and not named again."
    try:
        nodes = ast.parse(source).body
    except SyntaxError:
        return []
    nodes = [
        n
        for n in nodes
        if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) and not n.name.startswith("_")
    ]
    return [n.name for n in nodes if not any(isinstance(d, ast.Name) and d.id == "patch" for d in n.decorator_list)]


# ---------------------------------------------------------------- notebooks


def readable(
    path: Path,  # a notebook
) -> nbformat.NotebookNode:
    "The notebook as a page: hidden cells gone, exported ones as API entries with their source folded."
    nb = nbformat.read(path, 4)
    source = "\n".join(c.source for c in nb.cells)
    found = re.search(r"#\| *default_exp +(\w+)", source)
    module = importlib.import_module(f"{PACKAGE}.{found[1]}") if found else None
    cells = []
    for cell in nb.cells:
        directives = extract_directives(cell) if cell.cell_type == "code" else {}
        if directives.keys() & {"hide", "default_exp"}:
            continue
        if "export" in directives:
            cells.extend(_exported(cell, module))
        else:
            cell.source = (
                _math(cell.source)
                if cell.cell_type == "markdown"
                else re.sub(r"^#\|.*\n", "", cell.source, flags=re.MULTILINE)
            )
            if directives.get("echo:") == ["false"]:
                cell.metadata["transient"] = {"remove_source": True}
            cells.append(cell)
    nb.cells = cells
    return nb


def _exported(cell, module) -> list:
    names = [n for n in defined(cell.source) if hasattr(module, n)]
    if not names and all(
        line.startswith(("import ", "from ", "if TYPE_CHECKING", ")", " ")) or not line
        for line in cell.source.splitlines()
    ):
        return []
    fence = (
        f"<details{'' if names else ' open'}><summary>source</summary>\n\n```python\n{cell.source}\n```\n\n</details>"
    )
    return [nbformat.v4.new_markdown_cell("".join(entry(module, n) for n in names) + "\n\n" + fence)]


def _math(text: str) -> str:
    "Formulas as MathML, which browsers draw by themselves. What is code is left alone."
    if to_mathml is None:
        return text
    parts = re.split(r"(```.*?```|`[^`\n]+`)", text, flags=re.DOTALL)
    for i in range(0, len(parts), 2):
        parts[i] = re.sub(
            r"\$\$(.+?)\$\$", lambda m: to_mathml(" ".join(m[1].split()), display="block"), parts[i], flags=re.DOTALL
        )
        parts[i] = re.sub(r"(?<![\\$\w])\$(?=\S)([^$\n]+?)(?<=\S)\$(?![\w$])", lambda m: to_mathml(m[1]), parts[i])
    return "".join(parts)


# ---------------------------------------------------------------- pages

STYLE = """
:root { --ink: #1d2126; --muted: #626972; --line: #e2dfd8; --sunken: #f6f5f2; --link: #2456c4; }
* { box-sizing: border-box; }
body { margin: 0; display: grid; grid-template-columns: 230px minmax(0, 1fr); color: var(--ink); font: 16px/1.6 system-ui, -apple-system, "Apple SD Gothic Neo", "Malgun Gothic", "Noto Sans KR", sans-serif; word-break: keep-all; overflow-wrap: break-word; }
nav { position: sticky; top: 0; height: 100vh; overflow-y: auto; padding: 24px 18px; border-right: 1px solid var(--line); background: var(--sunken); font-size: 14px; }
nav strong { display: block; margin: 18px 0 4px; color: var(--muted); font-size: 12px; text-transform: uppercase; letter-spacing: 0.06em; }
nav a { display: block; padding: 3px 8px; border-radius: 5px; color: inherit; text-decoration: none; }
nav a:hover { background: var(--line); } nav a[aria-current] { background: var(--line); font-weight: 600; }
main { max-width: 900px; padding: 24px 40px 80px; min-width: 0; }
a { color: var(--link); } img { max-width: 100%; }
h1 { line-height: 1.2; } h2 { margin-top: 2em; border-bottom: 1px solid var(--line); }
blockquote { margin: 0 0 1em; color: var(--muted); font-size: 1.1em; } .anchor-link { visibility: hidden; margin-left: 6px; text-decoration: none; } :is(h1,h2,h3):hover .anchor-link { visibility: visible; }
pre { overflow-x: auto; margin: 0; padding: 10px 14px; border-radius: 6px; background: var(--sunken); font-size: 13px; line-height: 1.45; }
.output_area pre, .jp-OutputArea-output pre { background: none; border-left: 3px solid var(--line); border-radius: 0; }
.cell, .jp-Cell { margin: 0.8em 0; } code { font-size: 0.9em; }
table { border-collapse: collapse; font-size: 14px; display: block; overflow-x: auto; } th, td { padding: 4px 10px; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
.entry { margin: 1em 0; padding: 10px 16px; border: 1px solid var(--line); border-radius: 8px; } .entry h4 { margin: 0; font-family: ui-monospace, monospace; } .entry small { color: var(--muted); }
.entry .entry { margin: 8px 0 0; padding: 8px 0 0; border-width: 1px 0 0; border-radius: 0; } .entry p { margin: 4px 0; } .api { font-size: 13px; } .api td:nth-child(-n+3) code { overflow-wrap: anywhere; }
details { margin: 0.5em 0; } summary { color: var(--muted); font-size: 13px; cursor: pointer; }
@media (max-width: 760px) { body { grid-template-columns: 1fr; } nav { position: static; height: auto; } main { padding: 16px; } }
"""


def groups() -> list[tuple[str, list[str]]]:
    "The sidebar of _quarto.yml: titles and file names."
    contents = yaml.safe_load((ROOT / "_quarto.yml").read_text(encoding="utf-8"))["website"]["sidebar"]["contents"]
    return [("", [c]) if isinstance(c, str) else (c["section"], c["contents"]) for c in contents]


def title_of(path: Path) -> str:
    "The first heading of a notebook, for the sidebar."
    if path.stem == "index":
        return "Home"
    found = re.search(r"^# (.+)$", nbformat.read(path, 4).cells[0].source, re.MULTILINE)
    return found[1] if found else path.stem


def sidebar(current: str, titles: dict[str, str]) -> str:
    "The navigation of a page, in HTML."
    out = []
    for section, names in [*groups(), ("Reference", ["api.html", *map(_page_name, TEXTS)])]:
        links = [n for n in (Path(n).with_suffix(".html").name for n in names) if n in titles]
        if section and links:
            out.append(f"<strong>{html.escape(section)}</strong>")
        out += [f'<a href="{n}"{" aria-current=page" * (n == current)}>{html.escape(titles[n])}</a>' for n in links]
    return "".join(out)


def _page_name(text: str) -> str:
    return Path(text).with_suffix("").name.lower().replace(".", "_") + ".html"


def relink(page: str) -> str:  # HTML
    "Links to notebooks and texts as links to their pages."

    def target(m: re.Match) -> str:
        path, _, fragment = html.unescape(m[2]).partition("#")
        clean = unquote(path).removeprefix("../").removeprefix("nbs/")
        if clean == "README.md":
            clean = "index.html"
        elif clean in TEXTS:
            clean = _page_name(clean)
        elif clean.endswith(".ipynb"):
            clean = clean[:-6] + ".html"
        elif not clean.startswith("images/"):
            return m[0]
        return f'{m[1]}="{clean}{"#" + fragment if fragment else ""}"'

    return re.sub(r'\b(href|src)="((?!https?:|data:|#|mailto:)[^"]+)"', target, page)


def _slug(place: str) -> str:
    return re.sub(r"[^\w-]", "", unquote(html.unescape(place)).lower())  # as GitHub writes them


def write_page(name: str, title: str, body: str, titles: dict[str, str]) -> None:
    "One page of the site, with its navigation."
    body = re.sub(r'(<h[1-6] id="|class="anchor-link" href="#)([^"]+)"', lambda m: f'{m[1]}{_slug(m[2])}"', body)
    page = f"""<!doctype html><html lang="{"ko" if "_ko" in name else "en"}"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{html.escape(title)} – face_emotion</title>
<link rel="stylesheet" href="style.css"><nav><b>face_emotion</b>{sidebar(name, titles)}</nav><main>{relink(body)}</main></html>"""
    (OUT / name).write_text(page, encoding="utf-8")


def render() -> None:
    "All pages, without quarto."
    shutil.rmtree(OUT, ignore_errors=True)
    shutil.copytree(NBS / "images", OUT / "images") if (NBS / "images").exists() else OUT.mkdir()
    (OUT / "style.css").write_text(
        STYLE + HtmlFormatter(style="default").get_style_defs(".highlight"), encoding="utf-8"
    )
    listed = [n for _, names in groups() for n in names]
    notebooks = [NBS / n for n in listed if (NBS / n).exists()]
    if unlisted := sorted({p.name for p in NBS.glob("*.ipynb")} - set(listed)):
        raise SystemExit(f"_quarto.yml's sidebar lacks {', '.join(unlisted)}")
    texts = {t: label for t, label in TEXTS.items() if (ROOT / t).exists()}
    titles = (
        {p.with_suffix(".html").name: title_of(p) for p in notebooks}
        | {"api.html": "All names"}
        | {_page_name(t): label for t, label in texts.items()}
    )
    exporter = HTMLExporter(template_name="basic", exclude_input_prompt=True, exclude_output_prompt=True)
    for path in notebooks:
        write_page(
            path.with_suffix(".html").name, title_of(path), exporter.from_notebook_node(readable(path))[0], titles
        )
    for text, label in texts.items():
        nb = nbformat.v4.new_notebook(
            cells=[nbformat.v4.new_markdown_cell(_math((ROOT / text).read_text(encoding="utf-8")))]
        )
        write_page(_page_name(text), label, exporter.from_notebook_node(nb)[0], titles)
    write_page("api.html", "All names", api_index(notebooks), titles)


def api_index(notebooks: list[Path]) -> str:  # HTML
    "Every public name with its first sentence, by module."
    out = ["<h1>All names</h1>"]
    for path in notebooks:
        nb = nbformat.read(path, 4)
        found = re.search(r"#\| *default_exp +(\w+)", "\n".join(c.source for c in nb.cells))
        if not found:
            continue
        module = importlib.import_module(f"{PACKAGE}.{found[1]}")
        names = [
            n
            for c in nb.cells
            if c.cell_type == "code" and re.search(r"^#\| *export", c.source)
            for n in defined(c.source)
            if hasattr(module, n)
        ]
        first = {n: (inspect.getdoc(getattr(module, n)) or " ").splitlines()[0] for n in names}
        rows = "".join(
            f'<tr><td><a href="{path.stem}.html#{n}"><code>{n}</code></a></td><td>{_text(first[n])}</td></tr>'
            for n in names
        )
        if rows:
            out.append(f"<h2>face_emotion.{found[1]}</h2><table>{rows}</table>")
    return "".join(out)


# ---------------------------------------------------------------- links


class _Links(HTMLParser):
    "The targets and the ids of a page."

    def __init__(self, text: str):
        super().__init__()
        self.ids, self.targets = set(), []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        for k, v in attrs:
            if k in ("id", "name") and v:
                self.ids.add(v)
            elif k in ("href", "src") and v:
                self.targets.append(v)


def broken_links(
    folder: Path,  # of HTML pages
) -> list[str]:  # a line a link
    "Links within the site that lead nowhere, to a page or to a place on it. Other hosts are not asked."
    pages = {p: _Links(p.read_text(encoding="utf-8")) for p in folder.rglob("*.html")}
    out = []
    for page, links in pages.items():
        for link in links.targets:
            url = urlsplit(link)
            if url.scheme or url.netloc:
                continue
            target = (page.parent / unquote(url.path)).resolve() if url.path else page
            if not target.exists():
                out.append(f"{page.name}: {link} is not there")
            elif url.fragment and target in pages and unquote(url.fragment) not in pages[target].ids:
                out.append(f"{page.name}: {link} has no such place")
    return sorted(set(out))


def main(argv: list[str] | None = None) -> int:
    "Make the site and check its links."
    argparse.ArgumentParser(description=main.__doc__).parse_args(argv)
    sys.path.insert(0, str(ROOT))
    by_quarto = (
        shutil.which("quarto")
        and subprocess.run([Path(sys.executable).parent / "nbdev_docs"], cwd=ROOT).returncode == 0
    )
    if not by_quarto:
        render()
    problems = broken_links(OUT)
    for p in problems:
        print(p, file=sys.stderr)
    print(f"_docs: {len(list(OUT.glob('*.html')))} pages, {len(problems)} broken links. Open _docs/index.html")
    return 1 if problems else 0


if __name__ == "__main__":
    raise SystemExit(main())
