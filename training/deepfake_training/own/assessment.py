"""How the logits of left-out files are read, and what they come to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from deepfake.bundle import Calibration
from deepfake.errors import DeepfakeError

from ..calibrate import choose_pooling, cross_calibrate, fit_calibration
from ..metrics import SourceRow, ViewRow, tabulate
from ..records import FileLogits
from .folds import Judged


@dataclass(frozen=True)
class Assessed:
    """How the logits of left-out files are read, and what they come to; of a clip also together
    with its single frames.
    """

    calibration: Calibration
    sources: list[SourceRow]
    views: list[ViewRow]
    frames_calibration: Calibration | None = None
    clips: tuple[list[SourceRow], list[ViewRow]] | None = None


def assess(judged: Sequence[Judged], *, slot: str) -> Assessed:
    """Calibrate on left-out files and tabulate, every number by a calibration without the source.

    As for the shipped bundles, the limits hold their false-positive rates on 95 % of the genuine
    sources.
    """
    records = [one.record for one in judged]
    top_fraction = choose_pooling(records) if slot == "image" else 1.0
    calibration = fit_calibration(records, top_fraction=top_fraction, each_source=True)
    sources, views = tabulate(records, calibration, each_source=True)
    assessed = Assessed(calibration, sources, views)
    if slot != "video":
        return assessed
    together = add_frames(judged)
    if len({record.label for record in together}) < 2:
        return assessed
    both = fit_calibration(together, each_source=True)
    clips = tabulate(together, both, each_source=True)
    return replace(assessed, frames_calibration=both, clips=clips)


def add_frames(judged: Sequence[Judged]) -> list[FileLogits]:
    """The log-odds of motion and of the single frames of every clip added, as the detector does."""
    frames = {(one.record.path, one.record.view): one.frames for one in judged}
    records = [one.record for one in judged]
    found = []
    for scored in cross_calibrate(records, top_fraction=1.0, each_source=True):
        odds = float(np.log(scored.score / (1 - scored.score)))
        still = frames[scored.record.path, scored.record.view]
        if np.isfinite(still):
            found.append(replace(scored.record, logits=(odds + still,)))
    return found


def check_worth(name: str, assessed: Assessed) -> None:
    """Raise ``DeepfakeError`` where it does no better than chance on what it never saw."""
    views = assessed.views if assessed.clips is None else assessed.clips[1]
    area = float(np.mean([view.mean_auc for view in views]))
    calibrations = filter(None, (assessed.calibration, assessed.frames_calibration))
    if area <= 0.5 or any(calibration.slope <= 0 for calibration in calibrations):
        raise DeepfakeError(
            f"detector {name}: tells left-out sources no better than chance (mean AUC {area:.2f}); "
            "nothing was written",
            hint="add sources to both classes, the more alike in content the better; see the table",
        )
