"""Reports and evidence as plain JSON values: what ``deepfake.types`` writes and reads.

A stored report may be of any release and is read as if anyone had written it: an optional value
that is missing or odd is left out, and a list keeps those of its items that can be read. Only what
nothing can be said without raises ``ValueError``.

What releases before ``faces``, ``tracks``, ``segments``, ``bundle``, ``runtime`` and ``box`` had in
``details`` is read from there, and still written there too, as keys are only ever added within a
version of the schema. In memory it is in one place, the typed one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any

from .reasons import Code, read_code

_Box = tuple[float, float, float, float]
Values = Mapping[str, Any]

_DECIMALS = {"values": 3, "box": 1, "seconds": 3, "start": 3, "end": 3}
"""Digits that are kept of a number, by its key; 6 of others."""
_WHOLE = frozenset({"second", "window_seconds"})


def to_json(value: Any, *, key: str = "") -> Any:
    """Nested values of dataclasses as JSON values, rounded by the ``key`` that they are under."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, float):
        return value if key in _WHOLE else round(value, _DECIMALS.get(key, 6))
    if isinstance(value, Mapping):
        return {name: to_json(inner, key=name) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(inner, key=key) for inner in value]
    return value


def add_older(values: Values, details: Values) -> dict[str, Any]:
    """``details`` with what older readers look for there, of evidence ``values`` as JSON."""
    return _older(values) | dict(details)


def read_media(values: Any) -> dict[str, Any]:
    """The fields of ``MediaInfo``; raises ``ValueError`` without those that have no default."""
    media = values if isinstance(values, Mapping) else {}
    known = {
        "kind": text(media.get("kind")),
        "format": text(media.get("format")),
        "sha256": text(media.get("sha256")),
        "bytes": count(media.get("bytes")),
    }
    missing = [name for name, value in known.items() if value is None]
    if missing:
        raise ValueError(f"report: its media have no {', '.join(missing)}")
    return known | {
        "width": count(media.get("width")),
        "height": count(media.get("height")),
        "seconds": number(media.get("seconds")),
        "frame_rate": number(media.get("frame_rate")),
        "sample_rate": count(media.get("sample_rate")),
        "has_audio": media.get("has_audio") is True,
    }


def read_reason(item: Values) -> dict[str, Any] | None:
    """The fields of a ``Reason``."""
    known, said = code(item.get("code")), text(item.get("text"))
    return None if known is None or said is None else {"code": known, "text": said}


def read_evidence(values: Values) -> dict[str, Any]:
    """The fields of ``Evidence`` as JSON values, boxes and rows as tuples, of any release.

    Raises ``ValueError`` without source, status or claim.
    """
    details = values.get("details")
    details = dict(details) if isinstance(details, Mapping) else {}
    given = details | dict(values)  # where older releases had them
    known: dict[str, Any] = {key: text(values.get(key)) for key in ("source", "status", "claim")}
    if None in known.values():
        raise ValueError("evidence: without source, status or claim")
    known |= {
        "reason": code(values.get("reason")),
        "score": share(values.get("score")),
        "interval": pair(values.get("interval")),
        "points": _points(values.get("points")),
        "weight": _weight(values, details),
        "declares": text(given.get("declares")),
        "bundle": text(given.get("bundle")),
        "runtime": text(given.get("runtime")),
        "box": box(values["box"]) if "box" in values else _panel(details.get("panel")),
        "timelines": items(values.get("timelines"), _timeline),
        "heatmaps": items(values.get("heatmaps"), _heatmap),
        "faces": items(given.get("faces"), _face),
        "tracks": items(given.get("tracks"), _track),
        "segments": items(given.get("segments"), _segment),
    }
    older = _older(to_json(known))
    kept = {k: v for k, v in details.items() if k not in older or older[k] != v}
    return known | {"details": kept}


def items(
    values: Any, read: Callable[[Values], dict[str, Any] | None]
) -> tuple[dict[str, Any], ...]:
    """What ``read`` makes of the objects of a list, those left out of which it makes nothing."""
    if not isinstance(values, list | tuple):
        return ()
    found = (read(item) for item in values if isinstance(item, Mapping))
    return tuple(item for item in found if item is not None)


def code(value: Any) -> Code | str | None:
    """A reason code, or a text that is none in this release."""
    return read_code(value) if isinstance(value, str) else None


def text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def mapping(value: Any) -> dict[str, Any] | None:
    return value if isinstance(value, dict) else None


def number(value: Any) -> float | None:
    """A finite number, or None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None


def count(value: Any) -> int | None:
    return value if type(value) is int and value >= 0 else None


def share(value: Any) -> float | None:
    """A number in 0…1, or None."""
    found = number(value)
    return found if found is not None and 0 <= found <= 1 else None


def pair(value: Any) -> tuple[float, float] | None:
    """Two shares, the lower one first, or None."""
    found = _all(value, share)
    return (found[0], found[1]) if len(found) == 2 and found[0] <= found[1] else None


def box(value: Any) -> _Box | None:
    """Left, top, right and bottom, or None."""
    found = _all(value, number)
    return (found[0], found[1], found[2], found[3]) if len(found) == 4 else None


def _all(value: Any, read: Callable[[Any], float | None]) -> tuple[float, ...]:
    """All of a list, or nothing of it where one is odd."""
    found = [read(item) for item in value] if isinstance(value, list | tuple) else []
    known = tuple(item for item in found if item is not None)
    return known if len(known) == len(found) else ()


def _points(value: Any) -> dict[str, float] | None:
    names = ("authentic", "suspicious", "synthetic")
    found = [share(value.get(name)) for name in names] if isinstance(value, Mapping) else []
    known = [limit for limit in found if limit is not None]
    return dict(zip(names, known, strict=True)) if len(known) == len(names) else None


def _timeline(item: Values) -> dict[str, Any] | None:
    name, seconds = text(item.get("name")), _all(item.get("seconds"), number)
    scores = _all(item.get("scores"), share)
    if name is None or len(seconds) != len(scores):
        return None
    window = number(item.get("window_seconds")) or 0.0
    return {"name": name, "seconds": seconds, "scores": scores, "window_seconds": max(0.0, window)}


def _heatmap(item: Values) -> dict[str, Any] | None:
    name, rows = text(item.get("name")), item.get("values")
    values = tuple(_all(row, share) for row in rows) if isinstance(rows, list | tuple) else ()
    lengths = {len(row) for row in values}
    if name is None or len(lengths) != 1 or 0 in lengths:
        return None
    second, around = number(item.get("second")), box(item.get("box"))
    return {"name": name, "values": values, "second": second, "box": around}


def _face(item: Values) -> dict[str, Any] | None:
    name, around = text(item.get("name")), box(item.get("box"))
    if name is None or around is None:
        return None
    score, reason = share(item.get("score")), code(item.get("reason"))
    return {"name": name, "box": around, "score": score, "reason": reason}


def _track(item: Values) -> dict[str, Any] | None:
    name, around = text(item.get("name")), box(item.get("box"))
    if name is None or around is None:
        return None
    times = {key: number(item.get(key)) for key in ("start", "end", "second")}
    return {"name": name, "box": around, "score": share(item.get("score"))} | times


def _segment(item: Values) -> dict[str, Any] | None:
    start, end, score = number(item.get("start")), number(item.get("end")), share(item.get("score"))
    if start is None or end is None or score is None:
        return None
    return {"start": start, "end": end, "score": score}


def _panel(value: Any) -> _Box | None:
    """The box of a photo within a picture, which was left, top, width and height."""
    found = box(value)
    return found and (found[0], found[1], found[0] + found[2], found[1] + found[3])


def _weight(values: Values, details: Values) -> str | None:
    """Older evidence has ``conclusive`` alone, which unsigned text could earn; it is read as what
    it is worth today. The verdicts of its reports stay as they were given.
    """
    if "weight" in values:
        return text(values["weight"])
    if values.get("conclusive") is True:
        return "proof" if details.get("state") == "trusted" else "claim"
    return "hint" if details.get("strength") == "hint" else "score"


def _older(values: Values) -> dict[str, Any]:
    """What older releases had in ``details`` of evidence ``values`` as JSON."""
    older = {key: values[key] for key in ("bundle", "runtime") if values[key] is not None}
    if values["box"] is not None:
        left, top, right, bottom = values["box"]
        older["panel"] = [left, top, right - left, bottom - top]
    if values["segments"] or values["timelines"]:
        older["segments"] = [_rounded(s, start=2, end=2, score=3) for s in values["segments"]]
    if values["faces"] or (values["source"], values["status"]) == ("face", "skipped"):
        older["faces"] = [_rounded(face, score=4) for face in values["faces"]]
    if values["tracks"]:
        digits = {"start": 2, "end": 2, "score": 4, "second": 3}
        older["tracks"] = [_rounded(track, **digits) for track in values["tracks"]]
    return older


def _rounded(values: Values, **digits: int) -> dict[str, Any]:
    numbers = {key: (values[key], most) for key, most in digits.items()}
    return dict(values) | {
        key: None if value is None else round(value, most) for key, (value, most) in numbers.items()
    }
