"""`python -m face_emotion.robustness` measures a model on changed pictures. The code is in `face_emotion.learning.robustness`."""

from .learning.robustness import main

if __name__ == "__main__":
    raise SystemExit(main())
