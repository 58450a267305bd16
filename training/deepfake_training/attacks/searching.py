"""Black-box attacks: they know nothing of the detector but its answers.

*random search* (Rechenberg 1973's (1+1) evolution strategy on smooth noise, as Guo et al. 2019,
"Low Frequency Adversarial Perturbation"); *Square* (Andriushchenko et al. 2020, "Square Attack");
*SimBA* in the cosine basis (Guo et al. 2019, "Simple Black-box Adversarial Attacks"); *HopSkipJump*
on smooth noise, which needs words alone (Chen et al. 2020; Li et al. 2020, "QEBA"); *chains*, which
tries what people do to media anyway until something passes.

They are written here because the Adversarial Robustness Toolbox asks classifiers of arrays of one
size for batches of class probabilities: it neither stops at the first verdict that suffices nor
counts the questions of one file, and its attacks know no sound of any length.

Each runs until its :class:`.victim.Victim` raises ``Finished``, and stays within ``epsilon`` of
every value of the original (HopSkipJump: of their root mean square). Pictures are attacked with
squares and smooth fields, sounds with stretches and tones.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import cv2
import numpy as np

from deepfake.preprocess import Floats

from .. import perturb
from ..audio.channels import change_channel
from .victim import Victim

RATE = perturb.SAMPLE_RATE
_SQUARE_STEPS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
"""After so many of 10,000 questions squares are halved (table 1 of its supplement)."""
_SQUARE_SHARE = 0.8
_LOW_SHARE = 8
"""SimBA keeps to the lowest eighth of the frequencies along each side."""
_LEAST_PAIR = 6
_HALVINGS = 8


def search_randomly(victim: Victim, *, epsilon: float, rng: np.random.Generator) -> None:
    """Smooth noise on the best so far, with a step that grows with success (the 1/5 rule)."""
    best, least, step = victim.original, victim.loss(victim.original), epsilon
    while True:
        field = make_smooth_field(victim.original.shape, rng=rng)
        candidate = _within(victim, best + np.float32(step) * field, epsilon)
        loss = victim.loss(candidate)
        better = _accepts(victim, loss, least)
        if better:
            best, least = candidate, loss
        step = float(np.clip(step * (1.5 if better else 0.9), epsilon / 8, 2 * epsilon))


def search_squares(victim: Victim, *, epsilon: float, rng: np.random.Generator) -> None:
    """Square: a random square at the edge of what is allowed takes the place of what is there."""
    original = victim.original
    best = _within(victim, original + epsilon * _make_stripes(original.shape, rng), epsilon)
    least = victim.loss(best)
    for number in _forever():
        passed = 10_000 * number / max(1, victim.budget)
        share = _SQUARE_SHARE / 2 ** sum(passed > step for step in _SQUARE_STEPS)
        candidate = best.copy()
        if original.ndim == 3:
            place = _draw_square(original.shape, share, rng)
            candidate[place] = original[place] + epsilon * rng.choice([-1.0, 1.0], 3)
        else:
            start, length = _draw_stretch(len(original), share, rng)
            stretch = slice(start, start + length)
            candidate[stretch] = original[stretch] + epsilon * _draw_tone(length, rng)
        candidate = victim.range.clip(candidate)
        loss = victim.loss(candidate)
        if _accepts(victim, loss, least):
            best, least = candidate, loss


def search_cosines(victim: Victim, *, epsilon: float, rng: np.random.Generator) -> None:
    """SimBA: one wave of the cosine basis after the other is added or, if that does not help,
    subtracted, in random order.
    """
    best, least = victim.original, victim.loss(victim.original)
    while True:
        wave = (epsilon / 2) * _draw_wave(victim.original.shape, rng)
        for signed in (wave, -wave):
            candidate = _within(victim, best + signed, epsilon)
            loss = victim.loss(candidate)
            if _accepts(victim, loss, least):
                best, least = candidate, loss
                break


def walk_boundary(
    victim: Victim, *, rng: np.random.Generator, starts: Sequence[Floats] = ()
) -> None:
    """HopSkipJump: from a signal that passes, along the boundary of the verdict to the original.

    ``starts`` are signals that may pass, tried before degraded copies of the original.
    """
    here = next((one for one in _starts(victim, starts) if victim.passes(one)), None)
    if here is None:
        return
    original = victim.original
    for number in _forever():
        here = _approach(victim, here, halvings=_HALVINGS)
        distance = victim.change(here)
        pairs = max(_LEAST_PAIR, round(4 * np.sqrt(number)))
        probe = np.float32(0.3 * distance)
        fields = [make_smooth_field(original.shape, rng=rng) for _ in range(pairs)]
        signs = np.array(
            [1 if victim.passes(victim.range.clip(here + probe * one)) else -1 for one in fields],
            np.float32,
        )
        weights = signs - signs.mean() if abs(signs.mean()) < 1 else signs
        way = sum(weight * one for weight, one in zip(weights, fields, strict=True))
        way = way / max(1e-9, float(np.sqrt(np.mean(np.square(way)))))
        step = distance / np.sqrt(number)
        for _ in range(_HALVINGS):
            there = victim.range.clip(here + np.float32(step) * way)
            if victim.passes(there):
                here = there
                break
            step /= 2


def try_chains(victim: Victim, *, rng: np.random.Generator) -> None:
    """Random histories as training draws them (resizing, retouching, compression; rooms, codecs,
    lines) until one passes. The signal may change its size.
    """
    while True:
        if victim.original.ndim == 3:
            pixels = victim.original.round().astype(np.uint8)
            changed = perturb.draw_picture_chain(rng)(pixels).astype(np.float32)
        else:
            changed = change_channel(victim.original, rng=rng, babble=())
        victim.ask(victim.range.clip(changed))


def make_smooth_field(shape: tuple[int, ...], *, rng: np.random.Generator) -> Floats:
    """Noise with a root mean square of 1: of a picture (height, width, 3) a coarse grid of random
    fineness, enlarged; of a sound (samples,) a random band.
    """
    if len(shape) == 3:
        cells = int(rng.integers(4, 33))
        coarse = rng.standard_normal((cells, cells, 3)).astype(np.float32)
        field = cv2.resize(coarse, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC)
    else:
        low = float(np.exp(rng.uniform(np.log(80), np.log(4000))))
        noise = rng.standard_normal(shape[0]).astype(np.float32)
        field = perturb.limit_band(noise, low_hz=low, high_hz=min(7800.0, 2 * low))
    spread = float(np.sqrt(np.mean(np.square(field))))
    return np.asarray(field / max(spread, 1e-9), np.float32)


def _within(victim: Victim, signal: Floats, epsilon: float) -> Floats:
    bounded = np.clip(signal, victim.original - epsilon, victim.original + epsilon)
    return victim.range.clip(bounded)


def _accepts(victim: Victim, loss: float, least: float) -> bool:
    """Where answers are coarse, what is as good is taken as well: else nothing would move."""
    return loss < least or (victim.is_coarse and loss <= least)


def _forever() -> Iterator[int]:
    number = 0
    while True:
        number += 1
        yield number


def _make_stripes(shape: tuple[int, ...], rng: np.random.Generator) -> Floats:
    """The start of Square: every column of a picture is shifted, a sound gets one tone."""
    if len(shape) == 3:
        return rng.choice(np.array([-1, 1], np.float32), (1, shape[1], 3))
    return _draw_tone(shape[0], rng)


def _draw_square(
    shape: tuple[int, ...], share: float, rng: np.random.Generator
) -> tuple[slice, slice]:
    height, width = shape[:2]
    side = int(np.clip(round(np.sqrt(share * height * width)), 2, min(height, width)))
    top, left = rng.integers(height - side + 1), rng.integers(width - side + 1)
    return slice(int(top), int(top) + side), slice(int(left), int(left) + side)


def _draw_stretch(count: int, share: float, rng: np.random.Generator) -> tuple[int, int]:
    length = int(np.clip(round(share * count), min(64, count), count))
    return int(rng.integers(count - length + 1)), length


def _draw_tone(count: int, rng: np.random.Generator) -> Floats:
    """A square wave of ±1 between 100 and 7000 Hz."""
    hertz = np.exp(rng.uniform(np.log(100), np.log(7000)))
    angles = 2 * np.pi * hertz / RATE * np.arange(count) + rng.uniform(0, 2 * np.pi)
    return np.asarray(np.where(np.sin(angles) >= 0, 1, -1), np.float32)


def _draw_wave(shape: tuple[int, ...], rng: np.random.Generator) -> Floats:
    """One wave of the cosine basis with an amplitude of 1, in one channel of a picture."""
    if len(shape) == 1:
        hertz = np.exp(rng.uniform(np.log(60), np.log(7000)))
        phases = (2 * np.arange(shape[0]) + 1) * hertz / RATE
        return np.asarray(np.cos(np.pi * phases), np.float32)
    sides = []
    for length in shape[:2]:
        turns = int(rng.integers(max(1, length // _LOW_SHARE)))
        sides.append(np.cos(np.pi * (2 * np.arange(length) + 1) * turns / (2 * length)))
    wave = np.zeros(shape, np.float32)
    wave[..., int(rng.integers(3))] = np.outer(*sides)
    return wave


def _starts(victim: Victim, starts: Sequence[Floats]) -> Iterator[Floats]:
    for start in starts:
        yield victim.range.clip(_fit(start, victim.original.shape))
    spread = np.float32(victim.original.std())
    for strength in (1.0, 2.0, 4.0, 8.0):
        yield victim.range.clip(_degrade(victim.original, strength))
    rng = np.random.default_rng(0)
    for share in (0.2, 0.5, 1.0):
        field = make_smooth_field(victim.original.shape, rng=rng)
        yield victim.range.clip(victim.original + share * spread * field)


def _fit(signal: Floats, shape: tuple[int, ...]) -> Floats:
    """Another picture or sound at the size of this one."""
    if len(shape) == 1:
        return np.resize(signal, shape)
    across, down = -(-shape[1] // signal.shape[1]), -(-shape[0] // signal.shape[0])
    return np.tile(signal, (down, across, 1))[: shape[0], : shape[1]]


def _degrade(signal: Floats, strength: float) -> Floats:
    if signal.ndim == 3:
        return np.asarray(cv2.GaussianBlur(signal, (0, 0), strength), np.float32)
    return perturb.limit_band(signal, low_hz=0, high_hz=7600 / strength)


def _approach(victim: Victim, there: Floats, *, halvings: int) -> Floats:
    """The point nearest the original, on the straight way to it, that still passes."""
    low, high = 0.0, 1.0
    for _ in range(halvings):
        middle = (low + high) / 2
        mixed = victim.original + np.float32(middle) * (there - victim.original)
        if victim.passes(mixed):
            high = middle
        else:
            low = middle
    return victim.original + np.float32(high) * (there - victim.original)
