"""Expressions of FER+ transferred onto other faces: the points of Face Mesh move, and the picture is warped after them.

The faces are near frontal. A displacement is the mean of a few faces of one class, less the mean neutral face, so that
it holds little of whose faces they are.
"""

from dataclasses import replace

import cv2
import numpy as np
from scipy.interpolate import LinearNDInterpolator

from face_emotion.core.artefact import Artefact
from face_emotion.core.detector import FaceMesh, Region
from face_emotion.data.dataset import FaceData, reframe
from face_emotion.learning.export import load_artefact
from face_emotion.learning.metrics import predict_views

MEAN_OF = 8  # faces whose displacement is averaged
CLEAR = 0.7  # share of the votes, or of the teachers, from which a face is clear
FRONTAL = 0.15  # how far the nose may be from the middle between the eyes, in distances between them
AGREED = 0.8  # overlap of the answers to both views from which a picture is kept
SIDE = 192  # of the picture that Face Mesh sees, in pixels
LEFT_EYE, RIGHT_EYE, NOSE = 33, 263, 1  # landmarks


def landmarks(
    image: np.ndarray,  # (s, s, 3) uint8 RGB, a face crop
    mesh: FaceMesh,
) -> np.ndarray | None:  # (468, 2) float32 pixels; None: no upright frontal face
    "The points of the face that fills a crop, found in two passes."
    large = cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
    points, _ = mesh(large, Region(SIDE / 2, SIDE / 2, 1.25 * SIDE, 0.0))
    points, score = mesh(large, Region.around(points[:, :2], 0.0))
    xy = points[:, :2]
    eyes = xy[RIGHT_EYE] - xy[LEFT_EYE]
    off = abs(xy[NOSE, 0] - (xy[LEFT_EYE, 0] + xy[RIGHT_EYE, 0]) / 2) / max(eyes[0], 1)
    if score < 0.9 or off > FRONTAL or eyes[0] < SIDE / 4 or abs(eyes[1]) > 0.3 * eyes[0]:
        return None
    return xy * (image.shape[0] / SIDE)


def normalised(
    xy: np.ndarray,  # (468, 2) pixels
) -> tuple[np.ndarray, np.ndarray]:  # (468, 2) in distances between the eyes; (2, 2) that turns them back into pixels
    "Points whose outer eye corners lie at -0.5 and 0.5."
    across = xy[RIGHT_EYE] - xy[LEFT_EYE]
    turn = np.array([[across[0], across[1]], [-across[1], across[0]]])
    return (xy - (xy[LEFT_EYE] + xy[RIGHT_EYE]) / 2) @ np.linalg.inv(turn), turn


def clear_shapes(
    data: FaceData,  # faces with votes
    mesh: FaceMesh,
    rng: np.random.Generator,
    most: int = 200,  # faces a class
) -> dict[str, np.ndarray]:  # by class: (k, 468, 2)
    "Normalised points of faces whose class is clear."
    found = {}
    for c, name in enumerate(data.class_names):
        rows = rng.permutation(np.flatnonzero(data.targets[:, c] >= CLEAR))[: 2 * most]
        points = (landmarks(data.image(i), mesh) for i in rows)
        found[name] = np.stack([normalised(p)[0] for p in points if p is not None][:most])
    return found


def displacement(
    shapes: dict[str, np.ndarray],  # from `clear_shapes`
    name: str,  # of the class
    rng: np.random.Generator,
) -> np.ndarray:  # (468, 2) in distances between the eyes, which stay where they are
    "How the points of a neutral face move towards a class: a few faces of it, and by how much is drawn."
    some = shapes[name][rng.choice(len(shapes[name]), MEAN_OF, replace=False)].mean(0)
    moved = rng.uniform(0.8, 1.6) * (some - shapes["neutral"].mean(0))
    return moved - moved[[LEFT_EYE, RIGHT_EYE]].mean(0)


def warp(
    image: np.ndarray,  # (s, s, 3) uint8
    before: np.ndarray,  # (468, 2) pixels
    after: np.ndarray,  # (468, 2) pixels
) -> np.ndarray:  # (s, s, 3) uint8
    "The picture with its points moved, linear between them; its border stays."
    s = image.shape[0]
    edge = np.linspace(0, s - 1, 9)
    border = [(x, y) for x in edge for y in edge if x in (0, s - 1) or y in (0, s - 1)]
    inside = ((after > 1) & (after < s - 2) & (before > 1) & (before < s - 2)).all(1)
    to, source = (np.concatenate([p[inside], border]) for p in (after, before))
    y, x = np.mgrid[:s, :s]
    at = LinearNDInterpolator(to, source)(np.stack([x, y], -1).reshape(-1, 2)).reshape(s, s, 2).astype(np.float32)
    return cv2.remap(image, at[..., 0], at[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def transferred(
    ferplus: FaceData,  # faces with votes, whose expressions are taken
    taught: FaceData,  # faces that get them, JPEG bytes
    n: int,  # how many pictures are made
    seed: int,
) -> FaceData:  # JPEG bytes, in the framing of `taught`
    "Neutral taught faces with the expressions of others; the targets are still those of the faces before."
    rng, mesh = np.random.default_rng(seed), FaceMesh()
    shapes = clear_shapes(ferplus, mesh, rng)
    neutral = taught.class_names.index("neutral")
    rows, images = [], []
    for i in rng.permutation(np.flatnonzero(taught.targets[:, neutral] >= CLEAR)):
        if len(rows) == n:
            break
        image = taught.image(i)
        if (before := landmarks(image, mesh)) is None:
            continue
        name = rng.choice([c for c in taught.class_names if c != "neutral"])
        picture = warp(image, before, before + displacement(shapes, name, rng) @ normalised(before)[1])
        rows.append(i)
        images.append(cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])[1].tobytes())
    return replace(taught.take(np.array(rows)), images=images)


def agreed(
    data: FaceData,  # pictures
) -> FaceData:  # those that both views agree on
    "Pictures with the mean answer of the bundled model to both views, where the two answers agree."
    model = load_artefact("bundled", kind=".tflite")
    one, both = predict_views(model, reframe(data, Artefact("bundled").metadata.framing))
    other = 2 * both - one
    same = (one.argmax(1) == other.argmax(1)) & (np.minimum(one, other).sum(1) >= AGREED)
    return replace(data, targets=both.astype(np.float32)).take(same)
