"""Training reads a file as ``deepfake detect`` does: the same windows, with the same logits."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pytest
from deepfake_training.own.reading import Recorder, read_views
from deepfake_training.own.views import list_views

from deepfake import DetectOptions
from deepfake.detector import Detector
from deepfake.errors import MediaError
from deepfake.media.opening import open_media
from deepfake.preprocess import Batch
from tests.analyzers.test_video import clip, drawn, room
from tests.media_files import image_bytes, scene, speech, wav_bytes

CONTENTS = {
    "image": image_bytes(scene(150, 110)),
    "audio": wav_bytes(speech(2.2)),
    "video": clip((2.5, room(120))),
}


@pytest.fixture(params=["image", "audio", "video"])
def recorder(request: pytest.FixtureRequest, known_detector: Detector) -> Iterator[Recorder]:
    """An engine that notes the logits of one slot, with their double as the only feature."""
    engine = known_detector.engine
    bundle = engine.active[request.param]

    def measure(batch: Batch) -> npt.NDArray[np.float32]:
        logits = engine.logits(bundle, batch)
        return np.stack([2 * logits, logits], axis=1)

    recorder = Recorder(known_detector.settings, engine.active, bundle, measure)
    yield recorder
    recorder.close()


def test_what_is_learnt_from_is_what_is_detected(
    recorder: Recorder, known_detector: Detector
) -> None:
    slot = recorder.watched.slot
    views = list_views(slot, seed=1)
    with open_media(CONTENTS[slot]) as media:
        found = {rows.view: rows.rows for rows in read_views(media, views, recorder)}
    assert list(found) == [view.name for view in views]
    calibration = recorder.watched.calibration
    score = calibration.probability(calibration.pool(found["clean"][:, -1]))
    report = known_detector.detect(CONTENTS[slot], DetectOptions(stability=False))
    (evidence,) = [one for one in report.evidence if one.source == slot]
    expected = evidence.details["motion_score"] if slot == "video" else evidence.score
    assert score == pytest.approx(expected, abs=1e-4)
    for name, rows in found.items():
        assert rows.shape[1] == 2
        assert rows[:, 0] == pytest.approx(2 * rows[:, 1]), name
    changed = [name for name, rows in found.items() if not np.array_equal(rows, found["clean"])]
    assert changed, "a view changes what is seen"


def test_a_file_of_another_kind_is_refused(recorder: Recorder) -> None:
    slot = recorder.watched.slot
    other = CONTENTS["audio" if slot == "image" else "image"]
    with open_media(other) as media, pytest.raises(MediaError, match="which this slot does not"):
        list(read_views(media, list_views(slot, seed=1), recorder))


@pytest.mark.parametrize("recorder", ["video"], indirect=True)
def test_a_clip_of_graphics_is_not_learnt_from(recorder: Recorder) -> None:
    with (
        open_media(clip((2.0, drawn()))) as media,
        pytest.raises(MediaError, match="looks like a graphic") as caught,
    ):
        list(read_views(media, list_views("video", seed=1), recorder))
    assert caught.value.code == "graphic_not_photo"


def test_what_is_not_judged_says_why(known_detector: Detector) -> None:
    engine = known_detector.engine
    recorder = Recorder(
        known_detector.settings, engine.active, engine.active["image"], lambda batch: batch
    )
    with open_media(image_bytes(scene(12, 12))) as media, pytest.raises(MediaError) as caught:
        list(read_views(media, list_views("image", seed=1), recorder))
    recorder.close()
    assert caught.value.code == "image_too_small"
