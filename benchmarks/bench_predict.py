"""Pictures a second of `predict` with one worker and with two, beside another clone that takes them one by one.

    python benchmarks/bench_predict.py [--against CLONE] [--pictures 200] [--rounds 3]

The pictures are 640x480 JPEGs with one to three faces of scikit-image's astronaut. Each result is written with its
boxes drawn, as the command does by default; the start of the program counts. With --against, the other clone's
`run_image` is called for one picture after the other in one process. It takes about two minutes.
"""

import argparse
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from clones import ROOT, environment_of, python_of
from skimage.data import astronaut

ONE_BY_ONE = """
import sys
from pathlib import Path
from face_emotion.predict import Predictor, run_image

predictor = Predictor()
for path in sorted(Path("pictures").iterdir()):
    run_image(path, sys.argv[1], predictor)
"""


def write_pictures(folder: Path, count: int) -> None:
    "Pictures with one, two, three faces, and so on; no two are the same."
    folder.mkdir()
    face = astronaut()[20:220, 130:330, ::-1]
    for i in range(count):
        faces, picture = i % 3 + 1, np.full((480, 640, 3), 60 + i % 100, np.uint8)
        side = 640 // max(faces, 2)
        for k in range(faces):
            top = 20 + 13 * ((i + k) % 11)
            picture[top : top + side, k * side : (k + 1) * side] = cv2.resize(face, (side, side))
        cv2.imwrite(str(folder / f"{i:03}.jpg"), picture)


def seconds_of(root: Path, arguments: list[str], folder: Path) -> float:
    "Wall time of a Python process of a clone that ends well."
    env, begun = environment_of(root, LOG_DIR=str(folder / "logs")), time.perf_counter()
    done = subprocess.run([python_of(root), *arguments], cwd=folder, env=env, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{root.name}: {done.stderr[-2000:]}")
    return time.perf_counter() - begun


def measure(pictures: int, against: Path | None, rounds: int) -> pd.DataFrame:
    "Medians of all rounds, in which the ways take turns."
    command = ["-m", "face_emotion.predict", "pictures", "--quiet"]
    ways = {f"{n} worker{'s' * (n > 1)}": (ROOT, [*command, "--workers", str(n)]) for n in (1, 2)}
    output = {name: ["--output", name.replace(" ", "")] for name in ways}
    if against:
        ways = {"other clone, one by one": (against.resolve(), ["-c", ONE_BY_ONE])} | ways
        output["other clone, one by one"] = ["other"]
    found = {name: [] for name in ways}
    with tempfile.TemporaryDirectory() as folder:
        write_pictures(Path(folder) / "pictures", pictures)
        for _ in range(rounds):
            for name, (root, arguments) in ways.items():
                found[name].append(seconds_of(root, [*arguments, *output[name]], Path(folder)))
    rates = {name: pictures / statistics.median(seconds) for name, seconds in found.items()}
    first = next(iter(rates.values()))
    return pd.DataFrame([{"": name, "pictures/s": rate, "ratio": rate / first} for name, rate in rates.items()])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", type=Path, metavar="CLONE", help="another clone, with an environment of its own")
    parser.add_argument("--pictures", type=int, default=200, help="how many (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="how often (default: %(default)s)")
    args = parser.parse_args()
    print(measure(args.pictures, args.against, args.rounds).to_markdown(index=False, floatfmt=".2f"))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
