"""The weights of ``deepfake.content.drawings``: fitted on photographs against drawn pictures, and
how often either is caught with weights that saw nothing of its source.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from sklearn.utils.class_weight import compute_sample_weight
from tqdm import tqdm

from deepfake.content.drawings import Measures, find_photo, measure
from deepfake.preprocess import Box, Pixels

from ..card import markdown
from ..image.data import FACE_SOURCES, decode
from ..manifests import Item, read_manifest
from ..perturb import PICTURE_VIEWS, jpeg, noise, rescale
from .drawn import GRAPHICS, draw_screenshot

VIEWS = {view: PICTURE_VIEWS[view] for view in ("clean", "web", "thumbnail")}
SIGNS = Measures(flat=1, still=1, colours=1, lines=1, calm=1, clean=1, middling=-1, texture=-1)
"""Whether more of it may speak for (1) or against (-1) a graphic."""
MOST_CAUGHT = 0.005
"""Share of the photographs of the fit, every source counting equally, that may be caught."""
PENALTY = 1e-3

Floats = npt.NDArray[np.float64]


def enlarge(pixels: Pixels) -> Pixels:
    """Like a large and soft photograph: three times the size, little noise, JPEG 90."""
    large = rescale(pixels, factor=3, kernel="cubic")
    return jpeg(noise(large, sigma=1.0, seed=0), quality=90)


@dataclass(frozen=True)
class Row:
    """One view of one picture. ``kind`` is photo, drawn, screenshot or generated; ``source`` is
    what is left out together: that of the photo, also of one in a screenshot, or who drew it.
    ``purity`` and ``coverage`` tell how much of the panel that was found is photo, and how much of
    the photo lies in it; None where none was found.
    """

    kind: str
    source: str
    view: str
    measures: Measures | None
    purity: float | None = None
    coverage: float | None = None


@dataclass(frozen=True)
class Gate:
    weights: Floats
    intercept: float

    def catches(self, row: Row) -> bool:
        if row.measures is None:
            return True
        return float(np.array(row.measures) @ self.weights) + self.intercept > 0


def run(data: Path, *, most_files: int, drawn: int) -> None:
    """Measure, fit with every source left out in turn, and print rates and the weights of all."""
    items = read_manifest(data / "image", source_column="source")
    rows = list(measure_all(items, most_files=most_files, drawn=drawn))
    known = [row for row in rows if row.kind != "generated"]
    final = fit(known)
    caught = {id(row): final.catches(row) for row in rows if row.kind == "generated"}
    for source in sorted({row.source for row in known}):
        gate = fit([row for row in known if row.source != source])
        caught |= {id(row): gate.catches(row) for row in known if row.source == source}
    print("Share called a graphic, by weights that saw nothing of the source\n")
    print(rate_table(rows, caught))
    print("\nThe photo in a screenshot\n")
    print(panel_table(rows))
    weights = ", ".join(
        f"{name}={weight:.2f}" for name, weight in zip(Measures._fields, final.weights, strict=True)
    )
    print(f"\nWEIGHTS = Measures({weights})\nINTERCEPT = {final.intercept:.2f}")


def measure_all(items: Sequence[Item], *, most_files: int, drawn: int) -> Iterator[Row]:
    """Rows of at most ``most_files`` files of every source, each genuine one also in a drawn
    screenshot, and of ``drawn`` pictures of every kind.
    """
    sources: dict[str, list[Item]] = {}
    for item in items:
        if item.source not in FACE_SOURCES:
            sources.setdefault(item.source, []).append(item)
    chosen = [item for source in sources.values() for item in _spread(source, most_files)]
    for number, item in enumerate(tqdm(chosen, desc="measuring", mininterval=5)):
        pixels = decode(item.path.read_bytes())[0]
        if item.label:
            yield Row("generated", item.source, "clean", measure(pixels))
            continue
        for view, change in (VIEWS | {"enlarged": enlarge}).items():
            yield Row("photo", item.source, view, measure(change(pixels)))
        shot = draw_screenshot(np.random.default_rng([0, number]), pixels)
        for view, change in VIEWS.items():
            seen = change(shot.pixels)
            place = find_photo(seen)
            zoom = seen.shape[1] / shot.pixels.shape[1]
            shares = (None, None) if place is None else _overlap(place, shot.photo, zoom)
            yield Row("screenshot", item.source, view, measure(seen), *shares)
    for kind, draw in tqdm(GRAPHICS.items(), desc="drawing", mininterval=5):
        for number in range(drawn):
            pixels = draw(np.random.default_rng([1, number]))
            for view, change in VIEWS.items():
                seen = change(pixels)
                found = None if find_photo(seen) is None else 0.0
                yield Row("drawn", kind, view, measure(seen), found, found)


def fit(rows: Sequence[Row]) -> Gate:
    """Logistic regression in which every source counts equally, photos as much as graphics, and no
    weight has the wrong sign; then the intercept at which ``MOST_CAUGHT`` of the photos are caught.
    """
    seen = [row for row in rows if row.measures is not None]
    values = np.array([row.measures for row in seen], np.float64)
    graphic = np.array([row.kind != "photo" for row in seen])
    shares = compute_sample_weight("balanced", [f"{row.kind} {row.source}" for row in seen])
    sides = np.where(graphic, 1.0, -1.0)
    for side in (graphic, ~graphic):
        shares[side] /= shares[side].sum()

    def loss(point: Floats) -> tuple[float, Floats]:
        margins = sides * (values @ point[:-1] + point[-1])
        slopes = -sides * shares * np.exp(-np.logaddexp(0, margins))
        cost = shares @ np.logaddexp(0, -margins) + PENALTY * point[:-1] @ point[:-1]
        return float(cost), np.append(slopes @ values + 2 * PENALTY * point[:-1], slopes.sum())

    bounds = [(0, None) if sign > 0 else (None, 0) for sign in SIGNS]
    start = np.zeros(len(SIGNS) + 1)
    found = minimize(loss, start, jac=True, bounds=[*bounds, (None, None)], method="L-BFGS-B")
    weights = np.asarray(found.x[:-1], np.float64)
    logits = values[~graphic] @ weights
    order = np.argsort(logits)
    below = np.cumsum(shares[~graphic][order])
    limit = logits[order][np.searchsorted(below, 1 - MOST_CAUGHT).clip(max=len(order) - 1)]
    return Gate(weights, -float(limit))


def rate_table(rows: Sequence[Row], caught: dict[int, bool]) -> str:
    """Markdown: one line for each kind and source, one column for each view."""
    views = [*VIEWS, "enlarged"]
    cells: list[list[object]] = []
    for kind, source in sorted({(row.kind, row.source) for row in rows}):
        some = [row for row in rows if (row.kind, row.source) == (kind, source)]
        shares = [[caught[id(row)] for row in some if row.view == view] for view in views]
        files = len([row for row in some if row.view == "clean"])
        means = [f"{np.mean(share):.3f}" if share else "–" for share in shares]
        cells.append([kind, source, files, *means])
    return markdown(["kind", "source", "files", *views], cells)


def panel_table(rows: Sequence[Row]) -> str:
    """Markdown: how often a photo is found in a screenshot, and in a drawing, which has none."""
    cells: list[list[object]] = []
    for kind in ("screenshot", "drawn"):
        for view in VIEWS:
            some = [row for row in rows if (row.kind, row.view) == (kind, view)]
            found = [row for row in some if row.purity is not None]
            means = ["–", "–", "–"]
            if kind == "screenshot" and found:
                purity = np.array([row.purity for row in found], np.float64)
                covered = np.array([row.coverage for row in found], np.float64)
                means = [f"{v:.2f}" for v in (purity.mean(), (purity < 0.9).mean(), covered.mean())]
            cells.append([kind, view, len(some), f"{len(found) / max(1, len(some)):.2f}", *means])
    head = ["kind", "view", "files", "panel found", "mean purity", "purity below 0.9"]
    return markdown([*head, "mean coverage"], cells)


def _spread(items: Sequence[Item], most: int) -> list[Item]:
    """At most ``most`` of the items, evenly spread."""
    places = np.linspace(0, len(items) - 1, min(most, len(items))).round().astype(int)
    return [items[place] for place in places]


def _overlap(found: Box, photo: Box, zoom: float) -> tuple[float, float]:
    """Share of ``found`` that is photo, and share of the photo, scaled by ``zoom``, in it."""
    left, top, width, height = (zoom * side for side in photo)
    across = min(found.left + found.width, left + width) - max(found.left, left)
    down = min(found.top + found.height, top + height) - max(found.top, top)
    shared = max(0.0, across) * max(0.0, down)
    return shared / (found.width * found.height), shared / (width * height)
