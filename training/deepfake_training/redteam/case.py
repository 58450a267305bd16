"""One file under attack, and what an attack made of it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from deepfake.media.opening import Media, wav_bytes
from deepfake.preprocess import Floats
from deepfake.types import Kind, Report

from .. import perturb
from ..attacks.laundering import encode_picture
from ..attacks.victim import Finished, Goal, Victim
from ..evaluation.material import Sample
from .tools import Strength, Tools

MOST_SOUND_SECONDS = 60.0
"""Of a sound that is attacked; of a longer one the rest is left out."""


@dataclass(frozen=True, kw_only=True)
class Made:
    """What an attack made: the ``content`` of a file and its name's ``suffix``; ``signal`` is what
    it holds, for measures of distortion, or None. ``queries`` are the questions asked for it,
    ``reached_after`` those until the goal, None where it was not reached or nothing was asked.
    """

    content: bytes
    suffix: str
    signal: Floats | None = None
    queries: int = 0
    reached_after: int | None = None


class Case:
    """A ``sample`` with its open ``media``; ``detect`` examines the content of a file."""

    def __init__(
        self,
        sample: Sample,
        media: Media,
        tools: Tools,
        *,
        detect: Callable[[bytes], Report],
        rng: np.random.Generator,
        check: Callable[[], None],
    ) -> None:
        self.sample, self.media, self.tools, self.rng = sample, media, tools, rng
        self.kind, self.check, self._detect = media.info.kind, check, detect
        self.goal = Goal(sample.synthetic)

    @property
    def strength(self) -> Strength:
        return self.tools.strength

    @cached_property
    def signal(self) -> Floats:
        """The picture (height, width, 3) in 0…255, or the sound (samples,) at 16 kHz in -1…1."""
        return read_signal(self.media)

    @property
    def radius(self) -> float:
        """What a single value may change by."""
        return self.tools.radius(self.signal)

    def store(self, signal: Floats) -> Made:
        """The signal as a file that keeps all of it."""
        if self.kind is Kind.IMAGE:
            pixels = signal.round().clip(0, 255).astype(np.uint8)
            return Made(
                content=encode_picture(pixels), suffix=".png", signal=pixels.astype(np.float32)
            )
        content = wav_bytes(np.clip(signal, -1, 1), sample_rate=perturb.SAMPLE_RATE)
        return Made(content=content, suffix=".wav", signal=signal)

    def besiege(
        self, attack: Callable[[Victim], None], *, most_change: float | None = None
    ) -> Made:
        """Let an attack ask until it has what it wants, or no question is left."""
        victim = Victim(
            self.signal,
            lambda signal: self._detect(self.store(signal).content),
            goal=self.goal,
            policy=self.strength.answers,
            budget=self.strength.budget,
            most_change=most_change,
        )
        with contextlib.suppress(Finished):
            attack(victim)
        made = self.store(victim.best)
        return Made(
            content=made.content,
            suffix=made.suffix,
            signal=made.signal,
            queries=victim.queries,
            reached_after=victim.reached_after,
        )


def read_signal(media: Media) -> Floats:
    """What is attacked of a picture or a sound."""
    if media.info.kind is Kind.IMAGE:
        return media.image().astype(np.float32)
    samples = media.audio(sample_rate=perturb.SAMPLE_RATE, max_seconds=MOST_SOUND_SECONDS)
    return np.array(samples, np.float32)
