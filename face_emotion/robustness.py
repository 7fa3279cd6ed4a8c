"""`python -m face_emotion.robustness`: a model on changed pictures. Code: `face_emotion.learning.robustness`."""

from .learning.robustness import main

if __name__ == "__main__":
    raise SystemExit(main())
