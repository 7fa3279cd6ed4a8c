"""Faces, emotions and ids on real photographs and clips, which are not part of the repository."""

from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from face_emotion.core.image import load_image
from face_emotion.core.predictor import Predictor

FIXTURES = Path(__file__).resolve().parents[2] / "shared" / "fixtures"
pytestmark = pytest.mark.skipif(not FIXTURES.is_dir(), reason="needs the photographs of ../shared/fixtures")

FACES = {
    "multi_2_obama_biden.jpg": 2,
    "multi_2_tilted.jpg": 2,
    "multi_3_frontal.jpg": 3,
    "multi_5_office.jpg": 5,
    "multi_9_collage.jpg": 9,
    "no_face_room.jpg": 0,
    "single_astronaut.png": 1,
    "single_celebrity_ccby.jpg": 1,
    "single_glasses_cc0.png": 1,
    "single_grace_hopper.jpg": 1,
    "single_neutral_cc0.png": 1,
    "single_neutral_m.jpg": 1,
    "single_obama.jpg": 1,
    "single_offcentre.jpg": 1,
    "single_partial.jpg": 1,
    "single_profile.jpg": 1,
    "single_sad_baby.jpg": 1,
    "single_slight_smile_eastasian_m.jpg": 1,
    "single_smiling_eastasian_m.jpg": 1,
    "single_smiling_f.jpg": 1,
    "single_smiling_m.jpg": 1,
    "single_surprised.jpg": 1,
    "single_tilted_dim.jpg": 1,
}
EMOTIONS = {
    **dict.fromkeys(
        [
            "single_astronaut.png",
            "single_celebrity_ccby.jpg",
            "single_glasses_cc0.png",
            "single_obama.jpg",
            "single_partial.jpg",
            "single_smiling_eastasian_m.jpg",
            "single_smiling_f.jpg",
            "single_smiling_m.jpg",
        ],
        "happy",
    ),
    "single_sad_baby.jpg": "sad",
    "single_neutral_cc0.png": "neutral",
    "single_neutral_m.jpg": "neutral",
}
CLIPS = {
    "video_1_face_asl.mkv": 1,
    "video_1_face_neutral_to_smile.mp4": 1,
    "video_2_faces_headpose.mp4": 2,
    "video_3_faces_walking.mp4": 3,
}


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor()


@pytest.mark.parametrize("name", FACES)
def test_faces_of_a_photograph(predictor, name):
    faces = predictor(FIXTURES / name)
    assert len(faces) == FACES[name]
    assert [f.box[0] for f in faces] == sorted(f.box[0] for f in faces)


@pytest.mark.parametrize("name", EMOTIONS)
def test_emotion_of_a_photograph(predictor, name):
    [face] = predictor(FIXTURES / name)
    assert face.emotion == EMOTIONS[name]
    assert face.confidence > 0.6 or face.emotion == "neutral"


def test_some_very_small_faces_are_found(predictor):
    "Four faces of 20 pixels in a frame of 480: at least one is found, and nothing that is not a face."
    assert 1 <= len(predictor(FIXTURES / "multi_4_small.jpg")) <= 4


def ids_per_frame(predictor: Predictor, path: Path) -> list[tuple[int, ...]]:
    "The ids of the faces in each frame of a clip, left to right."
    capture, stream, found = cv2.VideoCapture(str(path)), predictor.stream(), []
    fps = capture.get(cv2.CAP_PROP_FPS)
    while (read := capture.read())[0]:
        frame = np.ascontiguousarray(read[1][..., ::-1])
        found.append(tuple(f.face_id for f in stream(frame, len(found) / fps)))
    return found


@pytest.mark.parametrize("name", CLIPS)
def test_ids_of_a_clip_stay(predictor, name):
    frames = ids_per_frame(predictor, FIXTURES / name)
    seen = Counter(face_id for ids in frames for face_id in ids)
    assert sorted(seen) == list(range(1, CLIPS[name] + 1)), "each person has one id"
    assert min(seen.values()) >= 0.9 * len(frames)
    complete = {ids for ids in frames if len(ids) == CLIPS[name]}
    assert len(complete) == 1, "nobody changes places in these clips"


def test_a_picture_of_50_megapixels(predictor):
    image = load_image(FIXTURES / "single_smiling_m.jpg")
    [face] = predictor(cv2.resize(image, (7070, 7070), interpolation=cv2.INTER_LINEAR))
    assert face.emotion == "happy"


def test_a_picture_of_16_pixels(predictor):
    image = load_image(FIXTURES / "single_smiling_m.jpg")
    assert predictor(cv2.resize(image, (16, 16))) == []
