"""Whether a head gives away that a file was among those it was fitted to: the likelihood-ratio
attack (LiRA; Carlini et al. 2022).

Shadow heads are fitted to random halves of the files. Each of them in turn is the one that is
attacked, and the others tell how the head would answer about a file that it was fitted to, and
about one that it was not. This is the strongest case for the attacker: he has all files, the
recipe, and asks about every change of a file that the head learnt from.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from ..metrics import auc, tpr_at_fpr
from ..own.network import Linear
from .material import Mask, Shelf

Floats = npt.NDArray[np.float64]
Read = Callable[[Linear, npt.NDArray[np.float32], npt.NDArray[np.int64]], Floats]
"""Signals (files, queries) of a head about queries (files, queries, features), and labels."""
_LEAST_SHADOWS = 64
"""From so many on every file has deviations of its own (Carlini et al. 2022, section VI-B)."""


@dataclass(frozen=True)
class Exposed:
    """How well members are told from others, over all files of all heads that were attacked; 0.5
    and the false-positive rate itself are chance. ``loss_auc`` is that of the loss alone.
    """

    auc: float
    tpr_at_1: float
    tpr_at_01: float
    loss_auc: float
    shadows: int


def expose(
    shelf: Shelf,
    fit: Callable[[Mask, int], Linear],
    *,
    shadows: int,
    seed: int,
    read: Read | None = None,
) -> Exposed:
    """Attack each of the shadow heads that ``fit`` makes of a half of the files and a seed;
    ``read`` is what is seen of a head, by default its logits.
    """
    members, heads = make_shadows(shelf, fit, shadows=shadows, seed=seed)
    return attack(shelf, members, heads, read=read or read_signals)


def attack(shelf: Shelf, members: Mask, heads: Sequence[Linear], *, read: Read) -> Exposed:
    """Attack each of these shadow heads, of the members (shadows, files), by all others."""
    queries = list_queries(shelf)
    signals = np.stack([read(head, queries, shelf.labels) for head in heads])
    attacked = range(len(heads))
    ratios = np.concatenate([likelihood_ratios(members, signals, one) for one in attacked])
    inside = members.ravel().astype(np.float64)
    losses = signals.mean(axis=2).ravel()
    return Exposed(
        auc=auc(inside, ratios),
        tpr_at_1=tpr_at_fpr(inside, ratios, fpr=0.01),
        tpr_at_01=tpr_at_fpr(inside, ratios, fpr=0.001),
        loss_auc=auc(inside, losses),
        shadows=len(heads),
    )


def make_shadows(
    shelf: Shelf,
    fit: Callable[[Mask, int], Linear],
    *,
    shadows: int,
    seed: int,
) -> tuple[Mask, list[Linear]]:
    """Shadow heads, and which files (shadows, files) each was fitted to. Every file is in half of
    them (Carlini et al. 2022).
    """
    rng = np.random.default_rng(seed)
    count = len(shelf.files)
    halves = rng.permuted(
        np.tile(np.arange(shadows) % 2 == 0, (count, 1)), axis=1
    ).T  # (shadows, files)
    numbers = tqdm(range(shadows), desc="shadow heads", disable=None, leave=False)
    return halves, [fit(halves[number], seed + number) for number in numbers]


def list_queries(shelf: Shelf) -> npt.NDArray[np.float32]:
    """Features (files, queries, features) of what is asked: every file as it is, and in each view
    that heads learn from; where one could not be judged, the file as it is again.
    """
    samples = shelf.samples(np.ones(len(shelf.files), np.bool_))
    views = np.where(samples.known[..., None], samples.rows, shelf.clean[:, None])
    return np.concatenate([shelf.clean[:, None], views], axis=1)[..., :-1]


def read_signals(
    head: Linear, queries: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]
) -> Floats:
    """Log-odds (files, queries) of the true class, which are about normal over shadow heads."""
    return np.asarray(head(queries) * np.where(labels, 1.0, -1.0)[:, None])


def likelihood_ratios(members: Mask, signals: Floats, target: int) -> Floats:
    """The log-likelihood ratio (files,) of having been fitted to, by normals over the other heads.

    With few heads, inside and outside have one deviation each for all files.
    """
    others = np.arange(len(members)) != target
    log_odds = np.zeros(signals.shape[1:])
    for inside, sign in ((True, 1), (False, -1)):
        chosen = (members == inside) & others[:, None]
        counts = chosen.sum(axis=0)[:, None]
        used = np.where(chosen[..., None], signals, 0)
        means = used.sum(axis=0) / counts.clip(1)
        squares = np.where(chosen[..., None], np.square(signals - means), 0).sum(axis=0)
        if len(members) < _LEAST_SHADOWS:
            variances = np.full_like(means, squares.sum() / max(chosen.sum() * means.shape[1], 1))
        else:
            variances = squares / (counts - 1).clip(1)
        variances = variances.clip(1e-12)
        log_odds += sign * (
            -np.square(signals[target] - means) / (2 * variances) - np.log(variances) / 2
        )
    return np.asarray(log_odds.mean(axis=1))
