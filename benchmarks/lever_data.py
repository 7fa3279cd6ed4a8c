"""Training files of the levers that need a training run: the three files of the distillation, one thing changed.

    python benchmarks/lever_data.py --public ../shared/data --out build/lever --lever both
    set -a; . recipes/lever.env; set +a
    face-emotion train --data build/lever/*.npz --weights BASE.keras --out models/lever

| lever | what changes |
|---|---|
| both | 6,000 FER+ faces come again, enlarged and tinted, with the teachers' answers: room for both conventions |
| disagreement | the teachers' share of a FER+ target is what the voters' first choice lacks to all votes |
| balanced | taught faces are drawn with replacement, classes in proportion to the root of their size |
| warped | up to 4,000 neutral taught faces again, with expressions of FER+ (warping.py), where two views agree |
"""

import argparse
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from warping import agreed, transferred

from face_emotion.data.dataset import FaceData
from face_emotion.data.distill import prepare, voted_faces, write_npz
from face_emotion.data.sources import from_npz

LEVERS = ("both", "disagreement", "balanced", "warped")
AGAIN = 6000  # FER+ faces that come a second time
SIDE = 128  # of them, in pixels
WARPED = 4000  # taught faces at most; those that two views don't agree on are dropped


def tinted(
    image: np.ndarray,  # (48, 48, 3) uint8, grey
    rng: np.random.Generator,
) -> bytes:  # JPEG
    "A grey face enlarged, in the colours that skin may have in the light of a lamp or of the sky."
    large = cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC).astype(np.float32) / 255
    red, blue = rng.uniform(1.02, 1.3), rng.uniform(0.6, 0.95)
    coloured = large ** np.array([1 / red, 1, 1 / blue], np.float32)
    coloured = np.clip(255 * coloured, 0, 255).astype(np.uint8)
    return cv2.imencode(".jpg", coloured[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()


def both(ferplus: Path, teachers: dict[str, np.ndarray], seed: int) -> dict[str, FaceData]:
    "FER+ training faces that the teachers answer: those on which they differ most from the votes, and as many others."
    rng = np.random.default_rng(seed)
    votes, answers = (voted_faces(ferplus, teachers, share)["train"] for share in (0.0, 1.0))
    differ = np.abs(votes.targets - answers.targets).sum(1)
    first = np.argsort(-differ)[: AGAIN // 2]
    others = rng.choice(np.setdiff1d(np.arange(len(votes)), first), AGAIN - len(first), replace=False)
    chosen = answers.take(np.sort(np.concatenate([first, others])))
    images = [tinted(chosen.image(i), rng) for i in range(len(chosen))]
    return {"train": replace(chosen, images=images)}


def disagreement(ferplus: Path, teachers: dict[str, np.ndarray], seed: int) -> dict[str, FaceData]:
    "FER+'s faces; the less its voters agree on one, the more of its target is the teachers'."
    parts = voted_faces(ferplus, teachers)
    votes, answers = parts["train"], voted_faces(ferplus, teachers, 1.0)["train"]
    share = 1 - votes.targets.max(1, keepdims=True)
    return {**parts, "train": replace(votes, targets=(1 - share) * votes.targets + share * answers.targets)}


def balanced(parts: dict[str, FaceData], seed: int) -> dict[str, FaceData]:
    "As many training faces, drawn so that a class has a share in proportion to the root of its size."
    train = parts["train"]
    labels = train.labels
    chance = 1 / np.sqrt(np.bincount(labels, minlength=len(train.class_names)))[labels]
    rows = np.random.default_rng(seed).choice(len(train), len(train), p=chance / chance.sum())
    return {**parts, "train": train.take(np.sort(rows))}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--public", type=Path, required=True, help="folder of the public data")
    parser.add_argument("--out", type=Path, required=True, help="folder for the files")
    parser.add_argument("--lever", choices=LEVERS, required=True, help="what changes")
    parser.add_argument("--seed", type=int, default=0, help="of what is drawn (default: 0)")
    args = parser.parse_args()
    files, ferplus = prepare(args.public, args.out), args.public / "fer2013plus.npz"
    with np.load(args.public / "teachers.npz") as z:
        teachers = {key: z[key] for key in z.files}
    if args.lever == "both":
        files["again.npz"] = both(ferplus, teachers, args.seed)
        write_npz(args.out / "again.npz", files["again.npz"])
    elif args.lever == "disagreement":
        files["ferplus.npz"] = disagreement(ferplus, teachers, args.seed)
        write_npz(args.out / "ferplus.npz", files["ferplus.npz"])
    elif args.lever == "warped":
        faces = from_npz(ferplus)["train"], files["taught.npz"]["train"]
        files["warped.npz"] = {"train": agreed(transferred(*faces, WARPED, args.seed))}
        write_npz(args.out / "warped.npz", files["warped.npz"])
    else:
        for name in ("taught.npz", "muxspace.npz"):
            files[name] = balanced(files[name], args.seed)
            write_npz(args.out / name, files[name])
    for name, parts in files.items():
        print(f"{args.out / name}: " + ", ".join(f"{split} {len(d):,}" for split, d in parts.items()))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
