"""Triggers reconstructed from a network: the smallest patch that turns every picture's answer.

After "Neural Cleanse: Identifying and Mitigating Backdoor Attacks in Neural Networks" (Wang et al.
2019): a mask and a pattern are fitted by gradients so that whatever they are laid over is taken for
one class, the mask as small as that allows. A network with a backdoor needs a far smaller one. Of
two classes no outlier can be told, so sizes are compared with those of a network that is trusted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

Plane = npt.NDArray[np.float32]
BATCH, CHECK_STEPS = 8, 10
ENOUGH = 0.9
"""Share of windows that must be turned for a trigger to count."""
_RATE, _START = 0.1, 0.02
_HARDER, _SOFTER = 1.5, 1.5**1.5
_MARGIN = 1.0


@dataclass(frozen=True)
class Trigger:
    """``mask`` (side, side) in 0…1 and ``pattern`` (3, side, side) as the network sees pictures,
    for the class ``towards``. ``size`` is the share of a window that the mask covers, ``turned``
    that of windows, not fitted to, that are taken for that class under it; with fewer than
    ``ENOUGH`` no trigger was found.
    """

    towards: int
    mask: Plane
    pattern: Plane
    size: float
    turned: float

    @property
    def found(self) -> bool:
        return self.turned >= ENOUGH

    def lay(self, windows: torch.Tensor) -> torch.Tensor:
        """Windows (n, 3, side, side) under it."""
        mask, pattern = torch.from_numpy(self.mask), torch.from_numpy(self.pattern)
        return windows * (1 - mask) + pattern * mask


def reconstruct(
    network: nn.Module,
    windows: torch.Tensor,
    *,
    towards: int,
    limit: float,
    bounds: tuple[float, float],
    steps: int,
    seed: int,
    advance: Callable[[int], None] = lambda done: None,
) -> Trigger:
    """The smallest trigger towards a class: 1 where logits pass ``limit``, 0 where they do not.

    ``windows`` (n, 3, side, side) are pictures as the network sees them, within ``bounds``. Those
    that are of the other class already are turned, or all where they are few; every third is kept
    to try the trigger on.
    """
    network = network.eval().requires_grad_(False)
    sign = 1.0 if towards else -1.0
    with torch.no_grad():
        away = sign * (network(windows) - limit) < 0
    used = windows[away] if int(away.sum()) >= BATCH else windows
    kept = torch.arange(len(used)) % 3 == 2
    fitted, tried = used[~kept], used[kept]
    random = torch.Generator().manual_seed(seed)
    side, low, high = windows.shape[-1], *bounds
    cover = torch.full((1, side, side), -2.0) + 0.1 * torch.randn((1, side, side), generator=random)
    paint = torch.randn((3, side, side), generator=random)
    cover.requires_grad_(True)
    paint.requires_grad_(True)
    steer = torch.optim.Adam([cover, paint], lr=_RATE, betas=(0.5, 0.9))
    cost, best = _START, Trigger(towards, *_draw(cover, paint, bounds), 1.0, 0.0)
    for step in range(1, steps + 1):
        chosen = fitted[torch.randint(len(fitted), (BATCH,), generator=random)]
        mask, pattern = torch.sigmoid(cover), low + (high - low) * torch.sigmoid(paint)
        logits = network(chosen * (1 - mask) + pattern * mask)
        loss = nn.functional.softplus(_MARGIN - sign * (logits - limit)).mean()
        steer.zero_grad()
        (loss + cost * mask.sum() / side).backward()  # type: ignore[no-untyped-call]
        steer.step()
        advance(step)
        if step % CHECK_STEPS and step < steps:
            continue
        made = try_trigger(network, tried, towards, *_draw(cover, paint, bounds), limit=limit)
        best = min((best, made), key=_rank)
        turned = float((sign * (logits.detach() - limit) > 0).float().mean())
        cost = cost * _HARDER if turned >= ENOUGH else cost / _SOFTER
    return best


def try_trigger(
    network: nn.Module,
    windows: torch.Tensor,
    towards: int,
    mask: Plane,
    pattern: Plane,
    *,
    limit: float,
) -> Trigger:
    """A trigger with the share of windows that it turns."""
    made = Trigger(towards, mask, pattern, float(mask.mean()), 0.0)
    with torch.no_grad():
        passed = network(made.lay(windows)) > limit
    turned = float((passed if towards else ~passed).float().mean())
    return replace(made, turned=turned)


def _rank(trigger: Trigger) -> tuple[bool, float]:
    """The smallest of those that turn enough first, then those that turn most."""
    return not trigger.found, trigger.size if trigger.found else -trigger.turned


def _draw(
    cover: torch.Tensor, paint: torch.Tensor, bounds: tuple[float, float]
) -> tuple[Plane, Plane]:
    low, high = bounds
    mask = torch.sigmoid(cover.detach())[0].numpy()
    pattern = (low + (high - low) * torch.sigmoid(paint.detach())).numpy()
    return mask.copy(), pattern.copy()
