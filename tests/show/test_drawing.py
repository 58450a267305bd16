"""Lines of text as pixels: fonts, what they lack, and where a line is cut."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import matplotlib
import numpy as np
import pytest

from deepfake.show import drawing
from deepfake.show.drawing import SYNTHETIC, blank, frame_box, pixels_of, text_width, write

DEJAVU = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"


@pytest.fixture(params=[(), (str(DEJAVU),)], ids=["no font", "DejaVu"])
def fonts(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[bool]:
    """Whether this system has a font beside the built-in one."""
    monkeypatch.setattr(drawing, "SYSTEM_FONTS", ("no-such-font.ttf", *request.param))
    for cached in (drawing._system_fonts, drawing._stamp):
        cached.cache_clear()
    yield bool(request.param)
    for cached in (drawing._system_fonts, drawing._stamp):
        cached.cache_clear()


def line(text: str, *, width: int = 400, most_pixels: int | None = None) -> np.ndarray:
    picture = blank(width, 40)
    write(picture, text, left=4, middle=20, most_pixels=most_pixels)
    return pixels_of(picture)


@pytest.mark.parametrize("name", ["Zoë", "Łukasz", "Дмитрий", "محمد"])
def test_a_name_is_drawn_in_a_font_that_has_it_or_escaped(name: str, fonts: bool) -> None:
    escaped = "".join(c if c.isascii() else c.encode("unicode_escape").decode() for c in name)
    assert (line(name) == line(escaped)).all() != fonts
    assert (line(name) != line("?" * len(name))).any()
    assert (line(name) != line(name[:-1])).any()


def test_only_what_no_font_has_is_escaped(fonts: bool) -> None:
    assert (line("Б\U000f1234") == line("Б\\U000f1234" if fonts else "\\u0411\\U000f1234")).all()
    assert (line("中 1") == line("\\u4e2d 1")).all()
    assert (line("\u0947") == line("\\u0947")).all(), "a mark that stands alone"


def test_other_letters_of_the_same_font_differ(fonts: bool) -> None:
    drawn = [line(letter).tobytes() for letter in "éеЖжαß"]
    assert len({*drawn}) == 6


@pytest.mark.parametrize("text", ["\u202eevil", "a\x1b[2J", "a\nb", "\ud800", "\x00", "\u200b"])
def test_what_is_not_printable_is_escaped(text: str, fonts: bool) -> None:
    assert (line(text) == line(drawing.escape(text))).all()


@pytest.mark.parametrize("text", ["a" * 10_000, "ж" * 10_000, "w", "\U000f1234" * 300, ""])
def test_a_line_ends_where_it_must(text: str, fonts: bool) -> None:
    drawn = line(text, most_pixels=60)
    dark = np.flatnonzero((drawn < 200).any(axis=(0, 2)))
    assert (dark <= 4 + 60 + 1).all()
    assert (dark.size > 0) == bool(text)
    assert text_width(text, pixels_high=16) < 40_000


def test_bold_is_heavier() -> None:
    plain, bold = blank(200, 40), blank(200, 40)
    ends = [
        write(picture, "motion", left=4, middle=20, bold=picture is bold)
        for picture in (plain, bold)
    ]
    assert ends[0] == ends[1] == 4 + text_width("motion", pixels_high=16)
    assert pixels_of(bold).mean() < pixels_of(plain).mean() - 1


@pytest.mark.parametrize(
    "box", [(60, 60, 20, 20), (-1e9, -1e9, 1e9, 1e9), (5, 5, 5, 5), (500, 500, 600, 600)]
)
def test_any_box_is_framed_inside_the_picture(box: tuple[float, ...]) -> None:
    picture = blank(90, 90)
    frame_box(picture, box, "face " * 99, colour=SYNTHETIC, pixels_high=13)  # type: ignore[arg-type]
    assert (pixels_of(picture) == SYNTHETIC).all(axis=2).any()
