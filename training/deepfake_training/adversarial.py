"""Batches that a network is misled by, to learn from.

One step along the sign of the gradient from a random start (Wong et al. 2020, "Fast is better than
free", FGSM-RS, with its step of 1.25 ε), in L∞ or, along the gradient itself, in L2; with several
norms each example meets one of them (Tramèr and Boneh 2019, "Adversarial Training and Robustness
for Multiple Perturbations", who take the worst or all; one at a time costs what one norm does).
Half of a batch stays as it is, so that what is clean is not forgotten (Kurakin et al. 2017).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from deepfake.errors import SettingsError
from deepfake.preprocess import PixelScale

NORMS = ("linf", "l2")
STEP = 1.25
L2_SHARE = 0.25
"""Of the levels, that an L2 change has for its root mean square, in ``deepfake redteam`` too."""


@dataclass(frozen=True, kw_only=True)
class Hardening:
    """Changes of at most ``levels`` grey levels in each of the ``norms``; none for 0 levels.

    Raises ``SettingsError`` for an unknown norm.
    """

    levels: float = 0.0
    norms: tuple[str, ...] = ("linf",)

    def __post_init__(self) -> None:
        for norm in self.norms:
            if norm not in NORMS:
                raise SettingsError(f"norm {norm!r}: unknown", hint=f"known: {', '.join(NORMS)}")


def mislead_half(
    network: nn.Module,
    batch: torch.Tensor,
    goal: torch.Tensor,
    *,
    hardening: Hardening,
    scale: PixelScale,
    seed: Sequence[int],
) -> torch.Tensor:
    """A batch (n, 3, side, side) at its ``scale`` with every other pair of examples changed so that
    the network's logits (n,) leave their ``goal`` (n,) in 0…1; ``seed`` fixes all chance.

    The network is asked in evaluation mode and left in the mode that it has, without gradients.
    """
    if not hardening.levels:
        return batch
    changed = torch.arange(len(batch)) // 2 % 2 == 0
    chance = torch.Generator().manual_seed(int(np.random.SeedSequence(seed).generate_state(1)[0]))
    some, wanted = batch[changed], goal[changed]
    level = 1 / (255 * torch.tensor(scale.std)).reshape(1, 3, 1, 1)
    norms = torch.randint(len(hardening.norms), (len(some),), generator=chance)
    bounded = torch.tensor([name == "linf" for name in hardening.norms])[norms]
    bounded = bounded.reshape(-1, 1, 1, 1)
    start = hardening.levels * (2 * torch.rand(some.shape, generator=chance) - 1)
    start = torch.where(bounded, start, start * L2_SHARE / 2)
    mean = torch.tensor(scale.mean).reshape(1, 3, 1, 1) * 255
    least, most = -mean * level, (255 - mean) * level
    change = start.requires_grad_(True)
    training = network.training
    network.eval()
    logits = network((some + change * level).clamp(least, most))
    loss = nn.functional.binary_cross_entropy_with_logits(logits, wanted, reduction="sum")
    (gradient,) = torch.autograd.grad(loss, change)
    network.train(training)
    with torch.no_grad():
        radius = hardening.levels
        signed = (change + STEP * radius * gradient.sign()).clamp(-radius, radius)
        straight = _to_size(
            change + _to_size(gradient, STEP * L2_SHARE * radius), L2_SHARE * radius
        )
        final = torch.where(bounded, signed, straight)
        misled = batch.clone()
        misled[changed] = (some + final * level).clamp(least, most)
    return misled


def _to_size(change: torch.Tensor, size: float) -> torch.Tensor:
    """Each example (n, 3, side, side) with this root mean square."""
    now = change.square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
    return change * (size / now.clamp(min=1e-12))
