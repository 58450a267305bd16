"""Templates filled for a guest.

What is put into a template is escaped twice: characters that a browser or an editor acts on, as
``display_name`` does, then for HTML. Pages load what this service serves, and nothing else.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from starlette.responses import HTMLResponse

from deepfake.text import display_name
from deepfake.types import Kind, Verdict

from ..store.tables import Ruling, word_time
from .access import Guest

HEADERS = {  # with another Referrer-Policy, browsers would say that forms come from nowhere
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}
SIGNS = {"synthetic": "◆", "suspicious": "▲", "authentic": "●", "inconclusive": "?"}
RULINGS = {
    Ruling.CONFIRM: "confirmed",
    Ruling.OVERTURN: "overturned",
    Ruling.ESCALATE: "escalated",
}
_HERE = Path(__file__).parent


def render(
    template: str,
    guest: Guest | None,
    *,
    status: int = 200,
    headers: dict[str, str] | None = None,
    **values: Any,
) -> HTMLResponse:
    """A page; ``values`` are what its template names."""
    text = _environment().get_template(template).render(guest=guest, **values)
    return HTMLResponse(text, status, headers)


@cache
def _environment() -> Environment:
    environment = Environment(
        autoescape=True,
        finalize=_shown,
        loader=FileSystemLoader(_HERE / "templates"),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters |= {"iso": word_time, "minute": word_minute, "lines": _lines}
    environment.globals |= {
        "kinds": [kind.value for kind in Kind],
        "zip": zip,
        "labels": {verdict.value: verdict.label for verdict in Verdict},
        "rulings": {ruling.value: word for ruling, word in RULINGS.items()},
        "signs": SIGNS,
    }
    return environment


@cache
def read_style() -> str:
    """The style of all pages: that of reports, dark where the reader's system is, and our own."""
    report = (files("deepfake_app") / "page.css").read_text(encoding="utf-8")
    before, _, after = report.partition(".dark {")
    dark, _, after = after.partition("}")
    own = (_HERE / "pages.css").read_text(encoding="utf-8")
    return f"{before}@media (prefers-color-scheme: dark) {{ :root {{{dark}}} }}{after}\n{own}"


@cache
def read_script() -> str:
    return (_HERE / "pages.js").read_text(encoding="utf-8")


def word_minute(moment: int) -> str:
    """A time of the tables in UTC, for people."""
    return f"{datetime.fromtimestamp(moment / 1000, UTC):%Y-%m-%d %H:%M} UTC"


def _lines(text: str) -> Markup:
    """Text of several lines, each escaped."""
    return Markup("<br>").join(map(display_name, text.splitlines()))


def _shown(value: Any) -> Any:
    """Text with what is not printable escaped, unless it is markup of ours."""
    return (
        value if hasattr(value, "__html__") or not isinstance(value, str) else display_name(value)
    )
