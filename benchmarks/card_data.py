"""The faces behind the rows of the model card, as files for `face-emotion evaluate`.

    python benchmarks/card_data.py --out build/card
    face-emotion evaluate --data build/card/held_out.npz --out reports/held_out
    face-emotion evaluate --data muxspace.npz --rows build/card/half_b.csv --out reports/half_b

Writes held_out.npz (the 1,416 taught faces that no training used, with the teachers' probabilities), and half_a.csv and
half_b.csv (the muxspace photographs outside training and without near copies of training photographs, in two halves).
You need taught.npz, muxspace.npz and teachers.npz (docs/data.md says how to get them). It takes half a minute.
"""

import argparse
import hashlib
import sys
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from face_emotion.core.config import load_settings
from face_emotion.data.dataset import FaceData
from face_emotion.data.distill import muxspace_faces
from face_emotion.data.sources import from_npz

FILES = ("taught.npz", "muxspace.npz", "teachers.npz")
SAME = 0.97  # correlation of two pictures, grey and 16x16, from which they count as copies


def load_arrays(path: Path) -> dict[str, np.ndarray]:
    "All arrays of an NPZ file."
    with np.load(path) as file:
        return {key: file[key] for key in file.files}


def held_out(folder: Path) -> list[FaceData]:
    "The taught faces that no training used: of `taught.npz`, then of muxspace."
    teachers = load_arrays(folder / "teachers.npz")
    taught = from_npz(folder / "taught.npz")["validation"]
    return [taught, muxspace_faces(folder / "muxspace.npz", teachers)["validation"]]


def save_held_out(parts: list[FaceData], path: Path) -> int:  # how many faces
    "Write faces without a split, so that `evaluate` keeps the model's own temperature."
    images = [image for data in parts for image in data.images]
    np.savez(
        path,
        jpeg=np.frombuffer(b"".join(images), np.uint8),
        offset=np.cumsum([0, *map(len, images)]),
        targets=np.concatenate([data.targets for data in parts]).astype(np.float32),
        class_names=np.array(parts[0].class_names),
        name=np.array([name for data in parts for name in data.names]),
        framing=parts[0].framing.model_dump_json(),
    )
    return len(images)


def signatures(
    data: FaceData,  # JPEG bytes
) -> np.ndarray:  # (n, 256) float32, mean 0 and length 1
    "Grey pictures of 16x16 pixels; their products are correlations."
    grey = [cv2.imdecode(np.frombuffer(image, np.uint8), cv2.IMREAD_GRAYSCALE) for image in data.images]
    small = np.stack([cv2.resize(g, (16, 16), interpolation=cv2.INTER_AREA).ravel() for g in grey]).astype(np.float32)
    small -= small.mean(1, keepdims=True)
    return small / np.maximum(np.linalg.norm(small, axis=1, keepdims=True), 1e-6)


def halves(folder: Path) -> dict[str, list[str]]:  # names by half
    "The muxspace photographs outside training: half A helped to choose the bundled model, half B only reports."
    teachers, data = load_arrays(folder / "teachers.npz"), from_npz(folder / "muxspace.npz")["all"]
    trained = teachers["muxspace_rows"][~teachers["muxspace_held_out"]]
    found = signatures(data)
    rest = np.setdiff1d(np.arange(len(data)), teachers["muxspace_rows"])
    rest = rest[(found[rest] @ found[trained].T).max(1) <= SAME]
    even = np.array([hashlib.md5(data.names[i].encode()).digest()[0] % 2 == 0 for i in rest])
    return {"half_a": [data.names[i] for i in rest[even]], "half_b": [data.names[i] for i in rest[~even]]}


def main(argv: list[str] | None = None) -> int:
    "Write the three files."
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help=f"folder with {', '.join(FILES)} (default: PUBLIC_DATA_DIR)")
    parser.add_argument("--out", type=Path, default=Path("build/card"), help="folder of the three files")
    args = parser.parse_args(argv)
    folder = args.data or load_settings().public_data_folder
    if lacking := [n for n in FILES if not (folder / n).is_file()]:
        print(
            f"{folder} has no {', '.join(lacking)}. docs/data.md says how to get them; or give --data", file=sys.stderr
        )
        return 1

    args.out.mkdir(parents=True, exist_ok=True)
    n = save_held_out(held_out(folder), args.out / "held_out.npz")
    print(f"{args.out}/held_out.npz: {n:,} faces")
    for half, names in halves(folder).items():
        pd.Series(names, name="name").to_csv(args.out / f"{half}.csv", index=False)
        print(f"{args.out}/{half}.csv: {len(names):,} names")
    return 0


if __name__ == "__main__":
    sys.exit(main())
