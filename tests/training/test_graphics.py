from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from deepfake_training.studies import graphics
from deepfake_training.studies.drawn import GRAPHICS, draw_screenshot
from deepfake_training.studies.graphics import Row, fit

from deepfake.content.drawings import Measures
from tests.media_files import image_bytes, scene


def rows(kind: str, source: str, *, still: float, seed: int, count: int = 60) -> list[Row]:
    """Pictures that differ in ``still`` only; the other measures are chance."""
    values = np.random.default_rng(seed).uniform(0, 0.1, (count, len(Measures._fields)))
    values[:, Measures._fields.index("still")] += still
    return [Row(kind, source, "clean", Measures(*row)) for row in values]


def test_fit_finds_what_differs_and_keeps_to_its_share_of_photographs() -> None:
    photos = rows("photo", "a", still=0.0, seed=0) + rows("photo", "b", still=0.2, seed=1)
    gate = fit([*photos, *rows("drawn", "c", still=0.7, seed=2)])
    weights = Measures(*gate.weights)
    assert weights.still == max(weights)
    assert weights.middling <= 0
    assert weights.texture <= 0
    assert sum(gate.catches(row) for row in photos) <= 1
    assert all(gate.catches(row) for row in rows("drawn", "d", still=0.6, seed=3))
    assert gate.catches(Row("drawn", "blank", "clean", None))


@pytest.mark.parametrize("kind", GRAPHICS)
def test_drawings_repeat_with_their_seed_and_differ_with_another(kind: str) -> None:
    first, again, other = (GRAPHICS[kind](np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert first.shape != other.shape or (first != other).any()
    assert first.dtype == np.uint8
    assert first.shape[2] == 3


def test_the_photo_is_where_the_screenshot_says() -> None:
    for seed in range(4):
        shot = draw_screenshot(np.random.default_rng(seed), np.full((300, 400, 3), 99, np.uint8))
        left, top, width, height = shot.photo
        inside = shot.pixels[top : top + height, left : left + width]
        assert inside.shape[:2] == (height, width)
        assert (inside[1:-1, 1:-1] == 99).all()
        assert 0.15 < width * height / (shot.pixels.size / 3) < 0.85


def test_command_prints_rates_and_weights(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = ["path\tlabel\tsource\tsha256"]
    for source, label in (("street", "real"), ("garden", "real"), ("dreams", "fake")):
        for number in range(2):
            name = f"{source}{number}.png"
            (tmp_path / "image").mkdir(exist_ok=True)
            pixels = cv2.GaussianBlur(scene(200, 160, seed=number, noise=40), (0, 0), 1)
            (tmp_path / "image" / name).write_bytes(image_bytes(pixels))
            lines.append(f"{name}\t{label}\t{source}\t{number}")
    (tmp_path / "image" / "manifest.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    graphics.run(tmp_path, most_files=1, drawn=1)
    text = capsys.readouterr().out
    assert "| photo | street | 1 | " in text
    assert "| generated | dreams | 1 | " in text
    assert "| drawn | poster | 1 | " in text
    assert "WEIGHTS = Measures(flat=" in text
