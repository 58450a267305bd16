"""What the JSON values of a report look like: schema ``deepfake-report/1``.

Keys are only ever added within a version of the schema; a key that changes its meaning makes a new
version. ``REPORT_SCHEMA`` is the JSON Schema (draft 2020-12) that every report keeps to; what was
added since the first release is not required, so older reports still keep to it. Added were
``examined_at``, ``bundles``, ``fingerprint``, and of evidence ``weight``, ``declares``, ``bundle``,
``runtime``, ``box``, ``faces``, ``tracks`` and ``segments``; the places in ``details`` that some of
them had before are still written (``deepfake.records``), and version 2 will drop them.
``details`` is for people.
"""

from __future__ import annotations

from typing import Any

from .types import SCHEMA, Declares, Kind, Status, Verdict, Weight

_SCORE = {"type": ["number", "null"], "minimum": 0, "maximum": 1}
_INTERVAL = {
    "type": ["array", "null"],
    "items": {"type": "number", "minimum": 0, "maximum": 1},
    "minItems": 2,
    "maxItems": 2,
}
_NUMBER, _MAYBE = {"type": "number"}, {"type": ["number", "null"]}
_TEXT, _MAYBE_TEXT = {"type": "string"}, {"type": ["string", "null"]}
_BOX = {"type": "array", "items": _NUMBER, "minItems": 4, "maxItems": 4}
_MAYBE_BOX = _BOX | {"type": ["array", "null"]}
_TEXTS = {"type": "array", "items": {"type": "string"}}
_UTC = "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$"


def _said(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    """A schema that says what its value means."""
    return schema | {"description": description}


def _list_of(required: dict[str, Any], **optional: Any) -> dict[str, Any]:
    item = {"type": "object", "required": list(required), "properties": required | optional}
    return {"type": "array", "items": item}


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
        "path": _said("as it was given, or the name", _TEXT),
        "sha256": _said("of the file's bytes", {"type": "string", "pattern": "^[0-9a-f]{64}$"}),
        "kind": {"enum": [kind.value for kind in Kind]},
        "verdict": {"enum": [verdict.value for verdict in Verdict]},
        "probability": _said("P(synthetic) at the prior of the options", _SCORE),
        "interval": _said("bounds of the probability", _INTERVAL),
        "reasons": {
            "description": "why the verdict is what it is, the leading one first",
            "type": "array",
            "items": {
                "type": "object",
                "required": ["code", "text"],
                "properties": {"code": {"type": "string"}, "text": {"type": "string"}},
            },
        },
        "evidence": {
            "description": "what each source found",
            "type": "array",
            "items": {
                "type": "object",
                "required": ["source", "status", "reason", "score", "claim"],
                "properties": {
                    "source": _said("the analyzer, such as image", _TEXT),
                    "status": {"enum": [status.value for status in Status]},
                    "reason": _said("code of a caution, or why it was not judged", _MAYBE_TEXT),
                    "score": _said("calibrated P(synthetic)", _SCORE),
                    "interval": _said("bounds of the score", _INTERVAL),
                    "claim": _said("one sentence for a person", _TEXT),
                    "weight": {"enum": [weight.value for weight in Weight]},
                    "conclusive": _said("older key: weight is proof", {"type": "boolean"}),
                    "timelines": _said("scores over time", {"type": "array"}),
                    "heatmaps": _said("grids of scores over a picture", {"type": "array"}),
                    "declares": _said(
                        "what the file says of itself",
                        {"enum": [*(word.value for word in Declares), None]},
                    ),
                    "bundle": _said("the model whose score it is", _MAYBE_TEXT),
                    "runtime": _said("what ran it", _MAYBE_TEXT),
                    "box": _said("the part that was judged, in pixels", _MAYBE_BOX),
                    "faces": _list_of(
                        {"name": _TEXT, "box": _BOX}, score=_SCORE, reason=_MAYBE_TEXT
                    ),
                    "tracks": _list_of(
                        {"name": _TEXT, "box": _BOX},
                        **{"score": _SCORE, "start": _MAYBE, "end": _MAYBE, "second": _MAYBE},
                    ),
                    "segments": _list_of({"start": _NUMBER, "end": _NUMBER, "score": _SCORE}),
                    "details": _said("for people; decides nothing", {"type": "object"}),
                },
            },
        },
        "warnings": _TEXTS,
        "versions": _said(
            "the package and the bundle of every slot",
            {"type": "object", "additionalProperties": {"type": "string"}},
        ),
        "bundles": _said(
            "the sha256 of the bundle of every slot",
            {"type": "object", "additionalProperties": {"type": "string"}},
        ),
        "examined_at": _said(
            "when it began, in UTC", {"type": ["string", "null"], "pattern": _UTC}
        ),
        "seconds": _said("wall time of the examination", {"type": "number", "minimum": 0}),
        "seconds_by_step": {"type": "object"},
        "media": _said("format, size, length and so on", {"type": "object"}),
        "fingerprint": _said("alike in all copies of the file", {"type": ["object", "null"]}),
    },
}
