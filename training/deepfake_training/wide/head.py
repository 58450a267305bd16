"""A linear head on CLIP's tokens: logistic regression, every file and group weighted."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from ..known import Known, draw_probabilities
from .tokens import Tokens

Array = npt.NDArray[np.float32]
Head = tuple[Array, Array, Array, float]
"""Mean and deviation (features,) of the tokens, weights (features,) and bias."""


def fit_head(
    tokens: Tokens,
    pictures: Sequence[Known],
    *,
    chosen: npt.NDArray[np.bool_],
    penalty: float,
) -> Head:
    """Mean and deviation (features,) of the tokens of the crops that are ``chosen`` (n,), weights
    (features,) and bias of the regression on them, standardised and cut off at six deviations.

    Classes count alike, groups by the root of their files. Minimised by L-BFGS on the mean loss
    plus ``penalty`` times the squared weights.
    """
    values = torch.from_numpy(tokens.values[chosen]).float()
    mean, deviation = values.mean(0), values.std(0) + 1e-4
    standard = values.sub_(mean).div_(deviation).clamp_(-6, 6)
    labels = torch.tensor([float(pictures[f].label) for f in tokens.files[chosen]])
    weights = torch.from_numpy(draw_probabilities(pictures)[tokens.files[chosen]]).float()
    for label in (0, 1):
        weights[labels == label] /= 2 * weights[labels == label].sum()
    weight = torch.zeros(standard.shape[1], requires_grad=True)
    bias = torch.zeros(1, requires_grad=True)
    optimiser = torch.optim.LBFGS(
        [weight, bias], max_iter=80, history_size=10, line_search_fn="strong_wolfe"
    )

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        logits = standard @ weight + bias
        losses = nn.functional.binary_cross_entropy_with_logits(logits, labels, reduction="none")
        loss: torch.Tensor = (losses * weights).sum() + penalty * weight.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimiser.step(closure)  # type: ignore[no-untyped-call]
    return mean.numpy(), deviation.numpy(), weight.detach().numpy(), float(bias.detach())


def apply_head(values: npt.NDArray[np.float16], head: Head) -> Array:
    """Logits (n,) of tokens (n, features)."""
    mean, deviation, weight, bias = head
    standard = ((values.astype(np.float32) - mean) / deviation).clip(-6, 6)
    return np.asarray(standard @ weight + bias, np.float32)


def cross_logits(tokens: Tokens, pictures: Sequence[Known], *, penalty: float, folds: int) -> Array:
    """Logits (n,) of every crop from a head that never saw its group."""
    homes = np.array([picture.fold for picture in pictures])[tokens.files]
    logits = np.zeros(len(homes), np.float32)
    for fold in range(folds):
        head = fit_head(tokens, pictures, chosen=homes != fold, penalty=penalty)
        logits[homes == fold] = apply_head(tokens.values[homes == fold], head)
    return logits
