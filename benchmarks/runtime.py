"""One classifier runtime in a separate process; prints one line of JSON.

python benchmarks/runtime.py litert|onnxruntime|openvino|tensorflow STEM
"""

import json
import sys
import time

import numpy as np
import psutil

name, stem = sys.argv[1:]
rng = np.random.default_rng(0)
size = json.loads(open(stem + ".json").read())["input"]
crops = {n: rng.uniform(0, 255, (n, *size)).astype(np.float32) for n in (1, 4)}


def litert(threads: int):
    "LiteRT with XNNPACK."
    from pathlib import Path

    from face_emotion.core.classifier import LiteRTModel, ThreadBudget

    model = LiteRTModel(Path(stem + ".tflite"), ThreadBudget(threads))
    return lambda x: model(x)[0]


def onnxruntime(threads: int):
    "ONNX Runtime on the ONNX file."
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(stem + ".onnx", options, providers=["CPUExecutionProvider"])
    return lambda x: session.run(None, {session.get_inputs()[0].name: x})[0]


def openvino(threads: int):
    "OpenVINO on the LiteRT file, in float32."
    import openvino as ov

    core = ov.Core()
    model = core.read_model(stem + ".tflite")
    model.reshape([-1, *size])
    request = core.compile_model(
        model, "CPU", {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    ).create_infer_request()
    return lambda x: next(iter(request.infer({0: x}).values()))


def tensorflow(threads: int):
    "The SavedModel's signature."
    import tensorflow as tf

    if not tf.config.threading.get_intra_op_parallelism_threads():
        tf.config.threading.set_intra_op_parallelism_threads(threads)
    signature = tf.saved_model.load(stem + "_savedmodel").signatures["serving_default"]
    return lambda x: next(iter(signature(tf.constant(x)).values())).numpy()


def median_ms(run, x: np.ndarray, n: int = 60) -> float:
    "Median wall milliseconds."
    for _ in range(5):
        run(x)
    times = []
    for _ in range(n):
        start = time.perf_counter()
        run(x)
        times.append(time.perf_counter() - start)
    return float(np.median(times) * 1e3)


two = globals()[name](2)
result = {
    "1x2": median_ms(two, crops[1]),
    "4x2": median_ms(two, crops[4]),
    "mb": psutil.Process().memory_info().rss / 1e6,
}
expected = litert(1)(crops[4])
result["difference"] = float(np.abs(two(crops[4]) - expected).max())
result["1x1"] = median_ms(globals()[name](1), crops[1]) if name != "tensorflow" else float("nan")
print(json.dumps(result))
