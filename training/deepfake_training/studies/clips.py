"""What a user is told about clips, from the out-of-fold logits of every slot that sees them.

Each slot's scores come from a model and a calibration that saw neither the clip's system nor its
genuine source. Motion and frames are added and calibrated together, as the analyzer does, and then
fused with faces, as the detector does. Clips without a judged face have no score of the ``face``
slot. The sound is left out: few of the clips have any.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy.special import logit

from deepfake.analyzers.face import share_prior
from deepfake.bundle import Calibration
from deepfake.fusion import Policy, decide
from deepfake.types import Evidence, Kind, Status, Verdict

from ..calibrate import ScoredRecord, choose_pooling, cross_calibrate, fit_calibration
from ..card import markdown
from ..metrics import auc, calibration_error, eer, separation, tpr_at_fpr
from ..records import FileLogits, read_records, unheard

PARTS = ("frames", "motion", "video", "face")
_FIRM = (Verdict.SYNTHETIC, Verdict.SUSPICIOUS)


@dataclass(frozen=True)
class ClipRow:
    """One clip in one view: the score of each part that has one, and what a user is told."""

    path: str
    label: int
    source: str
    view: str
    scores: Mapping[str, float]
    probability: float
    verdict: Verdict


@dataclass(frozen=True)
class VideoRow:
    """One source in one view. ``auc`` is that of each part, and of all fused, against the genuine
    clips of all other sources; NaN for a genuine source and for parts without scores.
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


def read_clips(
    runs: Path, *, face: str, video: str, least_pixels: float
) -> tuple[list[ClipRow], Calibration]:
    """Join what the runs of the slots left behind; raises ``OSError`` where one is missing.

    Of the faces also those count that the slot's calibration leaves out, but none of less than
    ``least_pixels``, which the bundle does not judge.
    """
    known = unheard(read_records(runs / face / "out_of_fold.jsonl"))
    folds = sorted((runs / face).glob("fold-*.jsonl"))
    return join_clips(
        frames=unheard(read_records(runs / "frames" / "frames.jsonl")),
        motion=unheard(read_records(runs / video / "out_of_fold.jsonl")),
        faces=[
            record
            for path in folds
            for record in read_records(path)
            if record.pixels >= least_pixels
        ],
        known_faces=known,
    )


def join_clips(
    *,
    frames: Sequence[FileLogits],
    motion: Sequence[FileLogits],
    faces: Sequence[FileLogits],
    known_faces: Sequence[FileLogits],
) -> tuple[list[ClipRow], Calibration]:
    """One row for every clip and view of which both motion and frames are known, and how their sum
    is read, fitted on all of them.
    """
    top_fraction = choose_pooling(known_faces)
    scored = {
        "frames": _by_clip("frames", cross_calibrate(frames, top_fraction=1.0)),
        "motion": _by_clip("motion", cross_calibrate(motion, top_fraction=1.0)),
        "face": _by_clip(
            "face",
            cross_calibrate(join_people(faces), top_fraction=top_fraction, known=known_faces),
        ),
    }
    both = [
        replace(record, logits=(_odds(scored["motion"][key]) + _odds(scored["frames"][key]),))
        for record in motion
        if (key := _place(record)) in scored["frames"]
    ]
    scored["video"] = _by_clip("video", cross_calibrate(both, top_fraction=1.0))
    rows = []
    for record in both:
        key = _place(record)
        decision = decide(
            [scored[part][key] for part in ("video", "face") if key in scored[part]],
            kind=Kind.VIDEO,
            policy=Policy(),
        )
        rows.append(
            ClipRow(
                path=record.path,
                label=record.label,
                source=record.source,
                view=record.view,
                scores={
                    part: scored[part][key].score or 0.0 for part in PARTS if key in scored[part]
                },
                probability=decision.probability or 0.0,
                verdict=decision.verdict,
            )
        )
    return rows, fit_calibration(both)


def join_people(faces: Sequence[FileLogits]) -> list[FileLogits]:
    """One record for each person of a clip in a view, with the logits of all frames."""
    people: dict[tuple[str, str, str], list[FileLogits]] = {}
    for record in faces:
        clip, _, place = record.path.partition("#")
        people.setdefault((clip, place.partition(".")[2], record.view), []).append(record)
    return [
        replace(frames[0], logits=tuple(logit for frame in frames for logit in frame.logits))
        for frames in people.values()
    ]


def _by_clip(part: str, scored: Sequence[ScoredRecord]) -> dict[tuple[str, str], Evidence]:
    """Evidence by clip and view; of several people the most suspicious, as the detector has it."""
    places: dict[tuple[str, str], list[ScoredRecord]] = {}
    for one in scored:
        places.setdefault(_place(one.record), []).append(one)
    made = {}
    for place, inside in places.items():
        worst = max(inside, key=lambda one: one.score)
        made[place] = Evidence(
            source=part,
            status=Status.OK,
            claim="",
            score=share_prior(worst.score, among=len(inside)),
            points=worst.points,
        )
    return made


def _place(record: FileLogits) -> tuple[str, str]:
    """The clip and the view; a face's record adds the frame to the path."""
    return record.path.partition("#")[0], record.view


def _odds(evidence: Evidence) -> float:
    return float(logit(evidence.score))


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
        auc={name: _separation(mine, genuine, name) for name in (*PARTS, "fused")},
        flagged_synthetic=float(np.mean([row.verdict is Verdict.SYNTHETIC for row in mine])),
        flagged=float(np.mean([row.verdict in _FIRM for row in mine])),
        cleared=float(np.mean([row.verdict is Verdict.AUTHENTIC for row in mine])),
    )


def _separation(mine: Sequence[ClipRow], genuine: Sequence[ClipRow], name: str) -> float:
    def scores(rows: Sequence[ClipRow]) -> list[float]:
        if name == "fused":
            return [row.probability for row in rows]
        return [row.scores[name] for row in rows if name in row.scores]

    return separation(scores(mine), scores(genuine)) if mine[0].label else float("nan")


def fused_tables(sources: Sequence[VideoRow], fused: Sequence[FusedRow]) -> str:
    """Markdown: all clips by view, then systems, then genuine sources."""
    head = ["view", "clips", "mean AUC over systems", "pooled AUC", "EER", "TPR at 1 % FPR"]
    cells = [
        [r.view, r.clips, r.mean_auc, r.auc, r.eer, r.tpr_at_1, r.calibration_error] for r in fused
    ]
    parts = [markdown([*head, "calibration error"], cells)]
    names = [*(f"AUC, {part}" for part in PARTS), "AUC, fused"]
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
