"""Text of the page can be read: contrasts of WCAG 2.2, 1.4.3 (AA), from the colours as written."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest.importorskip("gradio")

import deepfake_app
from deepfake_app.server import _theme

STYLE = (Path(deepfake_app.__file__).parent / "page.css").read_text(encoding="utf-8")
PAGES = {"light": "#ffffff", "dark": "#0f0f11"}
LEAST = 4.5


def palette(mode: str) -> dict[str, str]:
    opening = {"light": r":root \{", "dark": r"\.dark \{"}[mode]
    block = re.search(opening + r"(.*?)\n\}", STYLE, re.DOTALL)
    assert block
    return dict(re.findall(r"--df-([a-z-]+): (#[0-9a-f]{6})", block[1]))


def luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_contrast_is_measured_as_the_standard_says() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21.0)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("mode", ["light", "dark"])
@pytest.mark.parametrize(
    "ink", ["ink", "dim", "link", "synthetic", "suspicious", "authentic", "inconclusive"]
)
def test_text_stands_out_from_the_page_and_from_cards(mode: str, ink: str) -> None:
    colours = palette(mode)
    for ground in (PAGES[mode], colours["card"]):
        assert contrast(colours[ink], ground) >= LEAST


@pytest.mark.parametrize("mode", ["", "_dark"])
@pytest.mark.parametrize("hover", ["", "_hover"])
def test_the_words_on_the_stop_button_can_be_read(mode: str, hover: str) -> None:
    theme = _theme()
    ground = getattr(theme, f"button_cancel_background_fill{hover}{mode}")
    ink = getattr(theme, f"button_cancel_text_color{hover}{mode}")
    assert contrast(ink, ground) >= LEAST
