"""`python -m face_emotion.doctor` says what will work on this machine. The code is in `face_emotion.serving.doctor`."""

from .serving.doctor import main

if __name__ == "__main__":
    raise SystemExit(main())
