"""Facial emotion recognition, from AIHub photographs to a real-time server."""

__version__ = "0.1.0"


def __getattr__(name: str):
    "`Predictor`, imported when it is first asked for: `import face_emotion` alone loads nothing."
    if name == "Predictor":
        from .core.predictor import Predictor

        return Predictor
    raise AttributeError(f"module 'face_emotion' has no attribute {name!r}")
