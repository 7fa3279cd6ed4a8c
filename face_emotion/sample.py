"""`python -m face_emotion.sample` makes sample data in AIHub's form. The code is in `face_emotion.data.sample`."""

from .data.sample import main

if __name__ == "__main__":
    raise SystemExit(main())
