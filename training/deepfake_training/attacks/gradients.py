"""White-box attacks: they follow the gradient of the detector's own log-odds (see :mod:`.chain`).

*APGD* on the cross-entropy, in L∞ and L2 (Croce and Hein 2020, "Reliable Evaluation of Adversarial
Robustness with an Ensemble of Diverse Parameter-free Attacks"; its loss of logit ratios needs three
classes, and a detector has two), a *patch* (Brown et al. 2017, "Adversarial Patch"), a *universal*
perturbation, repeated over any file (Moosavi-Dezfooli et al. 2017; fitted by signed gradients as
Shafahi et al. 2020; Neekhara et al. 2019 for sound), and one *below the masking threshold* of a
sound (Qin et al. 2019; see :mod:`.masking`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch.nn import functional

from deepfake.preprocess import Floats

from .victim import GREY_LEVELS, SAMPLES, Range

TILE_PIXELS = 128
TILE_SAMPLES = 16_000
_MOMENTUM = 0.75
_SUCCESSES = 0.75
Project = Callable[[torch.Tensor], torch.Tensor]
"""From a change to the nearest one that is allowed."""


class View(Protocol):
    """One file as :class:`.chain.Chain` sees it."""

    def odds(self, signal: torch.Tensor, *, stable: bool = True) -> list[torch.Tensor]: ...


@dataclass(frozen=True)
class Ball:
    """What a change may be: at most ``radius`` in every value (``linf``), or in root mean square
    (``l2``); where ``mask`` is 0 nothing changes.
    """

    norm: str
    radius: float
    mask: Floats | None = None

    def project(self, change: torch.Tensor) -> torch.Tensor:
        if self.mask is not None:
            change = change * torch.from_numpy(self.mask)
        if self.norm == "linf":
            return change.clamp(-self.radius, self.radius)
        size = change.square().mean().sqrt()
        return change * torch.clamp(self.radius / size.clamp(min=1e-12), max=1.0)

    def climb(self, gradient: torch.Tensor) -> torch.Tensor:
        """The steepest change of size 1 in this norm."""
        if self.mask is not None:
            gradient = gradient * torch.from_numpy(self.mask)
        if self.norm == "linf":
            return gradient.sign()
        return gradient / gradient.square().mean().sqrt().clamp(min=1e-12)


def attack_by_gradients(
    signal: Floats,
    view: View,
    ball: Ball,
    *,
    synthetic: bool,
    steps: int,
    rng: np.random.Generator,
    project: Project | None = None,
    check: Callable[[], None] = lambda: None,
) -> Floats:
    """APGD: the signal with the change that makes a ``synthetic`` one look genuine, or a genuine
    one synthetic, best.

    ``signal`` is (height, width, 3) in 0…255 or (samples,) in -1…1. ``project`` replaces that of
    the ball. ``check`` is called before each step and may raise.
    """
    limits = GREY_LEVELS if signal.ndim == 3 else SAMPLES
    original = torch.from_numpy(signal)
    allow = project or ball.project

    def measure(change: torch.Tensor) -> tuple[float, torch.Tensor]:
        check()
        return _measure(view, original, change, synthetic=synthetic, limits=limits)

    def keep(change: torch.Tensor) -> torch.Tensor:
        bounded = (original + allow(change)).clamp(limits.low, limits.high)
        return bounded - original

    start = rng.uniform(-1, 1, signal.shape).astype(np.float32) * np.float32(0.1 * ball.radius)
    here = keep(torch.from_numpy(start))
    loss, gradient = measure(here)
    best, least, best_gradient = here, loss, gradient
    before, step = here, 2 * ball.radius
    marks, wins, since = _checkpoints(steps), 0, 0
    halved, least_before = True, least
    for number in range(1, steps):
        there = keep(here - step * ball.climb(gradient))
        if number > 1:
            there = keep(here + _MOMENTUM * (there - here) + (1 - _MOMENTUM) * (here - before))
        before, here = here, there
        last, (loss, gradient) = loss, measure(here)
        wins, since = wins + (loss < last), since + 1
        if loss < least:
            best, least, best_gradient = here, loss, gradient
        if number in marks:
            stuck = wins < _SUCCESSES * since
            idle = not halved and least >= least_before
            halved, least_before = stuck or idle, least
            if halved:
                step /= 2
                before, here, loss, gradient = best, best, least, best_gradient
            wins, since = 0, 0
    return np.asarray((original + best).numpy(), np.float32)


def fit_universal(
    examples: Sequence[tuple[Floats, View]],
    *,
    radius: float,
    synthetic: bool,
    steps: int,
    rng: np.random.Generator,
    check: Callable[[], None] = lambda: None,
) -> Floats:
    """A tile, (128, 128, 3) or (16,000,), of at most ``radius`` in every value that misleads about
    all ``examples`` when it is repeated over them.
    """
    picture = examples[0][0].ndim == 3
    shape = (TILE_PIXELS, TILE_PIXELS, 3) if picture else (TILE_SAMPLES,)
    limits = GREY_LEVELS if picture else SAMPLES
    tile = torch.zeros(shape)
    velocity = torch.zeros(shape)
    for number in range(steps):
        check()
        signal, view = examples[int(rng.integers(len(examples)))]
        tile.requires_grad_(True)
        spread = _repeat(tile, signal.shape)
        changed = (torch.from_numpy(signal) + spread).clamp(limits.low, limits.high)
        loss = _cross_entropy(view.odds(changed, stable=False), synthetic=synthetic)
        (gradient,) = torch.autograd.grad(loss, tile)
        tile = tile.detach()
        velocity = _MOMENTUM * velocity + gradient / gradient.abs().mean().clamp(min=1e-12)
        pace = radius * (0.25 if number < steps // 2 else 0.08)
        tile = (tile - pace * velocity.sign()).clamp(-radius, radius)
    return np.asarray(tile.numpy(), np.float32)


def repeat_tile(tile: Floats, shape: tuple[int, ...]) -> Floats:
    """A tile of :func:`fit_universal` over all of a picture or sound."""
    return np.asarray(_repeat(torch.from_numpy(tile), shape).numpy(), np.float32)


def corner_mask(height: int, width: int, *, share: float = 0.04) -> Floats:
    """1 in a square with ``share`` of the area, a little in from the lower right, 0 elsewhere."""
    side = max(8, round(np.sqrt(share * height * width)))
    margin = max(2, side // 8)
    mask = np.zeros((height, width, 1), np.float32)
    mask[max(0, height - margin - side) : height - margin, max(0, width - margin - side) :] = 1
    mask[:, max(1, width - margin) :] = 0
    return mask


def _measure(
    view: View,
    original: torch.Tensor,
    change: torch.Tensor,
    *,
    synthetic: bool,
    limits: Range,
) -> tuple[float, torch.Tensor]:
    change = change.detach().requires_grad_(True)
    changed = (original + change).clamp(limits.low, limits.high)
    loss = _cross_entropy(view.odds(changed), synthetic=synthetic)
    (gradient,) = torch.autograd.grad(loss, change)
    return float(loss.detach()), gradient


def _cross_entropy(odds: Sequence[torch.Tensor], *, synthetic: bool) -> torch.Tensor:
    """To the wrong class, over all who judge; it falls as they are misled."""
    together = torch.stack([*odds])
    return functional.softplus(together if synthetic else -together).mean()


def _checkpoints(steps: int) -> set[int]:
    """After which steps the step size is looked at (p_j of the paper's section 3)."""
    shares = [0.0, 0.22]
    while shares[-1] < 1:
        shares.append(shares[-1] + max(shares[-1] - shares[-2] - 0.03, 0.06))
    return {round(share * steps) for share in shares[1:] if share < 1}


def _repeat(tile: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    for axis, length in enumerate(shape[:2]):
        tile = tile.index_select(axis, torch.arange(length) % tile.shape[axis])
    return tile
