"""The findings as one page that opens offline: the suspicious files side by side, and why.

Nothing in it is loaded from anywhere; thumbnails were drawn from pixels that the confined decoder
gave, and what comes from files is escaped.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from deepfake.files import replaced
from deepfake.text import printable

from ..manifests import CLASSES
from .candidates import Candidate
from .findings import KINDS, Code, Finding, trust_files
from .shortcuts import Shortcut

MOST_SHOWN = 100
"""Findings of one kind that the page shows."""
_HERE = Path(__file__).parent


def write_page(
    candidates: Sequence[Candidate],
    findings: Sequence[Finding],
    path: Path,
    *,
    shortcuts: Sequence[Shortcut],
    unread: Sequence[tuple[str, str]],
    table: str,
) -> None:
    """Write the page; ``table`` is the name of the table of decisions, ``unread`` are names of
    files with the reason why they cannot be used.
    """
    environment = Environment(
        autoescape=True,
        loader=FileSystemLoader(_HERE),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters |= {
        "shown": lambda text: printable(str(text), most=300),
        "base64": lambda content: base64.b64encode(content).decode(),
        "number": show_number,
    }
    page = environment.get_template("page.html").render(
        candidates=candidates,
        sections=sort_findings(findings),
        kinds=KINDS,
        classes=CLASSES,
        doubted=int(np.sum(trust_files(findings, count=len(candidates)) < 1)),
        shortcuts=shortcuts,
        unread=unread,
        table=table,
        most=MOST_SHOWN,
    )
    with replaced(path) as partial:
        partial.write_text(page, encoding="utf-8")


def sort_findings(findings: Sequence[Finding]) -> list[tuple[Code, list[Finding]]]:
    """The findings of each kind, the gravest kind and the strongest finding first."""
    return [
        (code, sorted(some, key=lambda one: (-one.strength, one.files)))
        for code in Code
        if (some := [one for one in findings if one.code is code])
    ]


def show_number(value: float) -> str:
    """With two decimals, or a dash where there is none."""
    return "–" if math.isnan(value) else f"{value:.2f}"
