"""`python -m face_emotion.protocol` prints the codes and schemas of the WebSocket. The code is in `face_emotion.serving.schema`."""

from .serving.schema import main

if __name__ == "__main__":
    raise SystemExit(main())
