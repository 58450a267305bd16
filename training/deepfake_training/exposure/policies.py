"""Membership by what a service answers: the likelihood-ratio attack on heads whose scores are seen
only as a policy shows them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from ..card import markdown
from ..own.network import Linear
from .answers import POLICIES, Floats, Redact, Service, open_service
from .material import Shelf
from .membership import Exposed, attack, make_shadows


@dataclass(frozen=True)
class PolicyRow:
    """How well members of heads like those of ``deepfake train`` are told under a policy."""

    policy: str
    exposed: Exposed


def study(shelf: Shelf, redact: Redact, *, shadows: int, seed: int) -> list[PolicyRow]:
    """A row for each policy; the attacker asks once about every file as it is."""
    service = open_service(shelf, redact)
    members, heads = make_shadows(
        shelf, lambda chosen, _: shelf.fit(chosen), shadows=shadows, seed=seed
    )
    return [
        PolicyRow(
            policy, attack(shelf, members, heads, read=partial(read_answers, service, policy))
        )
        for policy in POLICIES
    ]


def read_answers(
    service: Service,
    policy: str,
    head: Linear,
    queries: npt.NDArray[np.float32],
    labels: npt.NDArray[np.int64],
) -> Floats:
    """Signals (files, 1) from the answers to files as they are, with noise far below a digit, so
    that equal words have a deviation.
    """
    odds, _ = service.read(head(queries[:, 0]), policy)
    jitter = np.random.default_rng(len(labels)).normal(0, 1e-3, len(odds))
    return np.asarray((odds + jitter) * np.where(labels, 1.0, -1.0))[:, None]


def table(rows: Sequence[PolicyRow]) -> str:
    """The rows for a person."""
    head = ["policy", "member AUC", "TPR at 1 % FPR", "TPR at 0.1 % FPR", "AUC of the loss alone"]
    return markdown(
        head,
        [
            [
                *(row.policy, row.exposed.auc, row.exposed.tpr_at_1, row.exposed.tpr_at_01),
                row.exposed.loss_auc,
            ]
            for row in rows
        ],
    )
