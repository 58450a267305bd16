"""Lists of cases as files: CSV for programs, PDF for people."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator

from fpdf import FPDF
from fpdf.fonts import FontFace

from deepfake.scan.tables import write_cell
from deepfake.types import Verdict

from ..store.cases import Ruled
from ..store.tables import Case, word_time
from ..web.pdf import latin
from .rendering import RULINGS, word_minute

MOST_CSV, MOST_PDF = 100_000, 1_000
COLUMNS = (
    *("report", "created", "name", "kind", "verdict", "probability", "sha256"),
    *("ruling", "note", "ruled_by", "ruled_at"),
)
MOST_NAME, MOST_NOTE = 90, 160
HEADS = ("Examined", "File", "Verdict", "P", "Ruling", "By", "Note")
WIDTHS = (36, 70, 32, 12, 24, 34, 69)

Rows = Iterable[tuple[Case, Ruled | None]]


def write_csv(rows: Rows) -> Iterator[str]:
    """The lines of a CSV file, in which nothing is a formula (see ``deepfake.scan.tables``)."""
    yield _line(COLUMNS)
    for case, ruled in rows:
        ruling = (
            (None, None, None, None)
            if ruled is None
            else (ruled.ruling.value, ruled.note, ruled.by, word_time(ruled.created))
        )
        yield _line(
            (
                *(case.report, word_time(case.created), case.name, case.kind, case.verdict),
                *(case.probability, case.sha256),
                *ruling,
            )
        )


def write_pdf(rows: Rows, *, title: str, note: str) -> bytes:
    """A table on pages of A4. The fonts that every reader of PDF has are of Latin letters alone;
    other characters are shown as escapes.
    """
    pdf = FPDF(orientation="landscape", format="A4")
    pdf.set_title(title)
    pdf.set_creator("deepfake")
    pdf.set_auto_page_break(True, margin=12)
    pdf.set_margin(10)
    pdf.add_page()
    pdf.set_font("helvetica", "B", 14)
    pdf.cell(text=title, new_x="LMARGIN", new_y="NEXT")
    pdf.set_font("helvetica", size=9)
    pdf.multi_cell(0, text=latin(note, most=600), new_x="LMARGIN", new_y="NEXT")
    pdf.ln(3)
    pdf.set_font("helvetica", size=8)
    style = FontFace(emphasis="BOLD", fill_color=(235, 237, 240))
    with pdf.table(
        col_widths=WIDTHS, headings_style=style, text_align="LEFT", line_height=4
    ) as table:
        table.row(HEADS)
        for case, ruled in rows:
            table.row([latin(text) for text in _cells(case, ruled)])
    return bytes(pdf.output())


def _cells(case: Case, ruled: Ruled | None) -> Iterator[str]:
    yield word_minute(case.created)
    yield _cut(case.name, MOST_NAME)
    yield Verdict(case.verdict).label
    yield "-" if case.probability is None else f"{case.probability:.2f}"
    yield "-" if ruled is None else RULINGS[ruled.ruling]
    yield "" if ruled is None else _cut(ruled.by, MOST_NAME)
    yield "" if ruled is None else _cut(ruled.note, MOST_NOTE)


def _line(cells: Iterable[object]) -> str:
    line = io.StringIO(newline="")
    csv.writer(line, quoting=csv.QUOTE_NONNUMERIC).writerow(map(write_cell, cells))
    return line.getvalue()


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 3] + "..."
