"""The results of a scan as one page that opens offline, with thumbnails inside it.

Nothing in the page is loaded from anywhere and its policy forbids that; what comes from files is
escaped, and thumbnails are drawn from pixels that the confined decoder gave.
"""

from __future__ import annotations

import base64
import hashlib
import heapq
import time
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from html import escape
from pathlib import Path

from ..errors import DeepfakeError
from ..faults import contain_faults
from ..media.opening import open_media
from ..preprocess import Pixels, shrink
from ..progress import Watch
from ..settings import Limits
from ..text import display_name
from ..types import Kind, Verdict
from .executors import Line
from .gallery_page import PAGE, SCRIPT, STYLE
from .journal import read_results
from .locations import open_location
from .results import Row, outcome, read_row

MOST_ROWS = 10_000
MOST_THUMBNAILS = 500
THUMBNAIL_SIDE_PIXELS = 128
THUMBNAIL_SECONDS = 10.0
_THREADS = 4

ORDER = ("synthetic", "suspicious", "failed", "inconclusive", "authentic", "not_media")
"""The worst first."""
LABELS = {verdict.value: verdict.label for verdict in Verdict} | {
    "failed": "not examined",
    "not_media": "no media",
}
SIGNS = {
    "synthetic": "●",
    "suspicious": "◐",
    "failed": "✕",
    "inconclusive": "?",
    "authentic": "○",
    "not_media": "–",
}


def write_html(results: Path, output: Path, *, limits: Limits | None = None) -> None:
    """Write the page: counts, and the 10,000 worst files in a table to sort, filter and search.

    The first 500 pictures and videos get a thumbnail, if their content is still what was examined.
    """
    counts: Counter[str] = Counter()

    def counted() -> Iterable[Line]:
        for line in read_results(results):
            counts[outcome(line)] += 1
            yield line

    lines = heapq.nsmallest(MOST_ROWS, counted(), key=badness)
    pictured = [line for line in lines if read_row(line).kind in (Kind.IMAGE, Kind.VIDEO)]
    with ThreadPoolExecutor(_THREADS) as pool:
        chosen = pictured[:MOST_THUMBNAILS]
        drawn = pool.map(lambda line: thumbnail(line, limits or Limits()), chosen)
        pictures = dict(zip((line["path"] for line in chosen), drawn, strict=True))
    with output.open("w", encoding="utf-8") as page:
        head, _, tail = _page(counts, shown=len(lines)).partition("ROWS")
        page.write(head)
        for line in lines:
            page.write(_row(read_row(line), pictures.get(line["path"])))
        page.write(tail)


def badness(line: Line) -> tuple[int, float, str]:
    """What the worst files are sorted by: verdict, probability, path."""
    row = read_row(line)
    path = row.path.encode("utf-8", "backslashreplace").decode()
    return ORDER.index(row.verdict), -(row.probability or 0.0), path


def thumbnail(line: Line, limits: Limits) -> bytes | None:
    """A small JPEG of a picture or of the first frame of a video, or nothing if there is none."""
    try:
        with contain_faults(line["path"]):
            return _thumbnail(line, limits)
    except DeepfakeError:
        return None


def _thumbnail(line: Line, limits: Limits) -> bytes | None:
    watch = Watch(deadline=time.monotonic() + THUMBNAIL_SECONDS)
    file = open_location(line["path"], limits=limits, watch=watch)
    with open_media(file, limits=limits, name=line["path"], watch=watch) as media:
        if media.info.sha256 != line["sha256"]:
            return None
        if media.info.kind is Kind.IMAGE:
            return _jpeg(media.image())
        frame = next(iter(media.frames(most=1)), None)
        return None if frame is None else _jpeg(frame.pixels)


def _jpeg(pixels: Pixels) -> bytes:
    import cv2

    height, width = pixels.shape[:2]
    scale = min(1.0, THUMBNAIL_SIDE_PIXELS / max(height, width))
    small = shrink(pixels, max(1, round(height * scale)), max(1, round(width * scale)))
    _, encoded = cv2.imencode(
        ".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 75]
    )
    content: bytes = encoded.tobytes()
    return content


def _page(counts: Counter[str], *, shown: int) -> str:
    total = sum(counts.values())
    boxes = "".join(
        f'<li class="{name}"><b>{counts[name]:,}</b> <span aria-hidden="true">{SIGNS[name]}</span> '
        f"{LABELS[name]}</li>"
        for name in ORDER
        if counts[name]
    )
    choices = "".join(
        f'<option value="{name}">{LABELS[name]} ({counts[name]:,})</option>'
        for name in ORDER
        if counts[name]
    )
    note = "" if shown == total else f"<p>The {shown:,} worst of {total:,} files are shown.</p>"
    policy = (
        "default-src 'none'; base-uri 'none'; form-action 'none'; img-src data:; "
        f"style-src '{_hash(STYLE)}'; script-src '{_hash(SCRIPT)}'"
    )
    page = PAGE
    for mark, value in (
        ("POLICY", policy),
        ("STYLE", STYLE),
        ("SCRIPT", SCRIPT),
        ("TOTAL", f"{total:,}"),
        ("COUNTS", boxes),
        ("CHOICES", choices),
        ("NOTE", note),
    ):
        page = page.replace(f"<!--{mark}-->", value)
    return page.replace("<!--ROWS-->", "ROWS")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _row(row: Row, picture: bytes | None) -> str:
    name = row.verdict
    path = _shown(row.path)
    cells = [
        f'<td class="picture">{_picture(picture, row)}</td>',
        f'<td data-key="{path}"><span class="path">{path}</span>{_about(row)}</td>',
        f'<td data-key="{ORDER.index(name)}"><span class="verdict {name}">'
        f'<span aria-hidden="true">{SIGNS[name]}</span> {LABELS[name]}</span></td>',
        f'<td data-key="{_key(row.probability)}" class="number">{_probability(row)}</td>',
        f"<td>{_shown(row.error or row.text or '')}</td>",
    ]
    return f'<tr data-verdict="{name}">{"".join(cells)}</tr>\n'


def _shown(text: str) -> str:
    """What came from a file, with everything that HTML, a terminal or an editor acts on escaped."""
    return escape(display_name(text))


def _picture(picture: bytes | None, row: Row) -> str:
    if picture is None:
        return f'<span class="none">{row.kind or "–"}</span>'
    data = base64.b64encode(picture).decode()
    return f'<img alt="" loading="lazy" src="data:image/jpeg;base64,{data}">'


def _about(row: Row) -> str:
    parts = [row.kind] if row.kind else []
    if row.width and row.height:
        parts.append(f"{row.width}×{row.height}")
    if row.seconds is not None:
        parts.append(f"{row.seconds:.1f} s")
    if row.examined_at:
        parts.append(f"examined {_shown(row.examined_at)}")
    lines = [", ".join(parts)] if parts else []
    if row.duplicate_of is not None:
        first = _shown(row.duplicate_of)
        lines.append(f'same content as <span class="path">{first}</span>')
    if row.note:
        lines.append(_shown(row.note))
    return "".join(f'<span class="about">{line}</span>' for line in lines)


def _probability(row: Row) -> str:
    if row.probability is None:
        return "–"
    low, high = row.interval or (row.probability, row.probability)
    bounds = f" <small>{low:.3f}…{high:.3f}</small>" if row.interval else ""
    bar = (
        '<svg viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">'
        '<rect class="range" width="100" height="8" rx="2"/>'
        f'<rect class="interval" x="{100 * low:.1f}" width="{max(1, 100 * (high - low)):.1f}" '
        'y="2" height="4"/>'
        f'<rect class="point" x="{min(98.0, 100 * row.probability):.1f}" width="2" height="8"/>'
        "</svg>"
    )
    return f"{row.probability:.3f}{bounds}{bar}"


def _key(value: float | None) -> str:
    return "-1" if value is None else f"{value:.6f}"
