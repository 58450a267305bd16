"""How kinds of synthesis in clips are told apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ..metrics import FamilyRow, auc, eer, tpr_at_fpr
from ..records import FileLogits
from .material import FAMILIES


def tabulate_families(
    records: Sequence[FileLogits], families: Mapping[str, str]
) -> list[FamilyRow]:
    """A row for each family of clips as they are, against all genuine ones; ``families`` has that
    of every clip by its name.
    """
    clean = [one for one in records if one.view == "clean"]
    genuine = [one for one in clean if not one.label]
    rows = []
    for family in FAMILIES:
        fakes = [one for one in clean if one.label and families[one.path] == family]
        if not fakes or not genuine:
            continue
        labels = np.array([1.0] * len(fakes) + [0.0] * len(genuine))
        logits = np.array([float(np.mean(one.logits)) for one in (*fakes, *genuine)])
        rows.append(
            FamilyRow(
                family=family,
                files=len(fakes),
                auc=auc(labels, logits),
                eer=eer(labels, logits),
                tpr_at_1=tpr_at_fpr(labels, logits, fpr=0.01),
            )
        )
    return rows
