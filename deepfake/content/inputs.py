"""What the network of each slot sees of a file.

The one reading of every slot: the analyzers, exports, quantisation, calibration and the evaluation
in training all go through it, so that a number about a bundle is about what it does in use.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from ..bundle import Applicability
from ..engine.places import draw_places
from ..preprocess import (
    AudioPreprocess,
    Box,
    ClipPreprocess,
    Crops,
    FacePreprocess,
    ImagePreprocess,
    Pixels,
    Preprocess,
    Samples,
    shrink,
)
from ..reasons import Code
from .borders import trim
from .drawings import find_photo, is_graphic
from .faces import Face, why_not_face
from .soundscape import Soundscape, survey
from .speech import CHUNK_SECONDS, find_speech, speech_share

WINDOWS_PER_FRAME = 6
FRAME_SIDE = 360
"""The short side at which a frame is judged, at most: clips of both classes come in all sizes."""
FRAMES_PER_BURST = 8
STEP_SECONDS = 0.125
MIN_SPEECH_SECONDS = 0.25
MIN_SPEECH_SHARE = 0.1
MIN_SPEECH_IN_MUSIC_SECONDS = 1.0
MIN_SPEECH_IN_MUSIC_SHARE = 0.05
WINDOWS_AT_ONCE = 32


class Judge(Protocol):
    """A bundle, or the recipe of one: how its network is fed and what an input must be."""

    @property
    def slot(self) -> str: ...

    @property
    def preprocess(self) -> Preprocess: ...

    @property
    def limits(self) -> Applicability: ...


class Picture(NamedTuple):
    """The ``photo`` that is judged, its ``crops``, and where it lies in the picture (None: it is
    the whole of it); ``caution`` is what keeps its score from being trusted.
    """

    photo: Pixels
    crops: Crops
    panel: Box | None
    caution: Code | None


class FaceCrop(NamedTuple):
    """A face as the network sees it (side, side, 3), or the ``reason`` why it cannot be judged."""

    face: Face
    crop: Pixels
    reason: Code | None


class Sound(NamedTuple):
    """Mono ``samples`` (samples,), how long they last, the first and last sample between leading
    and trailing silence, which 32 ms chunks are ``speech`` (chunks,), what else is in them, and
    where the windows start that are judged: those in which somebody speaks.
    """

    samples: Samples
    seconds: float
    active: tuple[int, int]
    speech: npt.NDArray[np.bool_]
    scene: Soundscape
    starts: tuple[int, ...]

    @property
    def speech_seconds(self) -> float:
        return float(self.speech.sum()) * CHUNK_SECONDS

    def spoken(self, second: float, *, seconds: float) -> bool:
        """Whether somebody speaks in a part of it."""
        return speech_share(self.speech, second=second, seconds=seconds) >= MIN_SPEECH_SHARE

    def why_not(self, judge: Judge) -> Code | None:
        """The reason code for which it cannot be judged, or None when it can."""
        least, musical = MIN_SPEECH_SECONDS, self.scene.musical
        if musical:
            least = max(MIN_SPEECH_IN_MUSIC_SECONDS, MIN_SPEECH_IN_MUSIC_SHARE * self.seconds)
        if self.speech_seconds < least:
            return Code.MUSIC if musical else Code.NO_SPEECH
        assert isinstance(judge.preprocess, AudioPreprocess)
        first, last = self.active
        return judge.limits.why_not(seconds=(last - first) / judge.preprocess.sample_rate)

    def heard_by(self, judge: Judge, *, most: int | None = None) -> Sound:
        """The same sound in the windows of a judge: those in which somebody speaks, or, where no
        single one has enough speech, all of them; at most so many, spread over it.
        """
        preprocess = judge.preprocess
        assert isinstance(preprocess, AudioPreprocess)
        rate, length = preprocess.sample_rate, preprocess.window_seconds
        starts = preprocess.starts(*self.active)
        kept = tuple(start for start in starts if self.spoken(start / rate, seconds=length))
        kept = kept or tuple(starts)
        if most is not None and len(kept) > most:
            kept = tuple(kept[i] for i in np.linspace(0, len(kept) - 1, most).round().astype(int))
        return self._replace(starts=kept)

    def batches(self, judge: Judge) -> Iterator[Samples]:
        """The windows (windows, samples) that are judged, at most 32 at once."""
        preprocess = judge.preprocess
        assert isinstance(preprocess, AudioPreprocess)
        last, length = self.active[1], preprocess.window_samples
        for index in range(0, len(self.starts), WINDOWS_AT_ONCE):
            cut = [
                preprocess.level(preprocess.fit(self.samples[start : min(last, start + length)]))
                for start in self.starts[index : index + WINDOWS_AT_ONCE]
            ]
            yield np.stack(cut)


def read_picture(pixels: Pixels, judge: Judge, *, key: bytes | None = None) -> Picture | Code:
    """RGB ``pixels`` (height, width, 3) for the ``image`` slot, or why they cannot be judged. Of a
    photo within borders or on a screenshot only that is seen. With a ``key`` its crops lie where
    nobody foresees without it.
    """
    preprocess = judge.preprocess
    assert isinstance(preprocess, ImagePreprocess)
    reason = judge.limits.why_not(width=pixels.shape[1], height=pixels.shape[0])
    if reason:
        return reason
    panel, caution = _find_photo(pixels, judge.limits)
    photo = crop(pixels, panel) if panel else pixels
    return Picture(photo, preprocess(photo, draw=draw_places(photo, key)), panel, caution)


def read_still(pixels: Pixels, judge: Judge) -> Pixels | Code:
    """RGB ``pixels`` as crops (windows, side, side, 3) for the slot of the judge, or why not."""
    if judge.slot in ("frame", "frame-large"):
        return read_frame(pixels, judge)
    picture = read_picture(pixels, judge)
    return picture if isinstance(picture, Code) else picture.crops.batch


def read_face(pixels: Pixels, face: Face, judge: Judge) -> FaceCrop:
    """One face of RGB ``pixels`` for the ``face`` slot."""
    align = judge.preprocess
    assert isinstance(align, FacePreprocess)
    seen = align.crop(pixels, face.points)
    reason = why_not_face(face, seen, least_pixels=judge.limits.min_side_pixels)
    return FaceCrop(face, seen, reason)


def is_drawn_face(pixels: Pixels, face: Face) -> bool:
    """Whether a face of RGB ``pixels`` is drawn or rendered, as the picture around it may be, and
    not a camera's picture within a graphic.
    """
    height, width = pixels.shape[:2]
    left, top, right, bottom = (round(side) for side in face.box)
    shown = pixels[max(0, top) : min(height, bottom), max(0, left) : min(width, right)]
    return is_graphic(shown)


def read_sound(samples: Samples, judge: Judge) -> Sound:
    """Mono ``samples`` at the preprocess's rate for the ``audio`` slot.

    All windows, not ``max_windows`` of them: gaps could hide a short segment.
    """
    preprocess = judge.preprocess
    assert isinstance(preprocess, AudioPreprocess)
    rate, active, speech = preprocess.sample_rate, preprocess.active(samples), find_speech(samples)
    scene = survey(samples, speech)
    return Sound(samples, len(samples) / rate, active, speech, scene, ()).heard_by(judge)


def read_frame(pixels: Pixels, judge: Judge) -> Pixels | Code:
    """A frame of a video for a tier of the ``frame`` slot (windows, side, side, 3), or why not."""
    preprocess = judge.preprocess
    assert isinstance(preprocess, ImagePreprocess)
    reason = judge.limits.why_not(width=pixels.shape[1], height=pixels.shape[0])
    windows = min(WINDOWS_PER_FRAME, preprocess.max_windows)
    return reason or preprocess(bound_frame(pixels), max_windows=windows).batch


def bound_frame(pixels: Pixels) -> Pixels:
    """A frame as it is judged: shrunk where its short side is longer than ``FRAME_SIDE``."""
    height, width = pixels.shape[:2]
    factor = FRAME_SIDE / min(height, width)
    return shrink(pixels, round(height * factor), round(width * factor)) if factor < 1 else pixels


def read_motion(
    burst: Sequence[Pixels], judge: Judge, *, faces: Sequence[Face] = ()
) -> Pixels | Code:
    """A burst of pictures for the ``video`` slot (1, frames, side, side, 3): the middle of them, or
    one person's face, of which there are several sightings; or why not.
    """
    preprocess = judge.preprocess
    assert isinstance(preprocess, ClipPreprocess)
    if len(burst) < FRAMES_PER_BURST // 2:
        return Code.TOO_FEW_FRAMES
    if faces:
        return preprocess(preprocess.faces(burst, np.stack([face.points for face in faces])))
    return preprocess([preprocess.square(pixels) for pixels in burst])


def crop(pixels: Pixels, box: Box) -> Pixels:
    left, top, right, bottom = sides(box)
    return np.ascontiguousarray(pixels[top:bottom, left:right])


def sides(box: Box) -> tuple[int, int, int, int]:
    """Left, top, right and bottom."""
    return box.left, box.top, box.left + box.width, box.top + box.height


def _find_photo(pixels: Pixels, limits: Applicability) -> tuple[Box | None, Code | None]:
    """The part of a picture that is the photo, None for all of it, and a caution for that part."""
    panel = _large_enough(trim(pixels), limits)
    photo = crop(pixels, panel) if panel else pixels
    if not is_graphic(photo):
        return panel, None
    inner = _large_enough(find_photo(photo), limits)
    if inner is None:
        return panel, Code.GRAPHIC_NOT_PHOTO
    graphic = is_graphic(crop(photo, inner))
    left, top = (panel.left, panel.top) if panel else (0, 0)
    panel = inner._replace(left=left + inner.left, top=top + inner.top)
    return panel, Code.GRAPHIC_NOT_PHOTO if graphic else None


def _large_enough(panel: Box | None, limits: Applicability) -> Box | None:
    refused = panel and limits.why_not(width=panel.width, height=panel.height)
    return None if refused else panel
