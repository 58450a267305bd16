"""The list of results of several files, each of which opens its report."""

from __future__ import annotations

import html

from deepfake.text import printable
from deepfake.types import Report

from .charts import percent
from .views import SYMBOLS

TROUBLE = "!"


def render_start(files: int) -> str:
    """The beginning of a list of ``files`` results; rows are appended while they are made.

    The elements stay open on purpose: a browser closes them, and gradio then sends only what was
    added.
    """
    return (
        f'<div class="df-batch df-report"><h2 tabindex="-1">{files} files</h2>'
        '<p class="df-dim">Each opens its report.</p>'
    )


def render_row(name: str, page: str, *, report: Report | None) -> str:
    """One result: verdict, probability and name; ``page`` is what it opens."""
    if report is None:
        symbol, word, tone, shown = TROUBLE, "Not examined", "error", ""
    else:
        verdict = report.verdict
        symbol, word, tone = SYMBOLS[verdict], verdict.label.capitalize(), verdict.value
        shown = "no probability" if report.probability is None else percent(report.probability)
    title = html.escape(printable(name, most=120), quote=True)
    return (
        f'<details class="df-result df-{tone}"><summary><span class="df-symbol" aria-hidden="true">'
        f'{symbol}</span><span class="df-result-word">{word}</span>'
        f'<span class="df-result-share">{shown}</span>'
        f'<span class="df-result-name">{title}</span></summary>{page}</details>'
    )
