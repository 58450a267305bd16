"""Fingerprints of clips: their frames, and their sound where both have one."""

from __future__ import annotations

import io
from fractions import Fraction
from typing import Any

import av
import numpy as np

from deepfake.known.fingerprints import Fingerprint, take_fingerprint
from deepfake.known.shelf import Shelf
from deepfake.media.opening import open_media
from tests.known.patterns import babble, pattern


def clip(seed: int, *, crf: int = 20, voice: int | None = None, bars: int = 0) -> bytes:
    """Three seconds that fade from one picture to another."""
    out = io.BytesIO()
    with av.open(out, "w", format="matroska") as coded:
        video: Any = coded.add_stream("libx264", rate=12, options={"crf": str(crf), "threads": "1"})
        video.width, video.height, video.pix_fmt = 320, 240 + 2 * bars, "yuv420p"
        sound: Any = coded.add_stream("aac", rate=16000) if voice is not None else None
        for number in range(36):
            share = number / 36
            mixed = (1 - share) * pattern(seed) + share * pattern(seed + 1000)
            pixels = np.pad(mixed.astype(np.uint8), ((bars, bars), (0, 0), (0, 0)))
            coded.mux(video.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        coded.mux(video.encode(None))
        if sound is not None and voice is not None:
            samples = babble(voice, seconds=3)[None]
            frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
            frame.sample_rate, frame.time_base = 16000, Fraction(1, 16000)
            coded.mux(sound.encode(frame))
            coded.mux(sound.encode(None))
    return out.getvalue()


def fingerprint(content: bytes) -> Fingerprint:
    with open_media(content) as media:
        found = take_fingerprint(media)
    assert found is not None
    return found


def test_a_copy_is_near_and_others_are_not() -> None:
    shelf = Shelf([fingerprint(clip(seed)) for seed in range(4)])
    for copy in (clip(2, crf=40), clip(2, bars=40), clip(2, voice=1)):
        assert [near.place for near in shelf.near(fingerprint(copy))] == [2]


def test_the_same_pictures_with_another_sound_are_no_copy() -> None:
    shelf = Shelf([fingerprint(clip(1, voice=1))])
    assert shelf.near(fingerprint(clip(1, voice=1, crf=35)))
    assert not shelf.near(fingerprint(clip(1, voice=2)))
