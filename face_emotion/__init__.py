"""Facial emotion recognition, from AIHub photographs to a real-time server."""

from .core.package import install_finder, quiet_tensorflow

__version__ = "0.1.0"

install_finder()
quiet_tensorflow()

_HOMES = {
    "Predictor": ("predictor", "Predictor"),
    "Result": ("results", "Result"),
    "Face": ("results", "FacePrediction"),
    "draw": ("results", "draw"),
}


def __getattr__(name: str):
    "`Predictor`, `Result`, `Face` and `draw`, imported when first asked for: `import face_emotion` loads nothing."
    if name not in _HOMES:
        raise AttributeError(f"module 'face_emotion' has no attribute {name!r}")
    from importlib import import_module

    room, attribute = _HOMES[name]
    return getattr(import_module(f".core.{room}", __name__), attribute)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
