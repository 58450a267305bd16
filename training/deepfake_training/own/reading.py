"""Files to features, by the very path that the detector takes with them.

The analyzer of the slot reads each file, decides which crops, windows or bursts to judge, and asks
an engine; that engine notes what the network sees last. So training cannot read a file otherwise
than ``deepfake detect`` will.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import replace
from math import log, nan
from typing import NamedTuple

import numpy as np

from deepfake.analyzers.audio import Audio
from deepfake.analyzers.claims import skip
from deepfake.analyzers.image import Image
from deepfake.analyzers.video import FACE_SHARE, Video
from deepfake.bundle import Bundle
from deepfake.content.faces import open_finder
from deepfake.content.footage import Footage, view
from deepfake.engine.engine import Engine
from deepfake.engine.scores import Scored
from deepfake.errors import MediaError
from deepfake.media.opening import Media, open_media
from deepfake.preprocess import AudioPreprocess, Batch, Floats
from deepfake.reasons import Code, find_code
from deepfake.settings import DetectOptions, Settings
from deepfake.types import Evidence, Status

from .views import MOST_FRAMES, View

MOST_SECONDS = 60.0
"""Of a recording that is listened to."""
MOST_JUDGED_FRAMES = 480
_KINDS = {"image": Image.kinds, "audio": Audio.kinds, "video": Video.kinds}
_OPTIONS = DetectOptions(stability=False, effort="quick", max_audio_seconds=MOST_SECONDS)


class Rows(NamedTuple):
    """One file in one view: ``rows`` (windows, features + 1), and for a clip the log-odds of its
    single frames, which the ``frame`` slot gives.
    """

    view: str
    rows: Floats
    frames: float


class Recorder(Engine):
    """An engine that keeps what it was asked of one bundle; one file at a time."""

    def __init__(
        self,
        settings: Settings,
        active: Mapping[str, Bundle],
        bundle: Bundle,
        measure: Callable[[Batch], Floats],
    ) -> None:
        super().__init__(settings, active=active)
        self.watched, self._measure = bundle, measure
        self.seen: list[tuple[Scored, Floats]] = []

    def submit(self, bundle: Bundle, batch: Batch) -> Future[Scored]:
        if bundle.slot != self.watched.slot:
            return super().submit(bundle, batch)
        rows = self._measure(batch)
        scored = Scored.read(rows[:, -1], bundle.calibration)
        self.seen.append((scored, rows))
        answer: Future[Scored] = Future()
        answer.set_result(scored)
        return answer


def read_views(media: Media, views: Sequence[View], recorder: Recorder) -> Iterator[Rows]:
    """The rows of an open file in every view that can be judged.

    Raises ``MediaError`` for a file that cannot be read, or judged as it is.
    """
    slot = recorder.watched.slot
    if media.info.kind not in _KINDS[slot]:
        raise MediaError(
            f"file {media.name}: is {media.info.kind.value}, which this slot does not judge",
            code=Code.WRONG_KIND,
            hint="it was left out",
        )
    for one in views:
        recorder.seen.clear()
        with ExitStack() as stack:
            shown = media
            if one.change is not None or slot == "audio":
                shown = stack.enter_context(_change(media, one, recorder.watched))
            found = _read_clip(shown, recorder) if slot == "video" else _read(shown, recorder)
        if isinstance(found, Evidence):
            if one.change is None:
                raise MediaError(
                    f"file {media.name}: {found.claim}",
                    code=find_code(found.reason or ""),
                    hint="it was left out",
                )
            continue
        yield found._replace(view=one.name)


def _change(media: Media, one: View, bundle: Bundle) -> Media:
    """The file in a view, opened as one of its own."""
    slot = bundle.slot
    if slot == "video":
        assert one.change is not None
        return open_media(one.change(media.frames(most=MOST_FRAMES)), name=media.name)
    if slot == "image":
        assert one.change is not None
        return open_media(one.change(media.image()), name=media.name)
    preprocess = bundle.preprocess
    assert isinstance(preprocess, AudioPreprocess)
    rate = preprocess.sample_rate
    samples = media.audio(sample_rate=rate, max_seconds=MOST_SECONDS)
    if one.change is not None:
        samples = one.change(samples)
    return open_media(samples, name=media.name, sample_rate=rate)


def _read(media: Media, recorder: Recorder) -> Rows | Evidence:
    """What the network sees of a picture or a sound, or why it is not judged."""
    analyzer = Image() if recorder.watched.slot == "image" else Audio()
    evidence = analyzer.analyze(media, recorder, _OPTIONS)[0]
    if evidence.status is not Status.OK:
        return evidence
    return Rows("", np.concatenate([rows for _, rows in recorder.seen]), 0.0)


def _read_clip(media: Media, recorder: Recorder) -> Rows | Evidence:
    """What the network sees of each moment: the whole picture, and where a person is seen all the
    time the mean with that face's motion, as the analyzer takes it; of several the most prominent.
    """
    pace = round(60 * MOST_JUDGED_FRAMES / max(media.info.seconds or 0.0, 1.0))
    options = replace(
        _OPTIONS, max_frames_per_minute=min(DetectOptions.max_frames_per_minute, max(8, pace))
    )
    footage = view(media, recorder, options, open_finder(recorder))
    if footage.is_graphic:
        return skip("video", Code.GRAPHIC_NOT_PHOTO)
    kept = {id(scored): rows for scored, rows in recorder.seen}
    whole = {burst.second: kept[id(burst.motion)] for burst in footage.bursts if burst.motion}
    if not whole:
        return skip("video", Code.TOO_FEW_FRAMES)
    people = [
        {face.second: kept[id(face.motion)] for face in bursts if face.motion}
        for _, bursts in footage.people
    ]
    face = next(filter(None, people), {})
    rows = [
        (1 - FACE_SHARE) * one + FACE_SHARE * face[second] if second in face else one
        for second, one in whole.items()
    ]
    return Rows("", np.concatenate(rows), _frames_odds(footage, recorder))


def _frames_odds(footage: Footage, recorder: Recorder) -> float:
    """The log-odds of the clip's single frames; NaN where they cannot be judged."""
    calibration = recorder.bundle("frame").frames_calibration
    scores = [burst.still.score for burst in footage.bursts if burst.still]
    if not scores or calibration is None:
        return nan
    score = Scored.pool_frames(scores, calibration).score
    return log(score / (1 - score))
