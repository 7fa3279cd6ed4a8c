"""The picture of who imports whom, nbs/images/module_map.svg, from the modules' imports. `--check` fails when it is out of date."""

import argparse
import html
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from check_imports import ROOT, graph, modules, problems

PICTURE = ROOT / "nbs" / "images" / "module_map.svg"
BOX, GAP, MARGIN = (128, 30), (22, 48), 16
GROUPS = {
    "0": "#3876d6",
    "07": "#e28b19",
    "08": "#e28b19",
    "09": "#e28b19",
    "1": "#9254c8",
    **dict.fromkeys(("03a", "03b", "03c", "04", "05", "06"), "#2ea043"),
}


def levels(
    edges: dict[str, set[str]],  # module -> modules it imports
) -> dict[str, int]:  # module -> 0 for those that import none, else one more than the highest they import
    "How high each module stands."
    out: dict[str, int] = {}
    for module in edges:
        out[module] = 1 + max((out.get(m, 0) for m in edges[module]), default=-1)
    return out


def reduced(edges: dict[str, set[str]]) -> dict[str, set[str]]:
    "Without the imports that follow from others: they only clutter the picture."

    def below(m: str) -> set[str]:
        return set().union(*({x} | below(x) for x in edges.get(m, ())), set())

    return {m: {x for x in xs if not any(x in below(y) for y in xs - {x})} for m, xs in edges.items()}


def untangled(
    rows: list[list[str]],  # of modules, the lowest first
    edges: dict[str, set[str]],  # module -> modules it imports
) -> list[list[str]]:
    "The rows, each sorted by where its neighbours stand, upwards and downwards a few times, so that fewer arrows cross."
    near = {m: edges[m] | {x for x in edges if m in edges[x]} for m in edges}
    place = {m: k - len(row) / 2 for row in rows for k, m in enumerate(row)}
    for i in [*range(len(rows)), *reversed(range(len(rows)))] * 4:
        rows[i] = sorted(rows[i], key=lambda m: (sum(place[x] for x in near[m]) / max(1, len(near[m])), m))
        place.update({m: k - len(rows[i]) / 2 for k, m in enumerate(rows[i])})
    return rows


def picture() -> str:  # SVG
    "Boxes in rows, the foundations at the bottom, an arrow from each module to what it builds on."
    edges, order = graph(), modules()
    level = levels(edges)
    rows = untangled([[m for m in edges if level[m] == i] for i in range(max(level.values()) + 1)], reduced(edges))
    width = max(len(r) for r in rows) * (BOX[0] + GAP[0]) - GAP[0] + 2 * MARGIN
    height = len(rows) * (BOX[1] + GAP[1]) - GAP[1] + 2 * MARGIN
    place = {}
    for i, row in enumerate(rows):
        left = (width - len(row) * (BOX[0] + GAP[0]) + GAP[0]) / 2
        for k, m in enumerate(row):
            place[m] = (left + k * (BOX[0] + GAP[0]), height - MARGIN - BOX[1] - i * (BOX[1] + GAP[1]))
    lines = [_arrow(place[m], place[x]) for m, xs in reduced(edges).items() for x in sorted(xs)]
    boxes = [_box(m, order[m], place[m]) for m in edges]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}" font-family="system-ui, sans-serif" font-size="13">',
            '<rect width="100%" height="100%" fill="white"/>',
            '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
            '<path d="M0 0L8 4L0 8z" fill="#9aa0a8"/></marker></defs>',
            *lines,
            *boxes,
            "</svg>",
            "",
        ]
    )


def _arrow(top: tuple[float, float], bottom: tuple[float, float]) -> str:
    (x0, y0), (x1, y1) = (top[0] + BOX[0] / 2, top[1] + BOX[1]), (bottom[0] + BOX[0] / 2, bottom[1])
    bend = (y1 - y0) / 2
    return f'<path d="M{x0:g} {y0:g}C{x0:g} {y0 + bend:g} {x1:g} {y1 - bend:g} {x1:g} {y1:g}" fill="none" stroke="#9aa0a8" marker-end="url(#tip)"/>'


def _box(module: str, notebook: str, place: tuple[float, float]) -> str:
    number = notebook.split("_")[0]
    color = next(GROUPS[number[:n]] for n in (3, 2, 1) if number[:n] in GROUPS)
    return (
        f'<rect x="{place[0]:g}" y="{place[1]:g}" width="{BOX[0]}" height="{BOX[1]}" rx="6" fill="{color}"/>'
        f'<text x="{place[0] + BOX[0] / 2:g}" y="{place[1] + 20:g}" text-anchor="middle" fill="white">{html.escape(f"{number} {module}")}</text>'
    )


def _complain(lines: list[str]) -> int:
    print(*lines, sep="\n", file=sys.stderr)
    return 1


def main(argv: list[str] | None = None) -> int:
    "Draw the map, or check that it is up to date."
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, fail when the picture is out of date")
    args = parser.parse_args(argv)
    if args.check and problems():
        return _complain(problems())
    fresh = PICTURE.exists() and PICTURE.read_text(encoding="utf-8") == picture()
    if args.check and not fresh:
        print(f"{PICTURE.relative_to(ROOT)} is out of date. Run: python scripts/module_map.py", file=sys.stderr)
    if args.check:
        return 0 if fresh else 1
    PICTURE.write_text(picture(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
