"""How well the heat map of the ``image`` slot shows where a generated region was pasted in.

Every number stands beside what a map that knows nothing would have: the heat map of the same photo
before the region was pasted, a spot in the middle of the picture, and the whole picture marked; and
beside what a region of another genuine photo gives, which should stand out no more than the rest.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
from scipy.spatial.distance import jaccard
from tqdm import tqdm

from deepfake.bundle import Bundle
from deepfake.content.localisation import Mask, find_region, heatmap
from deepfake.engine.engine import Engine
from deepfake.preprocess import Pixels
from deepfake.settings import Settings
from deepfake.show.heatmaps import overlay
from deepfake.show.pictures import write_png
from deepfake.trust.registry import newest_bundles
from deepfake.types import Heatmap

from ..card import add_part, markdown
from ..image.data import FACE_SOURCES
from ..manifests import Item, read_manifest
from ..metrics import Array, auc
from .composites import Composite, draw_pairs, make_composite

VIEWS = ("clean", "web")
MAP, BEFORE, MIDDLE, ALL = "heat map", "before pasting", "middle", "everything"
SHEET_ROWS = 12
SHEET_SIDE = 240
AUC_STEP = 4
"""Every fourth pixel across and down is compared."""


@dataclass(frozen=True)
class Placed:
    """One map of one composite: IoU of its region with the true one (0 where it marks nothing),
    AUC of its pixels, whether its maximum lies inside (pointing game; Zhang et al. 2016).
    """

    view: str
    map: str
    photo_source: str
    pasted_source: str
    label: int
    iou: float
    auc: float
    hit: float
    marked: float


@dataclass(frozen=True)
class PlacedRow:
    """Means over the composites of one source, or of all; ``marked`` is the share with a region."""

    view: str
    map: str
    source: str
    composites: int
    iou: float
    auc: float
    hit: float
    marked: float


def localise(
    folder: Path, *, data: Path, output: Path, composites: int, seed: int, card: bool = False
) -> None:
    """Measure the bundle in ``folder`` on composites of ``data/image``, print tables, and write
    ``localise.json`` and ``localise.png`` into ``output``; with ``card`` add the table of all of
    them to the bundle's card.
    """
    items = [
        item
        for item in read_manifest(data / "image", source_column="source")
        if item.source not in FACE_SOURCES
    ]
    bundle = Bundle.read(folder)
    engine = Engine(Settings(), active=newest_bundles(folder.parent))
    placed: list[Placed] = []
    pictures: list[Pixels] = []
    pairs = draw_pairs(items, count=composites, seed=seed)
    pairs += draw_pairs(items, count=composites // 2, seed=seed, label=0)
    for made in tqdm(make_all(pairs, seed=seed), total=len(pairs), unit="composite"):
        for view in VIEWS:
            seen = made.seen(view)
            found = heatmap(engine, bundle, seen.pixels)
            placed += compare_maps(view, seen, found, heatmap(engine, bundle, seen.before))
            if view == VIEWS[0] and len(pictures) < SHEET_ROWS:
                pictures.append(draw_row(seen, found))
    engine.close()
    overall, sources = tabulate(placed)
    print(placed_table(overall))
    print(placed_table(sources))
    output.mkdir(parents=True, exist_ok=True)
    result = {
        "bundle": bundle.name,
        "composites": composites,
        "seed": seed,
        "overall": [asdict(row) for row in overall],
        "sources": [asdict(row) for row in sources],
    }
    text = json.dumps(result, indent=2)
    (output / "localise.json").write_text(text + "\n", encoding="utf-8")
    write_png(np.vstack(pictures), output / "localise.png")
    print(f"wrote {output / 'localise.json'} and {output / 'localise.png'}")
    if card:
        add_part(
            bundle,
            title="Heat map",
            text="Regions of generated pictures pasted into real photos after one JPEG round of "
            "both, and, as a control, regions of other real photos (`deepfake recipe localise "
            f"models/{bundle.name} --data DATA --composites {composites} --seed {seed}` prints "
            "this and explains the columns). The bundle knows these files from training, so expect "
            "less on other pictures.",
            tables=placed_table(overall),
        )


def make_all(pairs: Sequence[tuple[Item, Item]], *, seed: int) -> Iterable[Composite]:
    """One composite of every pair, each from a seed of its own."""
    for number, (photo, pasted) in enumerate(pairs):
        yield make_composite(photo, pasted, rng=np.random.default_rng([seed, number]))


def compare_maps(view: str, seen: Composite, found: Heatmap, before: Heatmap) -> list[Placed]:
    """The heat map of a composite and the maps that know nothing, against the true region."""
    whole, region = float(seen.region.mean()), seen.region
    values = {
        MAP: place(found, region),
        BEFORE: place(before, region),
        MIDDLE: place(middle_map(), region),
        ALL: (whole, 0.5, whole, 1.0),
    }
    return [
        Placed(view, name, seen.photo_source, seen.pasted_source, seen.label, *numbers)
        for name, numbers in values.items()
    ]


def place(shown: Heatmap, region: Mask) -> tuple[float, float, float, float]:
    """IoU, pixel AUC, hit and whether anything is marked, for a true region (height, width)."""
    height, width = region.shape
    marked = find_region(shown, width=width, height=height)
    grid = np.array(shown.values, np.float32)
    fine = cv2.resize(grid, (width, height), interpolation=cv2.INTER_LINEAR).round(6)
    some = np.s_[::AUC_STEP, ::AUC_STEP]
    labels, scores = (part[some].ravel().astype(np.float64) for part in (region, fine))
    hit = region[np.unravel_index(int(fine.argmax()), fine.shape)]
    return iou(marked, region), auc(labels, scores), float(hit), float(marked.any())


def iou(some: Mask, other: Mask) -> float:
    """Intersection over union of two masks of one shape; 1 where both are empty."""
    return 1 - float(jaccard(some.ravel(), other.ravel()))


def middle_map() -> Heatmap:
    """What a map that always points at the middle of the picture would say."""
    off: Array = np.abs(np.linspace(-1, 1, 16))
    values = 1 - 0.9 * np.hypot(off[:, None], off) / np.sqrt(2)
    return Heatmap(name=MIDDLE, values=tuple(tuple(float(v) for v in row) for row in values))


def tabulate(placed: Sequence[Placed]) -> tuple[list[PlacedRow], list[PlacedRow]]:
    """Rows of all composites for every view and map, generated regions and genuine ones apart, and
    of each source with generated regions: of the pasted files, then of the photos.
    """
    overall = _rows(placed, lambda one: "all generated" if one.label else "all genuine")
    generated = [one for one in placed if one.label]
    by_fake = _rows(generated, lambda one: f"generated {one.pasted_source}")
    by_photo = _rows(generated, lambda one: f"photo {one.photo_source}")
    return overall, [*by_fake, *by_photo]


def placed_table(rows: Sequence[PlacedRow]) -> str:
    """Markdown: one line for each view and source, each number of the heat map beside that of the
    same photo before pasting and of a spot in the middle.
    """
    keyed = {(row.view, row.source, row.map): row for row in rows}
    head = ["view", "source", "composites", "IoU", "before", "middle", "everything"]
    head += ["AUC", "before", "middle", "pointing", "before", "middle", "marked", "before"]
    cells = []
    for row in (row for row in rows if row.map == MAP):
        maps = [keyed[row.view, row.source, name] for name in (MAP, BEFORE, MIDDLE, ALL)]
        cells.append(
            [
                *(row.view, row.source, row.composites),
                *(one.iou for one in maps),
                *(one.auc for one in maps[:3]),
                *(one.hit for one in maps[:3]),
                *(one.marked for one in maps[:2]),
            ]
        )
    return markdown(head, cells)


def draw_row(seen: Composite, found: Heatmap) -> Pixels:
    """Composite, true region and heat map with the marked region's outline, side by side."""
    height, width = seen.region.shape
    truth = np.repeat(seen.region[..., None].astype(np.uint8) * 255, 3, axis=2)
    shown = overlay(seen.pixels, found)
    marked = find_region(found, width=width, height=height).astype(np.uint8)
    outlines, _ = cv2.findContours(marked, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    cv2.drawContours(shown, outlines, -1, (40, 200, 90), 2)
    factor = SHEET_SIDE / max(height, width)
    cells = []
    for picture in (seen.pixels, truth, shown):
        small = cv2.resize(picture, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
        down, across = (SHEET_SIDE - side for side in small.shape[:2])
        cells.append(np.pad(small, ((0, down), (0, across), (0, 0)), constant_values=255))
    return np.hstack(cells)


def _rows(placed: Sequence[Placed], source: Callable[[Placed], str]) -> list[PlacedRow]:
    groups: dict[tuple[str, str, str], list[Placed]] = {}
    for one in placed:
        groups.setdefault((one.view, source(one), one.map), []).append(one)
    return [
        PlacedRow(
            view,
            name,
            origin,
            len(group),
            *(
                float(np.mean([getattr(one, key) for one in group]))
                for key in ("iou", "auc", "hit", "marked")
            ),
        )
        for (view, origin, name), group in sorted(groups.items())
    ]
