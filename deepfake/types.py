"""The words of the system: Media → Analyzer → Evidence → Report.

Everything here is plain data: it can be compared, stored as JSON and read back, and it imports
neither a decoder nor a runtime.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from .reasons import Code

SCHEMA = "deepfake-report/1"


class Kind(StrEnum):
    IMAGE = "image"
    AUDIO = "audio"
    VIDEO = "video"


class Verdict(StrEnum):
    SYNTHETIC = "synthetic"
    SUSPICIOUS = "suspicious"
    AUTHENTIC = "authentic"
    INCONCLUSIVE = "inconclusive"

    @property
    def label(self) -> str:
        """The words shown to people; *authentic* never claims more than was looked for."""
        return "no sign of synthesis found" if self is Verdict.AUTHENTIC else self.value


class Status(StrEnum):
    OK = "ok"
    SKIPPED = "skipped"
    FAILED = "failed"


class Weight(StrEnum):
    """What a finding is worth; ``deepfake.fusion`` says what each may decide.

    *score*: as much as its score says, nothing without one. *hint*: the name of a generator, which
    has harmless explanations. *claim*: a declaration that anyone can write into a file. *proof*:
    the declaration of a signer on the trust list, or a decoded watermark.
    """

    SCORE = "score"
    HINT = "hint"
    CLAIM = "claim"
    PROOF = "proof"


@dataclass(frozen=True, kw_only=True)
class MediaInfo:
    """What is known of a file without judging it. ``seconds`` is the playing time."""

    kind: Kind
    format: str
    sha256: str
    bytes: int
    width: int | None = None
    height: int | None = None
    seconds: float | None = None
    frame_rate: float | None = None
    sample_rate: int | None = None
    has_audio: bool = False


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """Scores over time: ``scores[i]`` covers ``seconds[i]`` … ``seconds[i] + window_seconds``.

    ``window_seconds`` is 0 for single frames. Scores are calibrated P(synthetic) in 0…1.
    """

    name: str
    seconds: tuple[float, ...]
    scores: tuple[float, ...]
    window_seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Heatmap:
    """A coarse grid of scores over a picture, rows from the top, each value in 0…1.

    The grid spans ``box`` (left, top, right, bottom in pixels of the upright picture or frame), all
    of it without one, or, in one row, the whole sound. ``second`` is the frame's time in a video.
    """

    name: str
    values: tuple[tuple[float, ...], ...]
    second: float | None = None
    box: tuple[float, float, float, float] | None = None


@dataclass(frozen=True, kw_only=True)
class OperatingPoints:
    """Score limits of one bundle, set on sources that its training never saw.

    ``synthetic`` and ``suspicious`` hold the false-positive rates stated in the model card
    (at most 1 % and 5 % on the calibration sources); below ``authentic`` a file shows no sign of
    synthesis; between ``authentic`` and ``suspicious`` the evidence is not enough either way.
    """

    authentic: float
    suspicious: float
    synthetic: float


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What one analyzer found.

    ``score`` is a calibrated P(synthetic), or None where the source makes no such estimate, as for
    claims and hints. ``interval`` bounds the score. ``claim`` is one sentence for a person, of
    whatever ``weight``; ``reason`` a code when ``status`` is not ok, or a caution (such as
    ``graphic_not_photo``) when it is. ``details`` holds JSON values only; what a hint, claim or
    proof ``declares`` (``generated``, ``edited``, ``capture``) is among them.
    """

    source: str
    status: Status
    claim: str
    reason: Code | str | None = None
    score: float | None = None
    interval: tuple[float, float] | None = None
    points: OperatingPoints | None = None
    weight: Weight = Weight.SCORE
    timelines: tuple[Timeline, ...] = ()
    heatmaps: tuple[Heatmap, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def declares_synthesis(self) -> bool:
        """Whether a hint, claim or proof says that a generative model made or edited the file."""
        declared = self.details.get("declares") in ("generated", "edited")
        return self.weight is Weight.HINT or (self.weight is not Weight.SCORE and declared)


@dataclass(frozen=True, kw_only=True)
class Reason:
    """Why the verdict is what it is: a stable code and a sentence for a person.

    The code is a text where the report is of another version, or the source an analyzer of yours.
    """

    code: Code | str
    text: str


@dataclass(frozen=True, kw_only=True)
class Report:
    """The answer for one file.

    ``probability`` is P(synthetic) at the prior of the options, None when nothing could be
    estimated; ``interval`` bounds it. ``seconds_by_step`` holds wall seconds. ``examined_at`` is
    when the examination began, in UTC as ISO 8601 has it (``2026-03-01T09:30:00Z``), and None in
    reports from before it was kept; two reports that differ in nothing else are equal.
    """

    path: str
    media: MediaInfo
    verdict: Verdict
    probability: float | None
    interval: tuple[float, float] | None
    reasons: tuple[Reason, ...]
    evidence: tuple[Evidence, ...]
    warnings: tuple[str, ...]
    versions: Mapping[str, str]
    seconds_by_step: Mapping[str, float]
    examined_at: str | None = field(default=None, compare=False)

    @property
    def seconds(self) -> float:
        return sum(self.seconds_by_step.values())

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON values, schema ``deepfake-report/1`` (see ``deepfake.schema``)."""
        from .schema import report_to_dict

        return report_to_dict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Report:
        """The inverse of :meth:`to_dict`; raises ValueError for another schema."""
        from .schema import report_from_dict

        return report_from_dict(values)

    def summary(self) -> str:
        """One line for a log: path, verdict, probability and the leading reason."""
        probability = "–" if self.probability is None else f"{self.probability:.2f}"
        reason = self.reasons[0].text if self.reasons else ""
        return f"{self.path}: {self.verdict.label} (P(synthetic) {probability}). {reason}"
