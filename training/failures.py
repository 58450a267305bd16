"""The pictures that a run judges worst, to look at: they stay in the run's folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw

from .calibrate import Scored, cross_calibrate
from .records import FileLogits, unheard

SIDE = 200
ACROSS = 8
EACH = 2
"""Pictures of one source, so that the sheet shows more than the weakest source."""


def choose_failures(
    records: Sequence[FileLogits], *, top_fraction: float, each_source: bool = False
) -> list[Scored]:
    """Of the clean files, the highest-scoring bona fide ones, then the lowest synthetic ones."""
    clean = [record for record in unheard(records) if record.view == "clean"]
    known = unheard(records)
    scored = cross_calibrate(clean, top_fraction=top_fraction, known=known, each_source=each_source)
    chosen: list[Scored] = []
    for label, sign in ((0, -1), (1, 1)):
        mine = sorted((s for s in scored if s.record.label == label), key=lambda s: sign * s.score)
        taken: dict[str, int] = {}
        for one in mine:
            taken[one.record.source] = taken.get(one.record.source, 0) + 1
            if taken[one.record.source] <= EACH:
                chosen.append(one)
    return chosen


def draw_failures(failures: Sequence[Scored], *, folder: Path, path: Path) -> None:
    """A sheet of the files in ``folder`` with their source and score, as PNG at ``path``."""
    rows = -(-len(failures) // ACROSS)
    sheet = Image.new("RGB", (ACROSS * SIDE, rows * (SIDE + 16)), "white")
    canvas = ImageDraw.Draw(sheet)
    for number, one in enumerate(failures):
        with Image.open(folder / one.record.path) as picture:
            pixels = np.asarray(picture.convert("RGB"))
        factor = (SIDE - 4) / max(pixels.shape[:2])
        small = cv2.resize(pixels, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
        left, top = number % ACROSS * SIDE, number // ACROSS * (SIDE + 16)
        sheet.paste(Image.fromarray(np.asarray(small, np.uint8)), (left, top))
        kind = "synthetic" if one.record.label else "bona fide"
        text = f"{one.record.source[:18]}, {kind} {one.score:.2f}"
        canvas.text((left + 2, top + SIDE), text, fill="black")
    sheet.save(path)
