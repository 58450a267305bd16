"""Candidates for the network of the ``audio`` slot, compared on one fold that all leave out.

They share the material, the pool and the windows of a base configuration; only their members (the
networks, their options and their fits) differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from joblib import Parallel, delayed

from deepfake.preprocess import AudioPreprocess

from .. import perturb
from ..metrics import auc
from ..records import FileLogits
from .recipe import (
    prepare_pool,
    prepare_process,
    prepare_views,
    read_material,
    score_clips,
    train_fold,
)


@dataclass(frozen=True)
class CandidateRow:
    """Mean AUC over the left-out systems in one view: against the genuine corpora that were left
    out as well, and (``system_auc``) against unheard clips of those that were not.
    """

    candidate: str
    view: str
    auc: float
    system_auc: float


def compare_candidates(
    config: dict[str, Any], base: dict[str, Any], *, data: Path, weights: Path, output: Path
) -> list[CandidateRow]:
    """Train every candidate of ``config`` on fold ``config["fold"]`` of ``base``, whose run folder
    is ``output``; what is there is not done again.
    """
    views = {name: perturb.AUDIO_VIEWS[name] for name in config["views"]}
    preprocess = AudioPreprocess(**base["preprocess"])
    clips = read_material(base, data=data, output=output)
    prepare_pool(base, clips=clips, preprocess=preprocess, output=output)
    workers = int(base["workers"])
    prepare_views(clips, views, preprocess=preprocess, output=output, workers=workers)

    def work(candidate: dict[str, Any]) -> list[CandidateRow]:
        prepare_process()
        folder = output / "candidates" / str(candidate["name"])
        folder.mkdir(parents=True, exist_ok=True)
        heard = read_material(base, data=data, output=output)
        network = train_fold(
            {**base, "members": candidate["members"]},
            number=int(config["fold"]),
            clips=heard,
            pool=prepare_pool(base, clips=heard, preprocess=preprocess, output=output),
            weights=weights,
            output=folder,
        )
        records = score_clips(
            network,
            heard,
            prepare_views(heard, views, preprocess=preprocess, output=output),
            fold=int(config["fold"]),
            path=folder / "records.jsonl",
            reserved=True,
        )
        return rate(records, candidate=str(candidate["name"]))

    rows = Parallel(n_jobs=workers)(map(delayed(work), config["candidates"]))
    return [row for some in rows for row in some]


def rate(records: Sequence[FileLogits], *, candidate: str) -> list[CandidateRow]:
    """One row for each view of one candidate's records."""
    rows = []
    for view in dict.fromkeys(record.view for record in records):
        inside = [record for record in records if record.view == view]
        genuine = {
            heard: [np.mean(r.logits) for r in inside if not r.label and r.heard == heard]
            for heard in (False, True)
        }
        means = {}
        for heard, others in genuine.items():
            values = []
            for system in sorted({r.source for r in inside if r.label}):
                mine = [np.mean(r.logits) for r in inside if r.source == system and r.label]
                labels = np.array([1.0] * len(mine) + [0.0] * len(others))
                values.append(auc(labels, np.array([*mine, *others])))
            means[heard] = float(np.mean(values))
        rows.append(CandidateRow(candidate, view, means[False], means[True]))
    return rows
