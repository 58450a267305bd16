"""Pictures that are judged wrongly, to look at: those of the material stay in the run's folder,
drawings of our own, which no detector of photographs can judge, go into the card.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw

from deepfake.analyzers.image import Image as ImageAnalyzer
from deepfake.bundle import QUICK_TIERS, Bundle
from deepfake.engine.engine import Engine
from deepfake.media.opening import open_media
from deepfake.preprocess import Pixels
from deepfake.settings import DetectOptions, Settings
from deepfake.trust.registry import newest_bundles

from ..calibrate import ScoredRecord, cross_calibrate
from ..card import markdown
from ..manifests import Item
from ..records import FileLogits, unheard
from .drawn import GRAPHICS

SIDE = 200
ACROSS = 8
SEED = 1
DRAWINGS = 4
EACH = 2
"""Pictures of one source, so that the sheet shows more than the weakest source."""


@dataclass(frozen=True)
class DrawingRow:
    """Drawings of one kind: how many, their mean score, the share that scores as suspicious or
    more, and how many the gate for graphics caught, whose verdict is then never firm.
    """

    kind: str
    drawings: int
    mean_score: float
    flagged_suspicious: float
    caught: int


def choose_failures(
    records: Sequence[FileLogits], *, top_fraction: float, each_source: bool = False
) -> list[ScoredRecord]:
    """Of the clean files, the highest-scoring bona fide ones, then the lowest synthetic ones."""
    clean = [record for record in unheard(records) if record.view == "clean"]
    known = unheard(records)
    scored = cross_calibrate(clean, top_fraction=top_fraction, known=known, each_source=each_source)
    chosen: list[ScoredRecord] = []
    for label, sign in ((0, -1), (1, 1)):
        mine = sorted((s for s in scored if s.record.label == label), key=lambda s: sign * s.score)
        taken: dict[str, int] = {}
        for one in mine:
            taken[one.record.source] = taken.get(one.record.source, 0) + 1
            if taken[one.record.source] <= EACH:
                chosen.append(one)
    return chosen


def draw_failures(failures: Sequence[ScoredRecord], items: Sequence[Item], *, path: Path) -> None:
    """A sheet of those files of the material with their source and score, at ``path``."""
    places = {(item.source, item.facts["path"]): item.path for item in items}
    pictures = []
    for one in failures:
        with Image.open(places[one.record.source, one.record.path]) as picture:
            pixels = np.asarray(picture.convert("RGB"))
        kind = "synthetic" if one.record.label else "bona fide"
        pictures.append((pixels, f"{one.record.source[:18]}, {kind} {one.score:.2f}"))
    _draw_sheet(pictures, path)


def judge_drawings(bundle: Bundle, *, path: Path) -> list[DrawingRow]:
    """Score four drawings of every kind by this very tier, draw one of each at ``path``, and count
    the words.
    """
    rng, analyzer, rows, shown = np.random.default_rng(SEED), ImageAnalyzer(), [], []
    options = DetectOptions(effort="full" if bundle.slot in QUICK_TIERS else "quick")
    active = newest_bundles(bundle.folder.parent) | {bundle.slot: bundle}
    engine = Engine(Settings(device="cpu"), active=active)
    for kind, draw in GRAPHICS.items():
        found = []
        for _ in range(DRAWINGS):
            pixels = draw(rng)
            _, encoded = cv2.imencode(".png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
            with open_media(encoded.tobytes()) as media:
                found += analyzer.analyze(media, engine, options)
        scores = [evidence.score or 0.0 for evidence in found]
        caught = [evidence.reason == "graphic_not_photo" for evidence in found]
        flagged = [score >= bundle.calibration.points.suspicious for score in scores]
        rows.append(
            DrawingRow(kind, DRAWINGS, float(np.mean(scores)), float(np.mean(flagged)), sum(caught))
        )
        shown.append((pixels, f"{kind} {scores[-1]:.2f}"))
    engine.close()
    _draw_sheet(shown, path)
    return rows


def drawing_table(rows: Sequence[DrawingRow]) -> str:
    """Markdown: one line for each kind of drawing."""
    return markdown(
        ["drawing", "drawings", "mean score", "suspicious or more", "caught by the gate"],
        [[r.kind, r.drawings, r.mean_score, r.flagged_suspicious, r.caught] for r in rows],
    )


def _draw_sheet(pictures: Sequence[tuple[Pixels, str]], path: Path) -> None:
    rows = -(-len(pictures) // ACROSS)
    sheet = Image.new("RGB", (ACROSS * SIDE, rows * (SIDE + 16)), "white")
    canvas = ImageDraw.Draw(sheet)
    for number, (pixels, text) in enumerate(pictures):
        factor = (SIDE - 4) / max(pixels.shape[:2])
        small = cv2.resize(pixels, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
        left, top = number % ACROSS * SIDE, number // ACROSS * (SIDE + 16)
        sheet.paste(Image.fromarray(np.asarray(small, np.uint8)), (left, top))
        canvas.text((left + 2, top + SIDE), text, fill="black")
    sheet.save(path)
