"""What a service tells of a file under each of its policies, read as an attacker reads it.

Reports are real ones, and what is left of them is decided by the service's own code. That code is
handed in (:data:`Redact`), because the training package stands below the service.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from deepfake.bundle import Calibration
from deepfake.engine.scores import Scored
from deepfake.fusion import Policy, decide
from deepfake.types import Evidence, Kind, MediaInfo, Report, Status, Verdict

from ..calibrate import fit_calibration
from ..records import FileLogits
from .material import Shelf

Floats = npt.NDArray[np.float64]
Redact = Callable[[Report, str], Report]
"""A report and the name of a policy to what a key with that policy sees."""
POLICIES = ("full", "rounded", "verdict")
WORDS = {
    Verdict.AUTHENTIC: -2.0,
    Verdict.INCONCLUSIVE: 0.0,
    Verdict.SUSPICIOUS: 1.5,
    Verdict.SYNTHETIC: 3.0,
}
"""What an attacker takes words for, in log-odds."""
_LEAST_ROUNDED = 0.02


@dataclass(frozen=True, kw_only=True)
class Service:
    """A detector whose only evidence is one head, and what it answers."""

    slot: str
    kind: Kind
    calibration: Calibration
    redact: Redact

    def report(self, logit: float) -> Report:
        """The whole report of a file with this logit."""
        scored = Scored.read(np.array([logit], np.float32), self.calibration)
        evidence = Evidence(
            source=self.slot,
            status=Status.OK,
            claim=f"Scores {scored.score:.3f}.",
            score=scored.score,
            interval=scored.interval,
            points=self.calibration.points,
            bundle=f"{self.slot}-0",
        )
        decision = decide([evidence], kind=self.kind, policy=Policy())
        return Report(
            path="file",
            media=MediaInfo(kind=self.kind, format="png", sha256="0" * 64, bytes=1),
            verdict=decision.verdict,
            probability=decision.probability,
            interval=decision.interval,
            reasons=decision.reasons,
            evidence=(evidence,),
            warnings=(),
            versions={},
            seconds_by_step={},
        )

    def ask(self, logit: float, policy: str) -> dict[str, Any]:
        """The JSON that comes back for a file with this logit."""
        return self.redact(self.report(logit), policy).to_dict()

    def read(self, logits: Floats, policy: str) -> tuple[Floats, npt.NDArray[np.bool_]]:
        """What an attacker makes of the answers to queries with these logits (n,): log-odds (n,),
        coarse where answers are, and which were called suspicious or more (n,).
        """
        answers = [self.ask(float(logit), policy) for logit in logits]
        odds = np.array([read_odds(answer) for answer in answers])
        alarms = (Verdict.SUSPICIOUS, Verdict.SYNTHETIC)
        return odds, np.array([answer["verdict"] in alarms for answer in answers])


def read_odds(answer: dict[str, Any]) -> float:
    """Log-odds from the most exact number in an answer, or from its word."""
    numbers = [answer["probability"], *(item["score"] for item in answer["evidence"])]
    known = [number for number in numbers if number is not None]
    if not known:
        return WORDS[Verdict(answer["verdict"])]
    coarse = all(round(number, 1) == number for number in known)
    least = _LEAST_ROUNDED if coarse else 1e-6
    probability = min(max(known[0], least), 1 - least)
    return float(np.log(probability / (1 - probability)))


def open_service(shelf: Shelf, redact: Redact) -> Service:
    """A service whose scores mean what ``deepfake train`` would have them mean: a calibration on
    the files of every fold by a head that did not see them.
    """
    records = []
    place = np.concatenate([np.arange(len(shelf.files)), shelf.lessons.files])
    rows = np.concatenate([shelf.clean, shelf.lessons.rows])
    for number, fold in enumerate(tqdm(shelf.folds, desc="calibration", disable=None, leave=False)):
        out = ~shelf.outside(fold)
        chosen = np.flatnonzero(out[place])
        logits = shelf.fit(~out)(rows[chosen, :-1])
        for index, logit in zip(place[chosen].tolist(), logits.tolist(), strict=True):
            one = shelf.files[index]
            records.append(
                FileLogits(
                    path=str(one.path),
                    label=one.label,
                    source=one.source,
                    group=fold.group,
                    fold=number,
                    view="any",
                    logits=(logit,),
                )
            )
    return Service(
        slot=shelf.base.slot,
        kind=shelf.base.kind,
        calibration=fit_calibration(records, each_source=True),
        redact=redact,
    )
