"""`python -m face_emotion.protocol`: codes and schemas of the WebSocket. Code: `face_emotion.serving.schema`."""

from .serving.schema import main

if __name__ == "__main__":
    raise SystemExit(main())
