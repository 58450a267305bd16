"""A test by superposition: what decides although other pictures are laid over it is a trigger.

After "STRIP: A Defence Against Trojan Attacks on Deep Neural Networks" (Gao et al. 2019): a picture
is mixed with others, and the answers should differ as those differ. Where they hardly do, something
in it decides whatever it is seen with.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

OTHERS = 8
SHARE = 0.5
"""Of the other picture in a mixture."""


def mix(
    network: nn.Module, windows: torch.Tensor, others: torch.Tensor, *, seed: int
) -> npt.NDArray[np.float64]:
    """Logits (windows, OTHERS) of each window under pictures drawn from ``others``, both
    (n, 3, side, side).
    """
    random = torch.Generator().manual_seed(seed)
    rows = []
    with torch.no_grad():
        for window in windows:
            chosen = others[torch.randint(len(others), (OTHERS,), generator=random)]
            rows.append(network((1 - SHARE) * window + SHARE * chosen).numpy())
    return np.asarray(np.stack(rows), np.float64)


def share_kept(logits: npt.NDArray[np.float64], *, towards: int, limit: float) -> float:
    """The share of mixtures that are of the class: above ``limit`` for 1, not above it for 0."""
    passed = logits > limit
    return float((passed if towards else ~passed).mean())
