"""Reports as JSON values and back: schema ``deepfake-report/1``.

Keys are only ever added within a version of the schema; a key that changes its meaning makes a new
version. ``REPORT_SCHEMA`` is the JSON Schema (draft 2020-12) that every report keeps to; what was
added since the first release (``examined_at``) is not required, so older reports still keep to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from .reasons import read_code
from .types import (
    SCHEMA,
    Evidence,
    Heatmap,
    Kind,
    MediaInfo,
    OperatingPoints,
    Reason,
    Report,
    Status,
    Timeline,
    Verdict,
    Weight,
)

_SCORE = {"type": ["number", "null"], "minimum": 0, "maximum": 1}
_INTERVAL = {
    "type": ["array", "null"],
    "items": {"type": "number", "minimum": 0, "maximum": 1},
    "minItems": 2,
    "maxItems": 2,
}
_TEXTS = {"type": "array", "items": {"type": "string"}}
_UTC = "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$"

REPORT_SCHEMA: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": SCHEMA,
    "type": "object",
    "required": [
        *("schema", "path", "sha256", "kind", "verdict", "probability", "interval", "reasons"),
        *("evidence", "warnings", "versions", "seconds", "media", "seconds_by_step"),
    ],
    "properties": {
        "schema": {"const": SCHEMA},
        "path": {"type": "string"},
        "sha256": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
        "kind": {"enum": [kind.value for kind in Kind]},
        "verdict": {"enum": [verdict.value for verdict in Verdict]},
        "probability": _SCORE,
        "interval": _INTERVAL,
        "reasons": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["code", "text"],
                "properties": {"code": {"type": "string"}, "text": {"type": "string"}},
            },
        },
        "evidence": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["source", "status", "reason", "score", "claim"],
                "properties": {
                    "source": {"type": "string"},
                    "status": {"enum": [status.value for status in Status]},
                    "reason": {"type": ["string", "null"]},
                    "score": _SCORE,
                    "interval": _INTERVAL,
                    "claim": {"type": "string"},
                    "weight": {"enum": [weight.value for weight in Weight]},
                    "conclusive": {"type": "boolean"},
                    "timelines": {"type": "array"},
                    "heatmaps": {"type": "array"},
                    "details": {"type": "object"},
                },
            },
        },
        "warnings": _TEXTS,
        "versions": {"type": "object", "additionalProperties": {"type": "string"}},
        "examined_at": {"type": ["string", "null"], "pattern": _UTC},
        "seconds": {"type": "number", "minimum": 0},
        "seconds_by_step": {"type": "object"},
        "media": {"type": "object"},
    },
}


def report_to_dict(report: Report) -> dict[str, Any]:
    """A report as JSON values; numbers keep 6 decimals, heat maps 3."""
    media = asdict(report.media)
    return {
        "schema": SCHEMA,
        "path": report.path,
        "sha256": report.media.sha256,
        "kind": report.media.kind.value,
        "verdict": report.verdict.value,
        "probability": _rounded(report.probability),
        "interval": _rounded(report.interval),
        "reasons": [{"code": str(one.code), "text": one.text} for one in report.reasons],
        "evidence": [_evidence_to_dict(evidence) for evidence in report.evidence],
        "warnings": list(report.warnings),
        "versions": dict(report.versions),
        "examined_at": report.examined_at,
        "seconds": round(report.seconds, 4),
        "seconds_by_step": {key: round(v, 4) for key, v in report.seconds_by_step.items()},
        "media": {**media, "kind": report.media.kind.value},
    }


def report_from_dict(values: Mapping[str, Any]) -> Report:
    """The inverse of :func:`report_to_dict`; raises ``ValueError`` for another schema."""
    if values.get("schema") != SCHEMA:
        raise ValueError(f"report schema {values.get('schema')!r}: this version reads {SCHEMA}")
    media = {**values["media"], "kind": Kind(values["media"]["kind"])}
    return Report(
        path=values["path"],
        media=MediaInfo(**media),
        verdict=Verdict(values["verdict"]),
        probability=values["probability"],
        interval=_pair(values["interval"]),
        reasons=tuple(
            Reason(code=read_code(one["code"]), text=one["text"]) for one in values["reasons"]
        ),
        evidence=tuple(_evidence_from_dict(evidence) for evidence in values["evidence"]),
        warnings=tuple(values["warnings"]),
        versions=values["versions"],
        seconds_by_step=values["seconds_by_step"],
        examined_at=values.get("examined_at"),
    )


def _evidence_to_dict(evidence: Evidence) -> dict[str, Any]:
    points = evidence.points
    return {
        "source": evidence.source,
        "status": evidence.status.value,
        "reason": None if evidence.reason is None else str(evidence.reason),
        "score": _rounded(evidence.score),
        "interval": _rounded(evidence.interval),
        "claim": evidence.claim,
        "weight": evidence.weight.value,
        "conclusive": evidence.weight is Weight.PROOF,  # the older key, for older readers
        "points": None if points is None else _rounded(asdict(points)),
        "timelines": [
            {
                "name": timeline.name,
                "seconds": [round(second, 3) for second in timeline.seconds],
                "scores": _rounded(timeline.scores),
                "window_seconds": timeline.window_seconds,
            }
            for timeline in evidence.timelines
        ],
        "heatmaps": [
            {
                "name": heatmap.name,
                "second": heatmap.second,
                "box": None if heatmap.box is None else [round(side, 1) for side in heatmap.box],
                "values": [[round(value, 3) for value in row] for row in heatmap.values],
            }
            for heatmap in evidence.heatmaps
        ],
        "details": dict(evidence.details),
    }


def _evidence_from_dict(values: Mapping[str, Any]) -> Evidence:
    points = values["points"]
    return Evidence(
        source=values["source"],
        status=Status(values["status"]),
        reason=None if values["reason"] is None else read_code(values["reason"]),
        score=values["score"],
        interval=_pair(values["interval"]),
        claim=values["claim"],
        weight=_weight(values),
        points=None if points is None else OperatingPoints(**points),
        timelines=tuple(
            Timeline(
                name=timeline["name"],
                seconds=tuple(timeline["seconds"]),
                scores=tuple(timeline["scores"]),
                window_seconds=timeline["window_seconds"],
            )
            for timeline in values["timelines"]
        ),
        heatmaps=tuple(
            Heatmap(
                name=heatmap["name"],
                second=heatmap["second"],
                box=_box(heatmap.get("box")),
                values=tuple(tuple(row) for row in heatmap["values"]),
            )
            for heatmap in values["heatmaps"]
        ),
        details=values["details"],
    )


def _weight(values: Mapping[str, Any]) -> Weight:
    """Older reports have ``conclusive`` alone, which unsigned text could earn; it is read as what
    it is worth today. Their verdicts stay as they were given.
    """
    if "weight" in values:
        return Weight(values["weight"])
    if values["conclusive"]:
        proved = values["source"] == "watermark" or values["details"].get("state") == "trusted"
        return Weight.PROOF if proved else Weight.CLAIM
    return Weight.HINT if values["details"].get("strength") == "hint" else Weight.SCORE


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 6)
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    if isinstance(value, tuple):
        return [_rounded(inner) for inner in value]
    return value


def _box(values: Any) -> tuple[float, float, float, float] | None:
    return None if values is None else (values[0], values[1], values[2], values[3])


def _pair(values: Any) -> tuple[float, float] | None:
    return None if values is None else (values[0], values[1])
