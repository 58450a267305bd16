"""What a user is told about clips, from the out-of-fold logits of every slot that sees them.

Each slot's scores come from a model and a calibration that saw neither the clip's system nor its
genuine source; they are fused as the detector fuses them. Clips without a judged face have no score
of the ``face`` slot. The sound is left out: few of the clips have any.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deepfake.fusion import Policy, decide
from deepfake.types import Evidence, Kind, Status, Verdict

from .calibrate import choose_pooling, cross_calibrate
from .metrics import auc, calibration_error, eer, tpr_at_fpr
from .records import FileLogits, read_records, unheard

SLOTS = ("frames", "video", "face")
VIEWS = ("clean", "crf_32", "crf_40_360p")
_FIRM = (Verdict.SYNTHETIC, Verdict.SUSPICIOUS)


@dataclass(frozen=True)
class ClipRow:
    """One clip in one view: the score of each slot that has one, and what a user is told."""

    path: str
    label: int
    source: str
    view: str
    scores: Mapping[str, float]
    probability: float
    verdict: Verdict


@dataclass(frozen=True)
class VideoRow:
    """One source in one view. ``auc`` is that of each slot, and of all fused, against the genuine
    clips of all other sources; NaN for a genuine source and for slots without scores.
    """

    view: str
    source: str
    label: int
    clips: int
    auc: Mapping[str, float]
    flagged_synthetic: float
    flagged: float
    cleared: float


@dataclass(frozen=True)
class FusedRow:
    """All clips of one view, fused."""

    view: str
    clips: int
    mean_auc: float
    auc: float
    eer: float
    tpr_at_1: float
    calibration_error: float


def read_clips(runs: Path, *, face: str, video: str) -> list[ClipRow]:
    """Join what the runs of the slots left behind; raises ``OSError`` where one is missing."""
    records = {
        "frames": read_records(runs / "frames" / "frames.jsonl"),
        "video": read_records(runs / video / "out_of_fold.jsonl"),
        "face": read_records(runs / face / "out_of_fold.jsonl"),
    }
    return join_clips({slot: unheard(inside) for slot, inside in records.items()})


def join_clips(records: Mapping[str, Sequence[FileLogits]]) -> list[ClipRow]:
    """One row for every clip and view that the ``video`` slot has scored."""
    scored: dict[str, dict[tuple[str, str], list[Evidence]]] = {}
    for slot, inside in records.items():
        top_fraction = choose_pooling(inside) if slot == "face" else 1.0
        places = scored.setdefault(slot, {})
        for one in cross_calibrate(inside, top_fraction=top_fraction):
            key = (one.record.path.partition("#")[0], one.record.view)
            places.setdefault(key, []).append(
                Evidence(
                    source=slot, status=Status.OK, claim="", score=one.score, points=one.points
                )
            )
    rows = []
    for record in records["video"]:
        key = (record.path, record.view)
        evidence = [pool(scored[slot][key]) for slot in records if key in scored[slot]]
        decision = decide(evidence, kind=Kind.VIDEO, policy=Policy())
        rows.append(
            ClipRow(
                path=record.path,
                label=record.label,
                source=record.source,
                view=record.view,
                scores={item.source: item.score or 0.0 for item in evidence},
                probability=decision.probability or 0.0,
                verdict=decision.verdict,
            )
        )
    return rows


def pool(evidence: Sequence[Evidence]) -> Evidence:
    """The faces of one clip as one: the mean of their log-odds."""
    scores = np.array([item.score for item in evidence])
    odds = float(np.log(scores / (1 - scores)).mean())
    first = evidence[0]
    return Evidence(
        source=first.source,
        status=Status.OK,
        claim="",
        score=1 / (1 + float(np.exp(-odds))),
        points=first.points,
    )


def tabulate_clips(rows: Sequence[ClipRow]) -> tuple[list[VideoRow], list[FusedRow]]:
    """Rows by source, and one for all clips of each view."""
    sources, fused = [], []
    for view in dict.fromkeys(row.view for row in rows):
        inside = [row for row in rows if row.view == view]
        genuine = [row for row in inside if not row.label]
        made = [
            _video_row(view, [row for row in inside if row.source == source], genuine)
            for source in sorted({row.source for row in inside})
        ]
        sources += made
        labels = np.array([row.label for row in inside], np.float64)
        scores = np.array([row.probability for row in inside])
        fused.append(
            FusedRow(
                view=view,
                clips=len(inside),
                mean_auc=float(np.mean([row.auc["fused"] for row in made if row.label])),
                auc=auc(labels, scores),
                eer=eer(labels, scores),
                tpr_at_1=tpr_at_fpr(labels, scores, fpr=0.01),
                calibration_error=calibration_error(labels, scores),
            )
        )
    return sources, fused


def _video_row(view: str, mine: Sequence[ClipRow], genuine: Sequence[ClipRow]) -> VideoRow:
    return VideoRow(
        view=view,
        source=mine[0].source,
        label=mine[0].label,
        clips=len(mine),
        auc={name: _separation(mine, genuine, name) for name in (*SLOTS, "fused")},
        flagged_synthetic=float(np.mean([row.verdict is Verdict.SYNTHETIC for row in mine])),
        flagged=float(np.mean([row.verdict in _FIRM for row in mine])),
        cleared=float(np.mean([row.verdict is Verdict.AUTHENTIC for row in mine])),
    )


def _separation(mine: Sequence[ClipRow], genuine: Sequence[ClipRow], name: str) -> float:
    def scores(rows: Sequence[ClipRow]) -> list[float]:
        if name == "fused":
            return [row.probability for row in rows]
        return [row.scores[name] for row in rows if name in row.scores]

    fakes, reals = scores(mine), scores(genuine)
    if not mine[0].label or not fakes or not reals:
        return float("nan")
    labels = np.array([1.0] * len(fakes) + [0.0] * len(reals))
    return auc(labels, np.array([*fakes, *reals]))


def fused_tables(sources: Sequence[VideoRow], fused: Sequence[FusedRow]) -> str:
    """Markdown: all clips by view, then systems, then genuine sources."""
    from .card import markdown

    head = ["view", "clips", "mean AUC over systems", "pooled AUC", "EER", "TPR at 1 % FPR"]
    cells = [
        [r.view, r.clips, r.mean_auc, r.auc, r.eer, r.tpr_at_1, r.calibration_error] for r in fused
    ]
    parts = [markdown([*head, "calibration error"], cells)]
    names = [*(f"AUC, {slot}" for slot in SLOTS), "AUC, fused"]
    told = ["called synthetic", "suspicious or more", "no sign found"]
    for label, title in ((1, "system"), (0, "genuine source")):
        cells = [
            [r.view, r.source, r.clips]
            + (list(r.auc.values()) if label else [])
            + [r.flagged_synthetic, r.flagged, r.cleared]
            for r in sources
            if r.label == label
        ]
        parts.append(markdown(["view", title, "clips", *(names if label else []), *told], cells))
    return "\n".join(parts)
