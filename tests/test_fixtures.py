"""Real photographs and clips that are not part of the repository; skipped where the folder is not there."""

from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from face_emotion.core.image import load_image
from face_emotion.core.predictor import Predictor

FIXTURES = Path(__file__).resolve().parents[2] / "shared" / "fixtures"
pytestmark = pytest.mark.skipif(not FIXTURES.is_dir(), reason="the photographs of ../shared/fixtures are not here")

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
    if name in EMOTIONS:
        assert faces[0].emotion == EMOTIONS[name] and (faces[0].confidence > 0.6 or EMOTIONS[name] == "neutral")


def test_small_faces_are_found_in_part(predictor):
    "Faces of 20 pixels in a frame of 480: two of four, and nothing that is no face."
    assert 1 <= len(predictor(FIXTURES / "multi_4_small.jpg")) <= 4


@pytest.mark.parametrize("name", CLIPS)
def test_ids_of_a_clip_stay(predictor, name):
    capture, stream, ids, left_to_right = cv2.VideoCapture(str(FIXTURES / name)), predictor.stream(), Counter(), []
    fps, frames = capture.get(cv2.CAP_PROP_FPS), 0
    while (read := capture.read())[0]:
        faces = stream(np.ascontiguousarray(read[1][..., ::-1]), frames / fps)
        ids.update(f.face_id for f in faces)
        left_to_right.append(tuple(f.face_id for f in faces))
        frames += 1
    assert sorted(ids) == list(range(1, CLIPS[name] + 1)), "every person has one id, and no id is anybody else's"
    assert min(ids.values()) >= 0.9 * frames
    assert len({order for order in left_to_right if len(order) == CLIPS[name]}) == 1, (
        "nobody changes places in these clips"
    )


def test_every_size_from_16_pixels_to_50_megapixels(predictor):
    image = load_image(FIXTURES / "single_smiling_m.jpg")
    large = cv2.resize(image, (7070, 7070), interpolation=cv2.INTER_LINEAR)
    [face] = predictor(large)
    assert face.emotion == "happy"
    predictor(cv2.resize(image, (16, 16)))
