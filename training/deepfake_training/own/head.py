"""The head: logistic regression on standardised features, both classes and all sources alike; where
a privacy budget is given, by DP-SGD.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression

from ..privacy.descent import fit_private
from ..privacy.design import Private, Samples
from ..privacy.guarantee import Ledger
from .features import Known, learnt_rows
from .network import Linear
from .views import View

STARTS = ("shipped", "fresh")
STRENGTH = 30.0
"""Inverse of the regularisation, for weights of the files that sum to one."""
FAVOUR = 10.0
"""How much less than a feature the logit of the shipped network is regularised."""
_LEAST_DEVIATION = 1e-4


@dataclass(frozen=True)
class Lessons:
    """What heads are fitted to: one row (rows, features + 1) for each file and learnt view, the
    mean over its windows, and which file (rows,) it is of. ``trust`` (files,) is what each file
    counts, from 0 to 1; None for all alike.
    """

    rows: npt.NDArray[np.float32]
    files: npt.NDArray[np.int64]
    trust: npt.NDArray[np.float64] | None = None

    @classmethod
    def read(cls, files: Sequence[Known], views: Sequence[View]) -> Lessons:
        found = [(number, one.rows.mean(axis=0)) for number, one in learnt_rows(files, views)]
        numbers, rows = zip(*found, strict=True)
        return cls(np.stack(rows), np.array(numbers))


def fit_head(
    lessons: Lessons,
    files: Sequence[Known],
    chosen: npt.NDArray[np.bool_],
    *,
    shipped: Linear | None,
) -> Linear:
    """A head fitted to the ``chosen`` files (files,).

    With ``shipped``, the head of the network as it came, its logit is one feature more, hardly
    regularised: the fit starts from what it knows and corrects it.
    """
    used = chosen[lessons.files]
    numbers = lessons.files[used]
    labels = np.array([one.label for one in files])[numbers]
    weights = weigh(lessons, files, numbers)
    rows = lessons.rows[used].astype(np.float64)
    mean = weights @ rows
    deviation = np.sqrt(weights @ np.square(rows - mean)).clip(_LEAST_DEVIATION)
    scale = 1 / deviation
    scale[-1] *= FAVOUR if shipped is not None else 0.0
    model = LogisticRegression(C=STRENGTH, max_iter=2000)
    model.fit((rows - mean) * scale, labels, sample_weight=weights)
    raw = model.coef_[0] * scale
    return join_head(raw, float(model.intercept_[0]) - float(raw @ mean), shipped=shipped)


def fit_private_head(
    lessons: Lessons,
    files: Sequence[Known],
    chosen: npt.NDArray[np.bool_],
    *,
    shipped: Linear | None,
    private: Private,
) -> tuple[Linear, Ledger]:
    """The same under differential privacy, and what that spent; see :mod:`..privacy.descent`."""
    samples = read_samples(lessons, files, chosen)
    raw, bias, ledger = fit_private(samples, private, started=shipped is not None)
    return join_head(raw, bias, shipped=shipped), ledger


def read_samples(
    lessons: Lessons, files: Sequence[Known], chosen: npt.NDArray[np.bool_]
) -> Samples:
    """The ``chosen`` files (files,) as iterative fits read them, weighted by :func:`weigh`."""
    used = chosen[lessons.files]
    numbers = lessons.files[used]
    labels = np.array([one.label for one in files])
    weights = np.zeros(len(files))
    np.add.at(weights, numbers, weigh(lessons, files, numbers))
    return Samples.gather(lessons.rows[used], numbers, labels, weights)


def join_head(raw: npt.NDArray[np.float64], bias: float, *, shipped: Linear | None) -> Linear:
    """One head from weights (features + 1,), the last of which is that of the shipped logit."""
    if shipped is None:
        return Linear(raw[:-1], bias)
    return Linear(raw[:-1] + raw[-1] * shipped.weights, bias + float(raw[-1]) * shipped.bias)


def weigh(
    lessons: Lessons, files: Sequence[Known], numbers: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    """Weights of rows (rows,) of these files, balanced, by what is trusted of each file."""
    weights = balance(files, numbers)
    if lessons.trust is None:
        return weights
    labels = np.array([files[number].label for number in numbers])
    return weigh_down(weights, lessons.trust[numbers], labels)


def weigh_down(
    weights: npt.NDArray[np.float64],
    trust: npt.NDArray[np.float64],
    labels: npt.NDArray[np.int64],
) -> npt.NDArray[np.float64]:
    """Weights of rows by what is trusted of each; both classes count alike again."""
    weights = weights * trust
    for label in (0, 1):
        weights[labels == label] /= 2 * max(float(weights[labels == label].sum()), 1e-12)
    return weights


def balance(files: Sequence[Known], numbers: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Weights of rows that sum to one: both classes alike, the sources of a class, the files of a
    source and the rows of a file.
    """
    rows = Counter(numbers.tolist())
    places = {number: (files[number].label, files[number].source) for number in rows}
    of_source = Counter(places.values())
    of_class = Counter(label for label, _ in of_source)
    return np.array(
        [
            1 / (len(of_class) * of_class[place[0]] * of_source[place] * rows[number])
            for number in numbers.tolist()
            for place in (places[number],)
        ]
    )
