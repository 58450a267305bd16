"""The words of the system: Media → Analyzer → Evidence → Report.

Everything here is plain data: it can be compared, stored as JSON and read back, and it imports
neither a decoder nor a runtime.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any

from .reasons import Code
from .records import (
    add_older,
    items,
    mapping,
    number,
    pair,
    read_evidence,
    read_media,
    read_reason,
    share,
    text,
    to_json,
)

SCHEMA = "deepfake-report/1"
Box = tuple[float, float, float, float]
"""Left, top, right and bottom in pixels of the upright picture or frame."""


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
    has harmless explanations. *claim*: a declaration that anyone can write into a file, the
    watermark of an open generator too. *proof*: the declaration of a signer on the trust list.
    *ruling*: what somebody ruled on a file of which this one looks like a copy.
    """

    SCORE = "score"
    HINT = "hint"
    CLAIM = "claim"
    PROOF = "proof"
    RULING = "ruling"


class Declares(StrEnum):
    """What a file says of itself: that a model made it, that one changed it, that a camera did."""

    GENERATED = "generated"
    EDITED = "edited"
    CAPTURE = "capture"


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
    box: Box | None = None


@dataclass(frozen=True, kw_only=True)
class FaceFinding:
    """A face of a picture: its ``box`` (left, top, right, bottom in pixels of the upright picture)
    and its score, or the ``reason`` for which it has none.
    """

    name: str
    box: Box
    score: float | None = None
    reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class Track:
    """A person of a video, seen from ``start`` to ``end`` in seconds, with the score of all of it.

    ``box`` (left, top, right, bottom in pixels) is where the face is at ``second``, the moment with
    the highest score. What a stored report does not say is None.
    """

    name: str
    box: Box
    score: float | None = None
    start: float | None = None
    end: float | None = None
    second: float | None = None


@dataclass(frozen=True)
class Segment:
    """A stretch from ``start`` to ``end`` in seconds, with the mean ``score`` of its seconds."""

    start: float
    end: float
    score: float


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
    ``graphic_not_photo``) when it is. ``declares`` is what a hint, claim or proof says of the file.

    ``bundle`` names what the score is of and ``runtime`` what ran it; ``box`` (left, top, right,
    bottom in pixels) is the part of the picture that was judged, None for all of it. ``segments``
    are the stretches of the timelines that are suspicious by themselves. ``details`` are JSON
    values for people; nothing is decided by them.
    """

    source: str
    status: Status
    claim: str
    reason: Code | str | None = None
    score: float | None = None
    interval: tuple[float, float] | None = None
    points: OperatingPoints | None = None
    weight: Weight = Weight.SCORE
    declares: Declares | None = None
    bundle: str | None = None
    runtime: str | None = None
    box: Box | None = None
    timelines: tuple[Timeline, ...] = ()
    heatmaps: tuple[Heatmap, ...] = ()
    faces: tuple[FaceFinding, ...] = ()
    tracks: tuple[Track, ...] = ()
    segments: tuple[Segment, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def declares_synthesis(self) -> bool:
        """Whether a hint, claim or proof says that a generative model made or edited the file."""
        declared = self.declares in (Declares.GENERATED, Declares.EDITED)
        return self.weight is Weight.HINT or (self.weight is not Weight.SCORE and declared)

    def to_dict(self) -> dict[str, Any]:
        """The evidence as JSON values; numbers keep 6 decimals, heat maps 3."""
        values: dict[str, Any] = to_json(asdict(replace(self, details={})))
        values["details"] = add_older(values, self.details)
        return values | {"conclusive": self.weight is Weight.PROOF}  # the older key of ``weight``

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Evidence:
        """The inverse of :meth:`to_dict`, for evidence of any release; what is odd is left out.

        Raises ValueError for what is no evidence.
        """
        known = read_evidence(values)
        points, declares = known["points"], known["declares"]
        return cls(
            **known
            | {
                "status": Status(known["status"]),
                "weight": Weight(known["weight"]),
                "declares": Declares(declares) if declares in set(Declares) else None,
                "points": points and OperatingPoints(**points),
                "timelines": tuple(Timeline(**item) for item in known["timelines"]),
                "heatmaps": tuple(Heatmap(**item) for item in known["heatmaps"]),
                "faces": tuple(FaceFinding(**item) for item in known["faces"]),
                "tracks": tuple(Track(**item) for item in known["tracks"]),
                "segments": tuple(Segment(**item) for item in known["segments"]),
            }
        )


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

    ``versions`` names the package and the bundle of every slot, ``bundles`` the sha256 of each, by
    which a report is found that rests on one; it is empty in reports from before it was kept.
    ``probability`` is P(synthetic) at the prior of the options, None when nothing could be
    estimated; ``interval`` bounds it. ``seconds_by_step`` holds wall seconds. ``examined_at`` is
    when the examination began, in UTC as ISO 8601 has it (``2026-03-01T09:30:00Z``), and None in
    reports from before it was kept; two reports that differ in nothing else are equal.
    ``fingerprint`` is what all copies of the file have alike (:mod:`deepfake.known`), as JSON
    values; None where there is none.
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
    fingerprint: Mapping[str, Any] | None = None
    bundles: Mapping[str, str] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        return sum(self.seconds_by_step.values())

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON values, schema ``deepfake-report/1`` (see ``deepfake.schema``)."""
        return {
            "schema": SCHEMA,
            "path": self.path,
            "sha256": self.media.sha256,
            "kind": self.media.kind.value,
            "verdict": self.verdict.value,
            "probability": to_json(self.probability),
            "interval": to_json(self.interval),
            "reasons": to_json([asdict(reason) for reason in self.reasons]),
            "evidence": [evidence.to_dict() for evidence in self.evidence],
            "warnings": list(self.warnings),
            "versions": dict(self.versions),
            "bundles": dict(self.bundles),
            "examined_at": self.examined_at,
            "seconds": round(self.seconds, 4),
            "seconds_by_step": {key: round(v, 4) for key, v in self.seconds_by_step.items()},
            "media": {**asdict(self.media), "kind": self.media.kind.value},
            "fingerprint": self.fingerprint and dict(self.fingerprint),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Report:
        """The inverse of :meth:`to_dict`, for reports of any release; what is odd is left out, and
        a warning tells of evidence that is.

        Raises ValueError for another schema, and without path, verdict or what the media are.
        """
        if values.get("schema") != SCHEMA:
            raise ValueError(f"report schema {values.get('schema')!r}: this version reads {SCHEMA}")
        path, media = text(values.get("path")), read_media(values.get("media"))
        if path is None:
            raise ValueError("report: has no path")
        evidence, damaged = _read_all(values.get("evidence"))
        return cls(
            path=path,
            media=MediaInfo(**media | {"kind": Kind(media["kind"])}),
            verdict=Verdict(values.get("verdict", "")),
            probability=share(values.get("probability")),
            interval=pair(values.get("interval")),
            reasons=tuple(Reason(**item) for item in items(values.get("reasons"), read_reason)),
            evidence=evidence,
            warnings=(*_texts(values.get("warnings")), *damaged),
            versions=_named(values.get("versions"), text),
            bundles=_named(values.get("bundles"), text),
            seconds_by_step=_named(values.get("seconds_by_step"), number),
            examined_at=text(values.get("examined_at")),
            fingerprint=mapping(values.get("fingerprint")),
        )

    def summary(self) -> str:
        """One line for a log: path, verdict, probability and the leading reason."""
        probability = "–" if self.probability is None else f"{self.probability:.2f}"
        reason = self.reasons[0].text if self.reasons else ""
        return f"{self.path}: {self.verdict.label} (P(synthetic) {probability}). {reason}"


def _read_all(values: Any) -> tuple[tuple[Evidence, ...], list[str]]:
    """The evidence that can be read, and a sentence for each that cannot."""
    found, damaged = [], []
    for place, item in enumerate(values if isinstance(values, list) else [], start=1):
        try:
            found.append(Evidence.from_dict(item if isinstance(item, Mapping) else {}))
        except ValueError:
            damaged.append(f"Evidence {place} of the stored report is damaged and left out.")
    return tuple(found), damaged


def _texts(values: Any) -> list[str]:
    return [item for item in values if isinstance(item, str)] if isinstance(values, list) else []


def _named(values: Any, read: Callable[[Any], Any]) -> dict[str, Any]:
    """The items of an object whose value ``read`` makes something of."""
    found = values.items() if isinstance(values, Mapping) else ()
    return {str(name): known for name, value in found if (known := read(value)) is not None}
