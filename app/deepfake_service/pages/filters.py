"""The query of the history as a filter of cases."""

from __future__ import annotations

from datetime import UTC, date, datetime
from enum import StrEnum
from typing import TypeVar
from urllib.parse import urlencode

from starlette.datastructures import QueryParams

from deepfake.errors import ServiceError
from deepfake.types import Kind, Verdict

from ..store.cases import UNRULED, Filter
from ..store.keys import DAY_MS
from ..store.tables import Ruling

FIELDS = ("verdict", "kind", "ruling", "since", "until", "name", "search")
MOST_CHARACTERS = 200
Choice = TypeVar("Choice", bound=StrEnum)


def read_filter(query: QueryParams) -> Filter:
    """The filter that a query asks for; dates are days in UTC, the last one included.

    Raises ``ServiceError`` (422).
    """
    given = {name: query.get(name, "").strip() for name in FIELDS}
    for name, text in given.items():
        if len(text) > MOST_CHARACTERS:
            raise _wrong(name, text, f"write at most {MOST_CHARACTERS} characters")
    if given["ruling"] not in ("", UNRULED, *Ruling):
        raise _wrong("ruling", given["ruling"], f"choose some of {', '.join(Ruling)}, {UNRULED}")
    since, until = (_read_day(name, given[name]) for name in ("since", "until"))
    return Filter(
        verdict=_choose(Verdict, "verdict", given["verdict"]),
        kind=_choose(Kind, "kind", given["kind"]),
        ruling=given["ruling"] or None,
        since=since,
        until=None if until is None else until + DAY_MS,
        name=given["name"],
        words=given["search"],
    )


def write_query(query: QueryParams, **more: object) -> str:
    """The same filter as the query of another address, and ``more``."""
    kept = {name: query[name] for name in FIELDS if query.get(name)}
    return urlencode(kept | more)


def read_number(query: QueryParams, name: str) -> int | None:
    """A cursor. Raises ``ServiceError`` (422)."""
    text = query.get(name, "")
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise _wrong(name, text, "leave it away to begin anew")
    return int(text)


def _choose(choices: type[Choice], name: str, text: str) -> Choice | None:
    if not text:
        return None
    try:
        return choices(text)
    except ValueError:
        raise _wrong(name, text, f"choose some of {', '.join(choices)}") from None


def _read_day(name: str, text: str) -> int | None:
    if not text:
        return None
    try:
        day = date.fromisoformat(text)
    except ValueError:
        raise _wrong(name, text, "write it as 2026-03-31") from None
    if day == date.max:
        raise _wrong(name, text, "choose a day that another one follows")
    return round(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp() * 1000)


def _wrong(name: str, text: str, hint: str) -> ServiceError:
    return ServiceError(f"{name} {text[:40]!r}: cannot be used", hint=hint, status=422)
