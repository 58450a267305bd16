"""Faces replaced, blended or decoded at the resolution of their picture.

Every method has three parts: what is put in (the face itself, changed; another person's; a decoded
copy), where (a mask), and how (mixed, or with Poisson's equation).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import cv2
import numpy as np

from deepfake.content.faces import Face
from deepfake.preprocess import FacePreprocess, Pixels, similarity

from .. import perturb
from .data import eye_distance
from .masks import PARTS, WHOLE, Mask, draw_mask, paste

POISSON = "poisson_swap"
TWIN_SIDES = (64, 96, 128, 160)
Decode = Callable[[Pixels], Pixels]


@dataclass(frozen=True)
class Region:
    """A face with what is around it."""

    pixels: Pixels
    face: Face


@dataclass(frozen=True)
class Couple:
    """A genuine and a forged picture of one size; ``mask`` is 0 where they are the same."""

    genuine: Pixels
    forged: Pixels
    mask: Mask


@dataclass(frozen=True)
class Forger:
    """Makes couples. ``decoders`` are rounds through an autoencoder by name."""

    decoders: Mapping[str, Decode]

    def forge(
        self, region: Region, donor: Region, sibling: Region, rng: np.random.Generator, *, kind: str
    ) -> Couple:
        """A couple by one of ``METHODS``; ``donor`` is another person, ``sibling`` another frame of
        the same person (or the same one).
        """
        couple: Couple = METHODS[kind](self, region, donor, sibling, rng)
        return couple

    def self_blend(
        self, region: Region, _donor: Region, _sibling: Region, rng: np.random.Generator
    ) -> Couple:
        """The face on itself, one of both changed in colour or sharpness (Shiohara and Yamasaki
        2022).
        """
        target, source = region.pixels, region.pixels
        if rng.random() < 0.5:
            source = jitter(source, rng)
        else:
            target = jitter(target, rng)
        source = nudge(source, region.face, rng)
        mask = draw_any_mask(region, rng, parts=0.35)
        return Couple(target, paste(target, source, mask), mask)

    def swap(
        self, region: Region, donor: Region, _sibling: Region, rng: np.random.Generator
    ) -> Couple:
        """Another person's face or parts of it, matched in colour and mixed in."""
        mask = draw_any_mask(region, rng, parts=0.5, whole_ratio=True)
        source = fit_donor(region, donor, mask, rng)
        return Couple(region.pixels, paste(region.pixels, source, mask), mask)

    def poisson_swap(
        self,
        region: Region,
        donor: Region,
        _sibling: Region,
        rng: np.random.Generator,
        *,
        parts: float = 0.4,
    ) -> Couple:
        """Another person's face, or ``parts`` of it, by Poisson's equation (Pérez et al. 2003)."""
        mask = draw_any_mask(region, rng, parts=parts, whole_ratio=True, softness=0.02)
        source = fit_donor(region, donor, mask, rng)
        forged = clone(region.pixels, source, mask)
        return Couple(region.pixels, forged, (mask > 0.5).astype(np.float32))

    def twin(
        self, region: Region, donor: Region, _sibling: Region, rng: np.random.Generator
    ) -> Couple:
        """A decoded copy of the face, or of another person's in its place, mixed in."""
        mask = draw_mask(
            region.face,
            region.pixels.shape[:2],
            rng,
            kind=str(rng.choice(WHOLE[:2])),
            softness=float(rng.uniform(0.05, 0.5)),
        )
        content = region
        if rng.random() < 0.4:
            content = Region(fit_donor(region, donor, mask, rng), region.face)
        source = self.regenerate(content, rng, decode=self._draw_decoder(rng))
        return Couple(region.pixels, paste(region.pixels, source, mask), mask)

    def whole_twin(
        self, region: Region, _donor: Region, _sibling: Region, rng: np.random.Generator
    ) -> Couple:
        """All of the picture decoded, as a re-enacted face is; nothing is blended."""
        decoded = self._draw_decoder(rng)(region.pixels)
        return Couple(region.pixels, decoded, np.ones(decoded.shape[:2], np.float32))

    def mouth(
        self, region: Region, donor: Region, sibling: Region, rng: np.random.Generator
    ) -> Couple:
        """The mouth alone made again: moved, of another frame, or decoded."""
        kind = str(rng.choice(["mouth", "lower", "nose_mouth"], p=[0.4, 0.5, 0.1]))
        softness = float(rng.uniform(0.05, 0.3))
        mask = draw_mask(region.face, region.pixels.shape[:2], rng, kind=kind, softness=softness)
        way = rng.random()
        if way < 0.35:
            source = fit_donor(region, sibling, mask, rng)
            source = jitter(source, rng) if rng.random() < 0.5 else source
        elif way < 0.5:
            source = fit_donor(region, donor, mask, rng)
        else:
            moved = nudge(region.pixels, region.face, rng, strength=2.0)
            decode = self._draw_decoder(rng) if way < 0.8 else None
            source = self.regenerate(Region(moved, region.face), rng, decode=decode)
        return Couple(region.pixels, paste(region.pixels, source, mask), mask)

    def low_resolution(
        self, region: Region, donor: Region, _sibling: Region, rng: np.random.Generator
    ) -> Couple:
        """A face from a generator with few pixels, enlarged, sharpened and mixed in."""
        mask = draw_any_mask(region, rng, parts=0.15, whole_ratio=True)
        content = region
        if rng.random() < 0.5:
            content = Region(fit_donor(region, donor, mask, rng), region.face)
        source = self.regenerate(content, rng, decode=None)
        return Couple(region.pixels, paste(region.pixels, source, mask), mask)

    def regenerate(
        self, region: Region, rng: np.random.Generator, *, decode: Decode | None
    ) -> Pixels:
        """The face as a square of a generator's size, decoded and laid back into its picture."""
        side = int(rng.choice(TWIN_SIDES))
        square = FacePreprocess(side_pixels=side, span=float(rng.uniform(2.6, 3.6)))
        matrix = square.transform(region.face.points)
        made = square.crop(region.pixels, region.face.points)
        if decode is not None:
            made = decode(made)
        if rng.random() < 0.4:
            made = perturb.sharpen(made, amount=float(rng.uniform(0.3, 1.5)))
        height, width = region.pixels.shape[:2]
        interpolation = cv2.INTER_CUBIC if rng.random() < 0.5 else cv2.INTER_LINEAR
        back = cv2.warpAffine(
            made,
            cv2.invertAffineTransform(matrix),
            (width, height),
            flags=interpolation,
            borderMode=cv2.BORDER_REPLICATE,
        )
        return np.asarray(back, np.uint8)

    def _draw_decoder(self, rng: np.random.Generator) -> Decode:
        return self.decoders[str(rng.choice(sorted(self.decoders)))]


Method = Callable[[Forger, Region, Region, Region, np.random.Generator], Couple]
METHODS: Mapping[str, Method] = {
    "self_blend": Forger.self_blend,
    "swap": Forger.swap,
    POISSON: Forger.poisson_swap,
    "twin": Forger.twin,
    "whole_twin": Forger.whole_twin,
    "mouth": Forger.mouth,
    "low_resolution": Forger.low_resolution,
}


def draw_any_mask(
    region: Region,
    rng: np.random.Generator,
    *,
    parts: float,
    whole_ratio: bool = False,
    softness: float | None = None,
) -> Mask:
    """A mask of the face or, with a chance of ``parts``, of a part, at a random blend ratio
    (``whole_ratio``: mostly 1).
    """
    part = rng.random() < parts
    kinds = PARTS if part else WHOLE
    shares = None if part else [0.4, 0.3, 0.08, 0.12, 0.05, 0.05]
    kind = str(rng.choice(kinds, p=shares))
    high = 0.2 if part else 0.45
    drawn = float(np.exp(rng.uniform(np.log(0.03), np.log(high))))
    mask = draw_mask(
        region.face,
        region.pixels.shape[:2],
        rng,
        kind=kind,
        softness=drawn if softness is None else softness,
    )
    ratios = [0.75, 1, 1, 1, 1, 1] if whole_ratio else [0.25, 0.5, 0.75, 1, 1, 1]
    ratio = 1.0 if softness is not None else float(rng.choice(ratios))
    return mask * np.float32(ratio)


def jitter(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Another colour, and another sharpness, grain or JPEG round."""
    values = pixels.astype(np.float32)
    if rng.random() < 0.7:
        values += rng.uniform(-20, 20, 3).astype(np.float32)
    values = (values - 127.5) * np.float32(rng.uniform(0.9, 1.1)) + np.float32(127.5)
    grey = values.mean(axis=2, keepdims=True)
    values = grey + (values - grey) * np.float32(rng.uniform(0.7, 1.3))
    values += np.float32(rng.uniform(-0.1, 0.1) * 128)
    changed: Pixels = values.round().clip(0, 255).astype(np.uint8)
    kind = rng.random()
    if kind < 0.35:
        height, width = changed.shape[:2]
        factor = float(rng.uniform(1.5, 4))
        small = perturb.rescale(changed, factor=1 / factor, kernel="area")
        changed = np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC))
    elif kind < 0.6:
        changed = perturb.sharpen(changed, amount=float(rng.uniform(0.3, 1.5)))
    elif kind < 0.7:
        sigma = float(rng.uniform(1, 6))
        changed = perturb.noise(changed, sigma=sigma, seed=int(rng.integers(2**31)))
    elif kind < 0.8:
        changed = perturb.jpeg(changed, quality=int(rng.integers(30, 90)))
    return changed


def nudge(pixels: Pixels, face: Face, rng: np.random.Generator, *, strength: float = 1.0) -> Pixels:
    """Shifted by up to 3 % of the face (1.5 % downwards), scaled by up to 5 % and turned a little
    about the nose, and bent smoothly.
    """
    height, width = pixels.shape[:2]
    unit = 4 * eye_distance(face) * strength
    across, down = rng.uniform(-0.03, 0.03) * unit, rng.uniform(-0.015, 0.015) * unit
    turn, size = rng.normal(0, 1.0) * strength, 1 + rng.uniform(-0.05, 0.05) * strength
    nose = face.points[2]
    matrix = cv2.getRotationMatrix2D((float(nose[0]), float(nose[1])), turn, size)
    matrix[:, 2] += np.array([across, down])
    inverse = cv2.invertAffineTransform(matrix)
    across_grid, down_grid = np.meshgrid(np.arange(width), np.arange(height))
    bend = rng.normal(0, 0.025 * eye_distance(face) * strength, (2, 6, 6)).astype(np.float32)
    places = [
        np.ascontiguousarray(row[0] * across_grid + row[1] * down_grid + row[2], np.float32)
        + np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC))
        for row, coarse in zip(inverse, bend, strict=True)
    ]
    moved = cv2.remap(
        pixels, places[0], places[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return np.asarray(moved, np.uint8)


def fit_donor(region: Region, donor: Region, mask: Mask, rng: np.random.Generator) -> Pixels:
    """The donor turned, scaled and shifted onto the landmarks of ``region``, with the colours of
    what it covers (mean and deviation in CIELAB, Reinhard et al. 2001), wholly or in part.
    """
    height, width = region.pixels.shape[:2]
    pixels, matrix = donor.pixels, similarity(donor.face.points, region.face.points)
    scale = float(np.hypot(matrix[0, 0], matrix[0, 1]))
    if scale < 0.7:
        pixels = perturb.blur(pixels, sigma=0.4 / scale)
    laid = np.asarray(
        cv2.warpAffine(
            pixels, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
        ),
        np.uint8,
    )
    share = 1.0 if rng.random() < 0.7 else float(rng.uniform(0, 1))
    return match_colours(laid, region.pixels, mask, share=share)


def match_colours(pixels: Pixels, model: Pixels, mask: Mask, *, share: float) -> Pixels:
    """``pixels`` with mean and deviation of ``model`` inside the mask, moved by ``share`` of it."""
    inside = mask > 0.3
    if int(inside.sum()) < 20:
        return pixels
    own, goal = (
        cv2.cvtColor(p.astype(np.float32) / np.float32(255), cv2.COLOR_RGB2LAB)
        for p in (pixels, model)
    )
    mean, goal_mean = own[inside].mean(axis=0), goal[inside].mean(axis=0)
    ratio = goal[inside].std(axis=0) / np.maximum(own[inside].std(axis=0), 1e-3)
    moved = (own - mean) * ratio.clip(0.5, 2) + goal_mean
    mixed = own + np.float32(share) * (moved - own)
    rgb = cv2.cvtColor(mixed.astype(np.float32), cv2.COLOR_LAB2RGB)
    return np.asarray((rgb * 255).round().clip(0, 255), np.uint8)


def clone(target: Pixels, source: Pixels, mask: Mask) -> Pixels:
    """``source`` where the mask is over a half, its gradients kept and its edge the target's."""
    inside = (mask > 0.5).astype(np.uint8)
    inside[:2], inside[-2:], inside[:, :2], inside[:, -2:] = 0, 0, 0, 0
    left, top, width, height = cv2.boundingRect(inside)
    if min(width, height) < 4:
        return paste(target, source, mask)
    centre = (left + width // 2, top + height // 2)
    cloned = cv2.seamlessClone(source, target, inside * 255, centre, cv2.NORMAL_CLONE)
    return np.asarray(cloned, np.uint8)
