"""A linear head on CLIP's tokens: logistic regression, every file and group weighted."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from deepfake.networks.clip import ClipPicture

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
    near: Head | None = None,
) -> Head:
    """Mean and deviation (features,) of the tokens of the crops that are ``chosen`` (n,), weights
    (features,) and bias of the regression on them, standardised and cut off at six deviations.

    Classes count alike, groups by the root of their files. Minimised by L-BFGS on the mean loss
    plus ``penalty`` times the squared weights; with a head to stay ``near``, whose mean and
    deviation are taken, times the squared differences from its weights.
    """
    values = torch.from_numpy(tokens.values[chosen]).float()
    mean, deviation = values.mean(0), values.std(0) + 1e-4
    first = torch.zeros(values.shape[1])
    if near is not None:
        mean, deviation, first = (torch.from_numpy(part).clone() for part in near[:3])
    standard = values.sub_(mean).div_(deviation).clamp_(-6, 6)
    labels = torch.tensor([float(pictures[f].label) for f in tokens.files[chosen]])
    weights = torch.from_numpy(draw_probabilities(pictures)[tokens.files[chosen]]).float()
    for label in (0, 1):
        weights[labels == label] /= 2 * weights[labels == label].sum()
    weight = first.clone().requires_grad_()
    bias = torch.zeros(1, requires_grad=True)
    optimiser = torch.optim.LBFGS(
        [weight, bias], max_iter=80, history_size=10, line_search_fn="strong_wolfe"
    )

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        logits = standard @ weight + bias
        losses = nn.functional.binary_cross_entropy_with_logits(logits, labels, reduction="none")
        loss: torch.Tensor = (losses * weights).sum() + penalty * (weight - first).square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimiser.step(closure)  # type: ignore[no-untyped-call]
    return mean.numpy(), deviation.numpy(), weight.detach().numpy(), float(bias.detach())


def apply_head(values: npt.NDArray[np.float16], head: Head) -> Array:
    """Logits (n,) of tokens (n, features)."""
    mean, deviation, weight, bias = head
    standard = ((values.astype(np.float32) - mean) / deviation).clip(-6, 6)
    return np.asarray(standard @ weight + bias, np.float32)


def join_heads(near: Head, far: Head) -> Head:
    """A head whose logit is the mean of two on the two halves of its features."""
    mean, deviation, weight = (
        np.concatenate([near[part], far[part]]).astype(np.float32) for part in (0, 1, 2)
    )
    return mean, deviation, weight * np.float32(0.5), (near[3] + far[3]) / 2


def put_head(network: ClipPicture, head: Head) -> None:
    """Make a head the last layer of a network whose trunk gave the tokens that it was fitted on."""
    mean, deviation, weight, bias = head
    with torch.no_grad():
        network.mean.copy_(torch.from_numpy(mean))
        network.deviation.copy_(torch.from_numpy(deviation))
        network.decide.weight.copy_(torch.from_numpy(weight)[None])
        network.decide.bias.fill_(bias)
