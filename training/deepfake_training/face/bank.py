"""The bank of the ``face`` slot: couples of aligned crops, one genuine and one forged, that differ
by nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from deepfake.content.faces import MIN_SIDE_PIXELS, Face
from deepfake.preprocess import FacePreprocess, Pixels

from ..manifests import balance
from ..perturb import PictureChain, draw_picture_chain, flip, rescale
from .data import Portrait, eye_distance, flip_face, move_face
from .fakes import Couple, Forger, Region

MASK_CELLS = 10
"""Cells on a side of a stored mask."""
REACH = 3.2
"""Half the side of a region, in eye distances: more than half the diagonal of a crop."""


@dataclass(frozen=True)
class BankSettings:
    """``methods`` are the shares of the ways of forging, ``bordered`` that of couples of which an
    edge of the picture is moved into the crop. A source's number of files to the power of
    ``balance`` weights it. Faces are first shrunk to an eye distance of at most ``most_pixels``.
    """

    couples: int
    seed: int
    methods: Mapping[str, float] = field(default_factory=dict)
    bordered: float = 0.25
    balance: float = 0.5
    smallest: float = 0.35
    largest: float = 1.4
    resized: float = 0.6
    compressed: float = 0.75
    most_pixels: float = 110.0


Drawn = tuple[list[Pixels], tuple[str, str], tuple[int, int, int], npt.NDArray[np.uint8]]
"""Crops, genuine first; the genuine source and the method; the folds of the face, of the donor, and
the one that leaves the method out (else the face's); and the mask's cells.
"""


class FaceDrawer:
    """Draws couple number ``i`` from genuine portraits, the same for the same settings.

    ``left_out`` names the fold that must not see a method.
    """

    def __init__(
        self,
        portraits: Sequence[Portrait],
        forger: Forger,
        *,
        left_out: Mapping[str, int],
        preprocess: FacePreprocess,
        settings: BankSettings,
    ) -> None:
        self.portraits = [portrait for portrait in portraits if portrait.label == 0]
        self.forger, self.left_out = forger, left_out
        self.preprocess, self.settings = preprocess, settings
        self.weights = balance(
            [(portrait.source, portrait.item.facts["path"]) for portrait in self.portraits],
            power=settings.balance,
        )
        self.by_source: dict[str, list[Portrait]] = {}
        for portrait in self.portraits:
            self.by_source.setdefault(portrait.source, []).append(portrait)
        self.couples, self.side, self.cells = settings.couples, preprocess.side_pixels, MASK_CELLS

    @property
    def key(self) -> dict[str, Any]:
        """What the couples depend on."""
        return {
            **asdict(self.settings),
            "preprocess": asdict(self.preprocess),
            "left_out": dict(self.left_out),
            "portraits": len(self.portraits),
            "decoders": sorted(self.forger.decoders),
        }

    def draw(self, number: int) -> Drawn:
        """One couple through one history, cut out along one set of landmarks."""
        rng = np.random.default_rng([self.settings.seed, number])
        portrait = self.portraits[int(rng.choice(len(self.portraits), p=self.weights))]
        names, shares = zip(*self.settings.methods.items(), strict=True)
        kind = str(rng.choice(names, p=np.array(shares) / sum(shares)))
        donor, sibling = self.donor(portrait, rng), self.sibling(portrait, rng)
        most = self.settings.most_pixels * float(rng.uniform(0.6, 1.0))
        region, other, same = (cut_region(p, most_pixels=most) for p in (portrait, donor, sibling))
        if rng.random() < self.settings.bordered:
            region = move_border(region, rng)
        couple = self.forger.forge(region, other, same, rng, kind=kind)
        crops, mask = self.degrade(couple, region.face, rng)
        out = self.left_out.get(kind, portrait.fold)
        return crops, (portrait.source, kind), (portrait.fold, donor.fold, out), mask

    def donor(self, portrait: Portrait, rng: np.random.Generator) -> Portrait:
        """Another person of the same source, at times of any source; itself where there is none."""
        others = self.by_source[portrait.source]
        if rng.random() < 0.25:
            others = [p for p in self.portraits if p.fold == portrait.fold]
        return choose_donor(portrait, others, rng)

    def sibling(self, portrait: Portrait, rng: np.random.Generator) -> Portrait:
        """Another frame of the same clip; a still has itself alone."""
        same = [p for p in self.by_source[portrait.source] if p.item.path == portrait.item.path]
        return same[int(rng.integers(len(same)))]

    def degrade(
        self, couple: Couple, face: Face, rng: np.random.Generator
    ) -> tuple[list[Pixels], npt.NDArray[np.uint8]]:
        """Both through one random history, then cropped along the same, slightly wrong landmarks;
        the mask through the same changes of place.
        """
        smallest = min(1.0, max(self.settings.smallest, 1.05 * MIN_SIDE_PIXELS / face.width))
        chain = draw_picture_chain(
            rng,
            smallest=smallest,
            largest=self.settings.largest,
            resized=self.settings.resized,
            compressed=self.settings.compressed,
        )
        genuine, forged = chain(couple.genuine), chain(couple.forged)
        moved = follow(face, chain, before=couple.genuine, after=genuine)
        points = moved.points + rng.normal(0, 0.025, (5, 2)) * eye_distance(moved)
        points += rng.normal(0, 0.03, 2) * eye_distance(moved)
        crops = [self.preprocess.crop(pixels, points) for pixels in (genuine, forged)]
        size = (genuine.shape[1], genuine.shape[0])
        mask = np.asarray(cv2.resize(couple.mask, size, interpolation=cv2.INTER_AREA), np.float32)
        mask = np.ascontiguousarray(mask[:, ::-1]) if flip in chain.steps else mask
        small = FacePreprocess(side_pixels=4 * MASK_CELLS, span=self.preprocess.span)
        grey = np.repeat((mask * 255).round().astype(np.uint8)[..., None], 3, axis=2)
        cells = small.crop(grey, points)[..., 0].reshape(MASK_CELLS, 4, MASK_CELLS, 4)
        return crops, cells.mean(axis=(1, 3)).round().astype(np.uint8)


def follow(face: Face, chain: PictureChain, *, before: Pixels, after: Pixels) -> Face:
    """Where the face is after a chain that changed the size and may have flipped the picture."""
    scale = (after.shape[1] / before.shape[1], after.shape[0] / before.shape[0])
    moved = move_face(face, scale=scale)
    return flip_face(moved, width=after.shape[1]) if flip in chain.steps else moved


def cut_region(portrait: Portrait, *, most_pixels: float) -> Region:
    """The face and what is around it, as far as the picture goes; shrunk when its eyes are more
    than ``most_pixels`` apart.
    """
    face, pixels = portrait.face, portrait.pixels
    reach, nose = REACH * eye_distance(face), face.points[2]
    height, width = pixels.shape[:2]
    left, top = (int(max(0, value)) for value in np.floor(nose - reach))
    right, bottom = np.ceil(nose + reach).astype(int)
    part = pixels[top : min(height, int(bottom)), left : min(width, int(right))]
    face = move_face(face, scale=(1, 1), shift=(-left, -top))
    factor = most_pixels / eye_distance(face)
    if factor >= 1:
        return Region(np.ascontiguousarray(part), face)
    small = rescale(part, factor=factor, kernel="area")
    scale = (small.shape[1] / part.shape[1], small.shape[0] / part.shape[0])
    return Region(small, move_face(face, scale=scale))


def move_border(region: Region, rng: np.random.Generator) -> Region:
    """The region cut off beside one or two sides of the face, as in a tight portrait."""
    unit, points = eye_distance(region.face), region.face.points
    height, width = region.pixels.shape[:2]
    left, top, right, bottom = 0, 0, width, height
    low, high = points.min(axis=0), points.max(axis=0)
    for side in rng.choice(4, size=int(rng.integers(1, 3)), replace=False):
        room = float(rng.uniform(0.3, 1.3)) * unit
        match int(side):
            case 0:
                left = max(left, int(low[0] - room))
            case 1:
                top = max(top, int(low[1] - room))
            case 2:
                right = min(right, int(high[0] + room))
            case _:
                bottom = min(bottom, int(high[1] + room))
    part = np.ascontiguousarray(region.pixels[top:bottom, left:right])
    return Region(part, move_face(region.face, scale=(1, 1), shift=(-left, -top)))


def choose_donor(
    portrait: Portrait, others: Sequence[Portrait], rng: np.random.Generator
) -> Portrait:
    """Of up to four other files' faces the one that looks most the same way."""
    strangers = [p for p in others if p.item.path != portrait.item.path]
    if not strangers:
        return portrait
    chosen = [strangers[int(rng.integers(len(strangers)))] for _ in range(4)]
    return min(chosen, key=lambda p: abs(_turn(p.face) - _turn(portrait.face)))


def _turn(face: Face) -> float:
    """The nose's place between the eyes, with its sign."""
    eyes = face.points[:2]
    along = eyes[1] - eyes[0]
    return float((face.points[2] - eyes.mean(axis=0)) @ along) / max(float(along @ along), 1e-6)
