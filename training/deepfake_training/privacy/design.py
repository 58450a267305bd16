"""What iterative fits of a head read: features on one scale, one row a view, one sample a file."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .guarantee import Budget

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
MOST_WEIGHT = 5.0
"""Of a file, in units of the mean."""
LOGIT_REACH = 10.0
"""Logits of the shipped network beyond this count as this far."""
_LEAST_DEVIATION = 1e-3


@dataclass(frozen=True)
class Samples:
    """``rows`` (files, views, features + 1) with the shipped network's logit last, which of them
    are ``known`` (files, views), ``labels`` (files,) and ``weights`` (files,) of mean 1.
    """

    rows: npt.NDArray[np.float32]
    known: Mask
    labels: npt.NDArray[np.int64]
    weights: Floats

    @classmethod
    def gather(
        cls,
        rows: npt.NDArray[np.float32],
        files: npt.NDArray[np.int64],
        labels: npt.NDArray[np.int64],
        weights: Floats,
    ) -> Samples:
        """From rows (rows, features + 1) and the file (rows,) that each is of; ``labels`` and
        ``weights`` are by file. Files without a row are left out.
        """
        numbers, place = np.unique(files, return_inverse=True)
        counts = np.bincount(place)
        order = np.argsort(place, kind="stable")
        view = np.concatenate([np.arange(count) for count in counts])
        padded = np.zeros((len(numbers), counts.max(), rows.shape[1]), np.float32)
        known = np.zeros(padded.shape[:2], np.bool_)
        padded[place[order], view] = rows[order]
        known[place[order], view] = True
        own = weights[numbers]
        return cls(padded, known, labels[numbers], own / own.mean())

    def means(self) -> Floats:
        """The mean row (files, features + 1) of every file."""
        total = np.where(self.known[..., None], self.rows, 0).sum(axis=1, dtype=np.float64)
        return np.asarray(total / self.known.sum(axis=1)[:, None])


@dataclass(frozen=True)
class Scale:
    """Centre (features + 1,) and spread (features + 1,) of rows. Scaled features together have
    about unit length, whatever their number, and so has the shipped logit, so that it is soon
    weighed anew; where nothing is ``started`` from, that column is nothing.
    """

    centre: Floats
    spread: Floats
    started: bool

    @property
    def factors(self) -> Floats:
        """What centred rows are multiplied by (features + 1,)."""
        factors = 1 / self.spread.clip(_LEAST_DEVIATION)
        factors[:-1] /= np.sqrt(len(factors) - 1)
        factors[-1] *= self.started
        return np.asarray(factors)

    def __call__(self, rows: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
        """Rows (…, features + 1) scaled."""
        return np.asarray((rows - self.centre) * self.factors, np.float32)

    def start(self) -> tuple[Floats, float]:
        """Weights (features + 1,) and bias of scaled rows that give the shipped logit, or 0."""
        weights = np.zeros(len(self.centre))
        if not self.started:
            return weights, 0.0
        weights[-1] = 1 / self.factors[-1]
        return weights, float(self.centre[-1])

    def unscale(self, weights: Floats, bias: float) -> tuple[Floats, float]:
        """Weights (features + 1,) and bias of rows as they are."""
        raw = weights * self.factors
        return np.asarray(raw), bias - float(raw @ self.centre)


def measure_scale(samples: Samples, *, started: bool) -> Scale:
    """Mean and deviation of the files' mean rows, without noise."""
    means, weights = samples.means(), samples.weights / samples.weights.sum()
    centre = weights @ means
    return Scale(centre, np.sqrt(weights @ np.square(means - centre)), started)


def release_scale(
    samples: Samples,
    reference: Floats,
    *,
    noise: float,
    started: bool,
    rng: np.random.Generator,
) -> Scale:
    """Centre and one spread for all features by a Gaussian mechanism: what one file adds has at
    most unit length, and the noise of every number is ``noise``.

    ``reference`` (features + 1,) is public: what the network sees in the golden input of its
    bundle. A file's distance from it is cut off at its own length.
    """
    count, reach = len(samples.labels), float(np.linalg.norm(reference[:-1])) or 1.0
    away = samples.means() - reference
    steps = np.linalg.norm(away[:, :-1], axis=1)
    held = away[:, :-1] * np.minimum(1, reach / steps.clip(1e-12))[:, None] / reach
    logits = (away[:, -1] / LOGIT_REACH).clip(-1, 1)
    # three parts of one vector of at most unit length: features, their squared length, the logit
    parts = np.hstack(
        [
            np.sqrt(0.6) * held,
            np.sqrt(0.2) * np.square(held).sum(axis=1, keepdims=True),
            np.sqrt(0.1) * logits[:, None],
            np.sqrt(0.1) * np.square(logits)[:, None],
        ]
    )
    total = parts.sum(axis=0) + rng.normal(0, noise, parts.shape[1])
    means = total / count
    moved = means[:-3] / np.sqrt(0.6)
    squared = float(means[-3]) / np.sqrt(0.2)
    shift, power = means[-2] / np.sqrt(0.1), means[-1] / np.sqrt(0.1)
    # the squared length of noise is taken off before that of the centre is taken off the mean one
    own = max(float(moved @ moved) - len(moved) * (noise / count) ** 2 / 0.6, 0.0)
    width = np.sqrt(max(squared - own, 1e-3) / len(moved)) * reach
    moved *= own / max(float(moved @ moved), 1e-12)  # towards the reference, where noise is large
    centre = reference + np.append(moved * reach, shift * LOGIT_REACH)
    logit_width = LOGIT_REACH * np.sqrt(max(float(power - shift**2), 1e-3))
    return Scale(centre, np.append(np.full(len(moved), width), logit_width), started)


@dataclass(frozen=True)
class Private:
    """A wanted budget and what is public about the features: a ``reference`` (features + 1,)."""

    budget: Budget
    reference: Floats
