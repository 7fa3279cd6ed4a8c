"""A conventional emotion server, for comparison only.

JSON frames, MediaPipe Face Mesh on every frame, a Keras SavedModel, and all the work on the event loop.

python benchmarks/reference_server.py --savedmodel DIR --port 8200
"""

import argparse
import base64
import json
from pathlib import Path

import cv2
import numpy as np
import tensorflow as tf
import uvicorn
from fastapi import FastAPI, WebSocket, WebSocketDisconnect

try:
    import mediapipe as mp
except ImportError:
    raise SystemExit("The reference server needs mediapipe 0.10.21: Python 3.10 to 3.12, make install.") from None


class Recogniser:
    "Face Mesh and the model, shared by all connections."

    def __init__(self, savedmodel: Path):
        stem = savedmodel.name.removesuffix("_savedmodel")
        metadata = json.loads(savedmodel.with_name(stem + ".json").read_text())
        self.names, self.framing, self.size = metadata["class_names"], metadata["framing"], metadata["input"][:2]
        self.predict = tf.saved_model.load(str(savedmodel)).signatures["serving_default"]
        self.mesh = mp.solutions.face_mesh.FaceMesh(static_image_mode=False, max_num_faces=5)

    def __call__(self, rgb: np.ndarray) -> list[dict]:  # rgb: (h, w, 3) uint8
        "All faces with their emotions, in the form of the JSON API."
        return [self.emotion(rgb, box) for box in self.boxes(rgb)]

    def boxes(self, rgb: np.ndarray) -> list[np.ndarray]:  # each (4,) float pixels: x0 y0 x1 y1
        h, w = rgb.shape[:2]
        found = self.mesh.process(rgb).multi_face_landmarks or []
        points = [np.array([(p.x * w, p.y * h) for p in face.landmark]) for face in found]
        return [np.concatenate([p.min(0), p.max(0)]) for p in points]

    def crop(self, rgb: np.ndarray, box: np.ndarray) -> np.ndarray:  # (size, size, 3) float32
        side = self.framing["side"] * max(box[2] - box[0], box[3] - box[1])
        x, y = (box[0] + box[2] - side) / 2, (box[1] + box[3] - side) / 2 + self.framing["shift_y"] * side
        x0, y0 = max(0, int(x)), max(0, int(y))
        x1, y1 = min(rgb.shape[1], int(x + side)), min(rgb.shape[0], int(y + side))
        return cv2.resize(rgb[y0:y1, x0:x1], self.size).astype(np.float32)

    def emotion(self, rgb: np.ndarray, box: np.ndarray) -> dict:
        p = next(iter(self.predict(tf.constant(self.crop(rgb, box)[None])).values())).numpy()[0]
        x0, y0, x1, y1 = (int(v) for v in box)
        return {
            "bbox": [x0, y0, x1 - x0, y1 - y0],
            "emotion": self.names[int(p.argmax())],
            "confidence": float(p.max()),
            "probabilities": dict(zip(self.names, map(float, p))),
        }


def create_app(savedmodel: Path) -> FastAPI:
    "The server."
    recognise, app = Recogniser(savedmodel), FastAPI()

    @app.get("/readyz")
    async def readyz() -> dict:
        return {"status": "ready"}

    @app.websocket("/ws/emotion")
    async def answer(socket: WebSocket) -> None:
        await socket.accept()
        try:
            while True:
                data = base64.b64decode(json.loads(await socket.receive_text())["image"])
                rgb = cv2.cvtColor(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
                await socket.send_text(json.dumps({"results": recognise(rgb)}))
        except WebSocketDisconnect:
            pass

    return app


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--savedmodel", type=Path, required=True)
    parser.add_argument("--port", type=int, default=8200)
    args = parser.parse_args()
    uvicorn.run(create_app(args.savedmodel), host="127.0.0.1", port=args.port, log_level="warning")
