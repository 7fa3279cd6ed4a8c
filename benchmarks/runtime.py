"""One classifier runtime in a separate process; prints one line of JSON.

python benchmarks/runtime.py litert|onnxruntime|openvino|tensorflow STEM

Each runtime is imported where it is used, so that the process has the memory of one of them.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import psutil


def input_shape(stem: str) -> list[int]:
    "Height, width and channels of the model's input."
    return json.loads(Path(stem + ".json").read_text(encoding="utf-8"))["input"]


def litert(stem: str, threads: int):
    "LiteRT with XNNPACK."
    from face_emotion.core.classifier import LiteRTModel, ThreadBudget

    model = LiteRTModel(Path(stem + ".tflite"), ThreadBudget(threads))
    return lambda x: model(x)[0]


def onnxruntime(stem: str, threads: int):
    "ONNX Runtime on the ONNX file."
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(stem + ".onnx", options, providers=["CPUExecutionProvider"])
    return lambda x: session.run(None, {session.get_inputs()[0].name: x})[0]


def openvino(stem: str, threads: int):
    "OpenVINO on the LiteRT file, in float32."
    import openvino as ov

    core = ov.Core()
    model = core.read_model(stem + ".tflite")
    model.reshape([-1, *input_shape(stem)])
    options = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    request = core.compile_model(model, "CPU", options).create_infer_request()
    return lambda x: next(iter(request.infer({0: x}).values()))


def tensorflow(stem: str, threads: int):
    "The SavedModel's signature."
    import tensorflow as tf

    if not tf.config.threading.get_intra_op_parallelism_threads():
        tf.config.threading.set_intra_op_parallelism_threads(threads)
    signature = tf.saved_model.load(stem + "_savedmodel").signatures["serving_default"]
    return lambda x: next(iter(signature(tf.constant(x)).values())).numpy()


RUNTIMES = {f.__name__: f for f in (litert, onnxruntime, openvino, tensorflow)}


def median_ms(run, x: np.ndarray, n: int = 60) -> float:
    "Median wall milliseconds of a call."
    for _ in range(5):
        run(x)
    times = []
    for _ in range(n):
        start = time.perf_counter()
        run(x)
        times.append(time.perf_counter() - start)
    return float(np.median(times) * 1e3)


def measure(name: str, stem: str) -> dict[str, float]:
    "Milliseconds as CROPSxTHREADS, megabytes of the process, and the largest difference from LiteRT."
    rng = np.random.default_rng(0)
    crops = {n: rng.uniform(0, 255, (n, *input_shape(stem))).astype(np.float32) for n in (1, 4)}
    two = RUNTIMES[name](stem, 2)
    result = {"1x2": median_ms(two, crops[1]), "4x2": median_ms(two, crops[4])}
    result["mb"] = psutil.Process().memory_info().rss / 1e6
    result["difference"] = float(np.abs(two(crops[4]) - litert(stem, 1)(crops[4])).max())
    one_thread = name != "tensorflow"  # its number of threads is fixed once per process
    result["1x1"] = median_ms(RUNTIMES[name](stem, 1), crops[1]) if one_thread else float("nan")
    return result


if __name__ == "__main__":
    print(json.dumps(measure(*sys.argv[1:])))
