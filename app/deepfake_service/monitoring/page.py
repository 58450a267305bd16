"""The page of the monitor: one document that loads nothing."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from .field import Held
from .monitor import Standing

WIDTH, HEIGHT = 480, 90
_TOP = 1.25
"""The highest evidence that is drawn; 1 is the limit of an alarm."""


def render_monitor(streams: Sequence[Standing], field: Sequence[Held]) -> str:
    """The page as HTML."""
    return _template().render(streams=streams, field=field)


def draw_past(past: Sequence[float]) -> Markup:
    """The evidence over time, below the line at which an alarm is given."""
    step = WIDTH / max(1, len(past) - 1)
    points = " ".join(f"{index * step:.1f},{_level(it):.1f}" for index, it in enumerate(past))
    said = f"evidence over the last files, now {past[-1]:.2f} of the limit" if past else "no files"
    limit = f"{_level(1.0):.1f}"
    return Markup(
        '<svg viewBox="0 0 {width} {height}" role="img" aria-label="{said}">'
        '<line class="limit" x1="0" y1="{limit}" x2="{width}" y2="{limit}"/>'
        '<polyline class="past" points="{points}"/></svg>'
    ).format(width=WIDTH, height=HEIGHT, said=said, limit=limit, points=points)


def _level(evidence: float) -> float:
    return (HEIGHT - 2) * (1 - min(evidence, _TOP) / _TOP) + 1


@cache
def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["drawn"] = draw_past
    environment.filters["percent"] = lambda share: f"{share:.1%}".replace("%", " %")
    return environment.get_template("monitor.html")
