"""Photos with a part of another file pasted in, and where: what localisation is measured on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt

from deepfake.errors import SettingsError
from deepfake.preprocess import Pixels

from ..image.data import decode
from ..manifests import Item
from ..perturb import PICTURE_VIEWS, PictureStep, jpeg

SHARES = (0.1, 0.4)
FEATHER_PIXELS = (2.0, 4.0)
QUALITIES = (70, 95)
SHAPES = ("ellipse", "rectangle", "blob")
UNIT = 16
"""Side of a JPEG coding unit with 4:2:0, on whose grid both pictures lie."""
MOST_TRIES = 1000

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Composite:
    """RGB ``pixels`` (height, width, 3) with a part of another file where ``region`` (height,
    width) is true, generated or, as a control, genuine (``label`` 1 or 0); ``before`` is the photo
    without it, after the same JPEG round.
    """

    photo_source: str
    pasted_source: str
    label: int
    before: Pixels
    pixels: Pixels
    region: Mask

    def seen(self, view: str) -> Composite:
        """The same in a view of ``PICTURE_VIEWS``, its region at the new size."""
        change: PictureStep = PICTURE_VIEWS[view]
        pixels = change(self.pixels)
        region = fit(self.region, width=pixels.shape[1], height=pixels.shape[0])
        return replace(self, before=change(self.before), pixels=pixels, region=region)


def draw_pairs(
    items: Sequence[Item], *, count: int, seed: int, label: int = 1
) -> list[tuple[Item, Item]]:
    """``count`` couples of a bona fide file and one of ``label`` and another source; sources take
    turns, so that no large one dominates. Raises ``SettingsError`` where there are none.
    """
    rng = np.random.default_rng([seed, label])
    photos, others = (
        _take_turns([i for i in items if i.label == kind], rng) for kind in (0, label)
    )
    rounds = len({photo.source for photo in photos}) or 1
    pairs = []
    for number in range(count if photos else 0):
        photo, start = photos[number % len(photos)], number + number // rounds
        turns = (others[(start + shift) % len(others)] for shift in range(len(others)))
        other = next((item for item in turns if item.source != photo.source), None)
        pairs += [(photo, other)] if other else []
    if len(pairs) < count:
        raise SettingsError("composites: need genuine and generated pictures of several sources")
    return pairs


def make_composite(photo: Item, pasted: Item, *, rng: np.random.Generator) -> Composite:
    """Paste a region of another file into the photo, after one JPEG round of both whose
    coding units lie on one grid in the result, so that compression does not give the region away.

    A photo of more than twice the sides of the other picture is cut to that. Raises
    ``SettingsError`` when no region fits.
    """
    quality = int(rng.integers(QUALITIES[0], QUALITIES[1] + 1))
    other = jpeg(decode(pasted.path.read_bytes())[0], quality=quality)
    limits = [2 * side for side in other.shape[:2]]
    before = jpeg(decode(photo.path.read_bytes())[0][: limits[0], : limits[1]], quality=quality)
    for _ in range(MOST_TRIES):
        region = draw_region(rng, *before.shape[:2])
        sigma = float(rng.uniform(*FEATHER_PIXELS)) / 2
        opacity = cv2.GaussianBlur(
            region.astype(np.float32), (0, 0), sigma, borderType=cv2.BORDER_REPLICATE
        )
        spans = [_span(opacity.max(axis=axis) > 0) for axis in (1, 0)]
        room = [
            whole - UNIT - (end - start)
            for whole, (start, end) in zip(other.shape[:2], spans, strict=True)
        ]
        if SHARES[0] <= region.mean() <= SHARES[1] and min(room) >= 0:
            break
    else:
        raise SettingsError(f"{photo.path.name}, {pasted.path.name}: no region fits")
    place = tuple(slice(*span) for span in spans)
    starts = [
        start % UNIT + UNIT * int(rng.integers(spare // UNIT + 1))
        for (start, _), spare in zip(spans, room, strict=True)
    ]
    part = other[
        tuple(slice(s, s + end - start) for s, (start, end) in zip(starts, spans, strict=True))
    ]
    pixels, cover = before.copy(), opacity[place][..., None]
    pixels[place] = (before[place] * (1 - cover) + part * cover).round()
    return Composite(photo.source, pasted.source, pasted.label, before, pixels, region)


def draw_region(rng: np.random.Generator, height: int, width: int) -> Mask:
    """An ellipse, a rectangle or a blob around any point of the picture, cut by its edges, so that
    the middle is not much likelier to be inside than the rest.
    """
    name, area = str(rng.choice(SHAPES)), float(rng.uniform(0.1, 1.0)) * height * width
    aspect = float(np.exp(rng.uniform(-0.5, 0.5)))
    phases, strengths = rng.uniform(0, 2 * np.pi, 4), rng.uniform(0, 0.4, 4) / np.arange(1, 5)
    y = (np.arange(height)[:, None] - rng.uniform(0, height)) / np.sqrt(area * aspect)
    x = (np.arange(width) - rng.uniform(0, width)) / np.sqrt(area / aspect)
    if name == "rectangle":
        return np.asarray(np.maximum(np.abs(x), np.abs(y)) <= 0.5)
    radius = 1 / np.sqrt(np.pi)
    if name == "blob":
        waves = np.cos(np.arctan2(y, x)[..., None] * np.arange(2, 6) + phases)
        radius = radius * (1 + (strengths * waves).sum(axis=-1))
    return np.asarray(np.hypot(x, y) <= radius)


def _span(used: npt.NDArray[np.bool_]) -> tuple[int, int]:
    """First and last (exclusive) true place; an empty span without one."""
    places = np.flatnonzero(used)
    return (int(places[0]), int(places[-1]) + 1) if len(places) else (0, 0)


def fit(mask: Mask, *, width: int, height: int) -> Mask:
    """The mask at another size."""
    scaled = cv2.resize(mask.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST)
    return np.asarray(scaled, np.bool_)


def _take_turns(items: Sequence[Item], rng: np.random.Generator) -> list[Item]:
    """All items, one of each source in turn, shuffled within a source."""
    by_source: dict[str, list[Item]] = {}
    for item in items:
        by_source.setdefault(item.source, []).append(item)
    for files in by_source.values():
        rng.shuffle(files)
    longest = max((len(files) for files in by_source.values()), default=0)
    return [files[n % len(files)] for n in range(longest) for files in by_source.values()]
