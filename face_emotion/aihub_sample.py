"""The name of `face_emotion.sample` in version 0.1.0."""

from .data.sample import main

if __name__ == "__main__":
    raise SystemExit(main())
