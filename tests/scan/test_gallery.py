from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from deepfake.preprocess import Pixels
from deepfake.scan import gallery
from deepfake.scan.gallery import write_html
from deepfake.scan.results import Row
from deepfake.show import thumbnails
from tests.media_files import image_bytes, quadrants, scene, speech, video_bytes, wav_bytes
from tests.scans import (
    BAD_INTERVALS,
    append_lines,
    damaged_results,
    open_journal,
    read_lines,
    run_scan,
)

EVIL = "<img src=x onerror=alert(1)>\"'&.jpg"


class Page(HTMLParser):
    """The rows of the table as text, the tags, and what each row's picture holds."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[str] = []
        self.pictures: list[bytes] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.tags.append((tag, values))
        if tag == "tr" and "data-verdict" in values:
            self.rows.append(f"{values['data-verdict']}: ")
        if tag == "img":
            kind, _, data = str(values["src"]).partition(",")
            assert kind == "data:image/jpeg;base64"
            self.pictures.append(base64.b64decode(data))

    def handle_data(self, data: str) -> None:
        if self.rows:
            self.rows[-1] += data


@pytest.fixture
def media(tmp_path: Path) -> Path:
    root = tmp_path / "media"
    root.mkdir()
    (root / "dark.png").write_bytes(image_bytes(scene(noise=24.0) // 8))
    (root / "bright.png").write_bytes(image_bytes(255 - scene(noise=24.0) // 8))
    (root / EVIL).write_bytes(b"not media <script>alert(1)</script>")
    (root / "clip.mp4").write_bytes(video_bytes([quadrants()] * 6))
    (root / "speech.wav").write_bytes(wav_bytes(speech(2.0)))
    (root / "copy.png").write_bytes((root / "bright.png").read_bytes())
    return root


def make_page(media: Path, tmp_path: Path, models: Path, **_: Any) -> str:
    run_scan(media, output=tmp_path / "r.jsonl", models=models)
    write_html(tmp_path / "r.jsonl", tmp_path / "r.html")
    return (tmp_path / "r.html").read_text(encoding="utf-8")


def test_the_page_shows_the_worst_first_with_thumbnails(
    media: Path, tmp_path: Path, known_models: Path
) -> None:
    text = make_page(media, tmp_path, known_models)
    page = Page(text)
    verdicts = [row.partition(":")[0] for row in page.rows]
    assert verdicts == sorted(verdicts, key=gallery.ORDER.index)
    assert verdicts[:2] == ["synthetic", "synthetic"]
    assert "failed" in verdicts
    assert sum("same content as" in row for row in page.rows) == 1
    assert [row for row in page.rows if "onerror" in row and "not media" in row]
    assert len(page.pictures) == 4  # two pictures, a copy, a clip; none of the sound
    for picture in page.pictures:
        with Image.open(io.BytesIO(picture)) as image:
            assert max(image.size) <= thumbnails.THUMBNAIL_SIDE_PIXELS
    assert "6 files." in text
    moments = {line["examined_at"] for line in read_lines(tmp_path / "r.jsonl") if "kind" in line}
    assert all(any(f"examined {at}" in row for row in page.rows) for at in moments)
    assert sum("examined 2" in row for row in page.rows) == 5


def test_a_bug_in_one_thumbnail_costs_no_other(
    media: Path, tmp_path: Path, known_models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def draw(pixels: Pixels) -> bytes:
        if pixels.mean() > 127:
            raise ZeroDivisionError
        return jpeg(pixels)

    jpeg = thumbnails._jpeg
    monkeypatch.setattr(thumbnails, "_jpeg", draw)
    page = Page(make_page(media, tmp_path, known_models))
    assert (len(page.rows), len(page.pictures)) == (6, 1)


def test_nothing_is_loaded_and_nothing_from_a_file_is_run(
    media: Path, tmp_path: Path, known_models: Path
) -> None:
    text = make_page(media, tmp_path, known_models)
    page = Page(text)
    assert "http://" not in text
    assert "https://" not in text
    assert [tag for tag, _ in page.tags if tag in ("link", "iframe", "object", "base")] == []
    assert [
        v for _, values in page.tags for v in values if v.startswith("on") or v == "style"
    ] == []
    policy = next(v["content"] for _, v in page.tags if v.get("http-equiv"))
    assert policy
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    for tag in ("style", "script"):
        (inside,) = re.findall(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    labels = [values for tag, values in page.tags if tag in ("th", "button")]
    assert {values.get("data-column") for values in labels} > {"1", "2", "3"}


def test_only_what_was_examined_is_pictured(
    media: Path, tmp_path: Path, known_models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_scan(media, output=tmp_path / "r.jsonl", models=known_models)
    (media / "bright.png").write_bytes(image_bytes(scene(seed=4)))
    (media / "copy.png").unlink()
    write_html(tmp_path / "r.jsonl", tmp_path / "r.html")
    assert len(Page((tmp_path / "r.html").read_text()).pictures) == 2
    monkeypatch.setattr(gallery, "MOST_THUMBNAILS", 3)
    monkeypatch.setattr(gallery, "MOST_ROWS", 5)
    write_html(tmp_path / "r.jsonl", tmp_path / "r.html")
    text = (tmp_path / "r.html").read_text()
    assert len(Page(text).rows) == 5
    assert len(Page(text).pictures) == 1
    assert "The 5 worst of 6 files are shown." in text


@pytest.mark.parametrize("interval", BAD_INTERVALS)
def test_a_bad_interval_is_left_out_and_nothing_else(tmp_path: Path, interval: Any) -> None:
    write_html(damaged_results(tmp_path, interval=interval), tmp_path / "r.html")
    good, bad, failed = Page((tmp_path / "r.html").read_text(encoding="utf-8")).rows
    assert "0.750 0.500…0.880" in good
    assert "0.750" in bad
    assert "…" not in bad
    assert f"interval: {'missing' if interval is None else 'damaged'}" in bad
    assert "is broken" in failed


HOSTILE = (
    "</td><script>alert(1)</script><img src=x onerror=alert(1)>\"'&\u202e\x1b[31m\ud800 \udcff"
)


def test_nothing_in_a_results_file_becomes_markup(tmp_path: Path) -> None:
    output = tmp_path / "r.jsonl"
    with open_journal(output) as journal:
        append_lines(journal, [HOSTILE, "b" + HOSTILE, "c" + HOSTILE])
    first, *others = read_lines(output)
    values = {
        "kind": HOSTILE,
        "duplicate_of": HOSTILE,
        "reasons": [{"code": HOSTILE, "text": HOSTILE}],
        "media": first["media"] | {"width": HOSTILE, "height": 1e999, "seconds": 10**400},
    }
    output.write_text(
        "".join(json.dumps(line) + "\n" for line in (first | values, *others)), encoding="utf-8"
    )
    write_html(output, tmp_path / "r.html")
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    page = Page(text)
    assert len(page.rows) == 3
    assert sum(tag == "script" for tag, _ in page.tags) == 1
    assert "img" not in [tag for tag, _ in page.tags]
    assert not [v for _, values in page.tags for v in values if v.startswith("on")]
    assert not {"\u202e", "\x1b"} & {*text}
    assert "\\u202e\\x1b[31m\\ud800 \\xff" in page.rows[0] + page.rows[1]


def test_many_rows_are_written_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows are made while the page is written, not all before it."""
    output, sizes = tmp_path / "r.jsonl", []
    with open_journal(output) as journal:
        append_lines(journal, [f"{number}.png" for number in range(300)])

    def count(row: Row) -> str:
        sizes.append((tmp_path / "r.html").stat().st_size)
        return describe(row)

    describe = gallery._describe
    monkeypatch.setattr(gallery, "_describe", count)
    write_html(output, tmp_path / "r.html")
    assert len(Page((tmp_path / "r.html").read_text(encoding="utf-8")).rows) == 300
    assert len(sizes) == 300
    assert sizes[0] < sizes[100] < sizes[-1]


def test_the_template_engine_is_imported_for_a_page_alone() -> None:
    code = "import sys, deepfake.scan.gallery; sys.exit('jinja2' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
