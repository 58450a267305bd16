"""Copies of a detector from its answers (knock-off nets; Orekondy, Schiele and Fritz 2019).

The victim is a head of its owner's files on a network that everybody has, as ``deepfake train``
makes them, so that only the head is secret. The attacker has pictures of other sources, asks about
them and about changed versions of them, and fits a head of his own to the answers. Both are tried
on sources that neither of them had.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import spearmanr
from sklearn.linear_model import RidgeCV
from tqdm import tqdm

from deepfake.errors import SettingsError

from ..card import markdown
from ..metrics import auc
from .answers import POLICIES, Floats, Redact, open_service
from .material import Mask, Shelf

QUERIES = (100, 300, 1000, 3000, 10_000, 20_000)
PENALTIES = tuple(np.geomspace(1e-6, 1e4, 21).tolist())
LEAST_FOLDS = 3
_FAVOUR = 10.0


@dataclass(frozen=True)
class CopyRow:
    """Copies from so many queries, means over the sources that were left out: the share of files on
    which copy and victim agree whether they are suspicious, the rank correlation of their scores,
    and both AUCs.
    """

    policy: str
    queries: int
    agreement: float
    correlation: float
    auc: float
    victim_auc: float


@dataclass(frozen=True)
class Copy:
    """A linear head of standardised rows, and from where on it calls a file suspicious."""

    mean: Floats
    scale: Floats
    weights: Floats
    bias: float
    limit: float

    def __call__(self, rows: npt.NDArray[np.floating]) -> Floats:
        """Log-odds (n,) of rows (n, features + 1)."""
        return np.asarray((rows - self.mean) * self.scale @ self.weights + self.bias)


def learn_copy(rows: npt.NDArray[np.float32], odds: Floats, alarms: Mask) -> Copy:
    """Ridge regression on what the answers tell, the penalty by leave-one-out; the limit is where
    it agrees best with the alarms that were seen.
    """
    values = rows.astype(np.float64)
    mean = values.mean(axis=0)
    scale = 1 / values.std(axis=0).clip(1e-4)
    scale[-1] *= _FAVOUR  # the shipped logit, which everybody can compute
    standard = (values - mean) * scale
    model = RidgeCV(alphas=PENALTIES).fit(standard, odds)
    own = model.predict(standard)
    return Copy(mean, scale, model.coef_, float(model.intercept_), choose_limit(own, alarms))


def choose_limit(odds: Floats, alarms: Mask) -> float:
    """The limit of odds (n,) that puts most of them on the side of their alarm (n,)."""
    order = np.argsort(odds)
    sorted_odds, sorted_alarms = odds[order], alarms[order]
    quiet_below = np.concatenate([[0], np.cumsum(~sorted_alarms)])
    alarms_above = sorted_alarms.sum() - np.concatenate([[0], np.cumsum(sorted_alarms)])
    best = int(np.argmax(quiet_below + alarms_above))
    edges = np.concatenate([[-np.inf], (sorted_odds[1:] + sorted_odds[:-1]) / 2, [np.inf]])
    return float(edges[best])


def study(
    shelf: Shelf,
    redact: Redact,
    *,
    queries: Sequence[int] = QUERIES,
    policies: Sequence[str] = POLICIES,
    seed: int,
    most_folds: int = 0,
) -> list[CopyRow]:
    """A row for each policy and number of queries that the material has; each fold of sources is
    left out once, the next half of the others is the victim's, the rest the attacker's. Raises
    ``SettingsError`` for fewer than three folds.
    """
    folds = len(shelf.folds)
    if folds < LEAST_FOLDS:
        raise SettingsError(
            f"sources: {folds} folds of them are too few for a victim, an attacker and a judge",
            hint=f"give {LEAST_FOLDS} sources of either class",
        )
    service = open_service(shelf, redact)
    found: dict[tuple[str, int], list[tuple[float, ...]]] = {}
    rounds = range(most_folds or folds)
    pools = [len(_rows(shelf, _inside(shelf, _split(folds, out)[1]))) for out in rounds]
    counts = sorted({min(count, *pools) for count in queries})
    with tqdm(total=len(rounds) * len(policies) * len(counts), desc="copies", disable=None) as bar:
        for out in rounds:
            owned, asked = _split(folds, out)
            victim = shelf.fit(_inside(shelf, owned))
            rows = _rows(shelf, _inside(shelf, asked))
            rng = np.random.default_rng(seed + out)
            rows = rows[rng.permutation(len(rows))]
            judged = shelf.clean[_inside(shelf, [out])]
            labels = shelf.labels[_inside(shelf, [out])].astype(np.float64)
            truth = victim(judged[:, :-1])
            for policy in policies:
                odds, alarms = service.read(victim(rows[: max(counts), :-1]), policy)
                _, wanted = service.read(truth, policy)
                for count in counts:
                    copy = learn_copy(rows[:count], odds[:count], alarms[:count])
                    own = copy(judged)
                    found.setdefault((policy, count), []).append(
                        (
                            float(np.mean((own >= copy.limit) == wanted)),
                            float(spearmanr(own, truth).statistic),
                            auc(labels, own),
                            auc(labels, truth),
                        )
                    )
                    bar.update()
    return [
        CopyRow(policy, count, *np.mean(values, axis=0).tolist())
        for (policy, count), values in sorted(
            found.items(), key=lambda item: (policies.index(item[0][0]), item[0][1])
        )
    ]


def _split(folds: int, out: int) -> tuple[list[int], list[int]]:
    """The folds of the victim and those of the attacker, where one is left out."""
    others = [(out + 1 + step) % folds for step in range(folds - 1)]
    return others[: (folds - 1) // 2], others[(folds - 1) // 2 :]


def _inside(shelf: Shelf, numbers: Sequence[int]) -> Mask:
    """Which files (files,) are in these folds."""
    chosen = set().union(*(shelf.folds[number].files for number in numbers))
    return np.array([number in chosen for number in range(len(shelf.files))])


def _rows(shelf: Shelf, chosen: Mask) -> npt.NDArray[np.float32]:
    """What can be asked about: these files as they are, and in each view."""
    return np.concatenate([shelf.clean[chosen], shelf.lessons.rows[chosen[shelf.lessons.files]]])


def table(rows: Sequence[CopyRow]) -> str:
    """The rows for a person."""
    head = ["policy", "queries", "agreement", "rank correlation", "AUC of the copy"]
    return markdown([*head, "AUC of the victim"], [[*astuple(row)] for row in rows])
