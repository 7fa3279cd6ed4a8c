"""The Python client of the server. The code is in `face_emotion.serving.client`."""

from .serving.client import EmotionClient, ServerError

__all__ = ["EmotionClient", "ServerError"]
