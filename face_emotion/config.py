"""`python -m face_emotion.config` prints the settings. The code is in `face_emotion.core.settings_list`."""

from .core.settings_list import main

if __name__ == "__main__":
    raise SystemExit(main())
