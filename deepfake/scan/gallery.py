"""The results of a scan as one page that opens offline, with thumbnails inside it.

Nothing in the page is loaded from anywhere and its policy forbids that. Its template,
``gallery.html``, escapes whatever is put into it, first as ``display_name`` does, then for HTML;
thumbnails are drawn from pixels that the confined decoder gave.
"""

from __future__ import annotations

import base64
import hashlib
import heapq
import time
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import DeepfakeError
from ..faults import contain_faults
from ..media.opening import open_media
from ..progress import Watch
from ..settings import Limits
from ..show.thumbnails import THUMBNAIL_SECONDS, draw_thumbnail
from ..text import display_name
from ..types import Kind, Verdict
from .executors import Line
from .journal import read_results
from .likeness import group_alike
from .locations import open_location
from .results import Row, outcome, read_row

if TYPE_CHECKING:
    from jinja2 import Template
    from markupsafe import Markup

MOST_ROWS = 10_000
MOST_THUMBNAILS = 500
_THREADS = 4
_HERE = Path(__file__).parent

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
    alike = group_alike(read_results(results))
    rows = ((read_row(line), pictures.get(line["path"]), alike.get(line["path"])) for line in lines)
    values = {"counts": counts, "total": counts.total(), "shown": len(lines), "rows": rows}
    with output.open("w", encoding="utf-8") as page:
        page.writelines(_template().generate(values))


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
        return draw_thumbnail(media)


def _template() -> Template:
    """The page; :func:`write_html` says what it takes."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        autoescape=True,
        finalize=_shown,
        loader=FileSystemLoader(_HERE),
        trim_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters |= {"base64": _base64, "hash": _hash}
    environment.globals |= {
        "describe": _describe,
        "labels": LABELS,
        "order": ORDER,
        "signs": SIGNS,
        "style": _own("gallery.css"),
        "script": _own("gallery.js"),
    }
    return environment.get_template("gallery.html")


def _own(file: str) -> Markup:
    """A file of this package, which is put into the page as it is."""
    from markupsafe import Markup

    return Markup((_HERE / file).read_text(encoding="utf-8"))  # noqa: S704 (ours)


def _shown(value: Any) -> Any:
    """Text with what a terminal or an editor acts on escaped, unless it is markup of ours."""
    return (
        value if hasattr(value, "__html__") or not isinstance(value, str) else display_name(value)
    )


def _hash(text: str) -> str:
    return "sha256-" + _base64(hashlib.sha256(text.encode()).digest())


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _describe(row: Row) -> str:
    parts = [row.kind] if row.kind else []
    if row.width and row.height:
        parts.append(f"{row.width}×{row.height}")
    if row.seconds is not None:
        parts.append(f"{row.seconds:.1f} s")
    if row.examined_at:
        parts.append(f"examined {row.examined_at}")
    return ", ".join(parts)
