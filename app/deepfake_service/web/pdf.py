"""A report as PDF, for files and for people: nothing in it leads anywhere or is loaded."""

from __future__ import annotations

import io
from datetime import UTC, datetime

import cv2
from fpdf import FPDF
from fpdf.enums import XPos, YPos
from fpdf.fonts import FontFace

from deepfake.preprocess import Pixels
from deepfake.show.sketches import heat_picture, sheet_picture
from deepfake.text import printable
from deepfake.types import Report

FONT = "helvetica"
MOST_CHARACTERS = 1500
MARGIN = 18
INK, DIM = (31, 41, 55), (95, 101, 120)
WIDTHS = (30, 16, 128)


def write_pdf(report: Report, *, id: str, created: int) -> bytes:
    """The report on pages of A4, with its heat maps and its timelines where it has them.

    ``created`` is in milliseconds since 1970. The fonts that every reader of PDF has are of Latin
    letters alone; other characters stand as escapes.
    """
    moment = datetime.fromtimestamp(created / 1000, UTC)
    page = _Page(format="A4")
    page.set_creation_date(moment)
    page.set_title(f"Report {id}")
    page.set_creator("deepfake")
    page.set_margin(MARGIN)
    page.set_auto_page_break(True, margin=MARGIN)
    page.add_page()
    page.say(report.verdict.label.capitalize(), size=16, bold=True)
    page.say(_word_probability(report))
    page.say(f"File {printable(report.path, most=200)}, {_word_media(report)}")
    page.say(f"SHA-256 {report.media.sha256}", size=8, dim=True)
    page.say(f"Report {id}, kept since {moment:%Y-%m-%d %H:%M} UTC", size=8, dim=True)
    page.head("Why")
    for reason in report.reasons:
        page.say(f"{reason.text} [{reason.code}]")
    for text in report.warnings:
        page.say(f"Note: {text}")
    if report.evidence:
        page.head("Evidence")
        page.list_evidence(report)
    for title, pixels in (("Where", heat_picture(report)), ("When", sheet_picture(report))):
        if pixels is not None:
            page.show(title, pixels)
    page.head("Versions")
    versions = ", ".join(f"{name} {version}" for name, version in sorted(report.versions.items()))
    page.say(versions, size=8, dim=True)
    return bytes(page.output())


def encode_png(pixels: Pixels) -> bytes:
    """RGB pixels as PNG."""
    _, encoded = cv2.imencode(".png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
    return encoded.tobytes()


class _Page(FPDF):
    """Text from the top of a page down."""

    def say(self, text: str, *, size: float = 9, bold: bool = False, dim: bool = False) -> None:
        self.set_font(FONT, "B" if bold else "", size)
        self.set_text_color(*(DIM if dim else INK))
        text = latin(text)
        self.multi_cell(0, size / 2, text, align="L", new_x=XPos.LMARGIN, new_y=YPos.NEXT)

    def head(self, text: str) -> None:
        self.ln(3)
        self.say(text, size=11, bold=True)

    def list_evidence(self, report: Report) -> None:
        """A row for each."""
        self.set_font(FONT, size=9)
        with self.table(
            col_widths=WIDTHS,
            headings_style=FontFace(emphasis="", color=DIM),
            text_align="LEFT",
            borders_layout="HORIZONTAL_LINES",
            line_height=4.5,
        ) as table:
            table.row(("source", "score", "what it says"))
            for it in report.evidence:
                said = it.claim + (f" [{it.reason}]" if it.reason else "")
                score = "" if it.score is None else f"{it.score:.2f}"
                table.row([latin(text) for text in (it.source, score, said)])

    def show(self, title: str, pixels: Pixels) -> None:
        """A picture under its title, on the same page."""
        height, width = pixels.shape[:2]
        scale = min(self.epw / width, 0.7 * self.eph / height)
        if self.will_page_break(height * scale + 12):
            self.add_page()
        self.head(title)
        self.image(io.BytesIO(encode_png(pixels)), w=width * scale, h=height * scale)


def latin(text: str, *, most: int = MOST_CHARACTERS) -> str:
    """At most so many characters, those that the fonts lack as escapes."""
    plain = printable(text, most=most)
    for typographic, simple in (("–", "-"), ("—", "-"), ("…", "..."), ("’", "'")):
        plain = plain.replace(typographic, simple)
    return plain.encode("latin-1", "backslashreplace").decode("latin-1")


def _word_probability(report: Report) -> str:
    if report.probability is None:
        return "No probability is given."
    text = f"P(synthetic) {report.probability:.2f}"
    low, high = report.interval or (None, None)
    return text if low is None else f"{text} ({low:.2f} to {high:.2f})"


def _word_media(report: Report) -> str:
    media = report.media
    parts = [media.kind.value, media.format, f"{media.bytes:,} bytes"]
    if media.width and media.height:
        parts.append(f"{media.width} by {media.height} pixels")
    if media.seconds is not None:
        parts.append(f"{media.seconds:.1f} s")
    if report.examined_at:
        parts.append(f"examined {report.examined_at}")
    return ", ".join(parts)
