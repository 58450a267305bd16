"""Pseudo-fakes over time: a genuine burst in which something changes as no camera would show it.

Every maker takes a burst (frames, side, side, 3) and gives one of the same shape. ``face`` tells
that an aligned face is in its middle, on which the change is then laid.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import cv2
import numpy as np
import numpy.typing as npt
import torch

from ..image.autoencoder import Autoencoder
from ..image.decoders import UPSAMPLERS, DecoderFamily
from ..perturb import blur, jpeg, rescale, sharpen

Stack = npt.NDArray[np.uint8]
Plane = npt.NDArray[np.float32]
Maker = Callable[..., Stack]
METHODS = (
    "flicker",
    "frozen",
    "splice",
    "interpolated",
    "animated",
    "wobble",
    "decoder",
    "autoencoder",
)


def flicker(burst: Stack, rng: np.random.Generator, *, face: bool) -> Stack:
    """A region blended with a changed copy of itself, anew in every frame: its colour, place and
    edge jump, as where a generator works frame by frame (after Shiohara and Yamasaki 2022).
    """
    shape, side = draw_region(rng, face=face), burst.shape[1]
    tint, contrast = rng.normal(0, 14, 3), float(rng.uniform(0.85, 1.15))
    shake = float(np.exp(rng.uniform(np.log(0.3), 0)))
    opacity = float(rng.choice([0.5, 0.75, 1.0, 1.0]))
    made = []
    for pixels in burst:
        turn, growth = rng.normal(0, 1.5 * shake), 1 + rng.normal(0, 0.02 * shake)
        turned = cv2.getRotationMatrix2D((side / 2, side / 2), turn, growth)
        matrix: npt.NDArray[np.float64] = np.array(turned, np.float64)
        matrix[:, 2] += rng.normal(0, 0.012 * shake * side, 2)
        moved = cv2.warpAffine(pixels, matrix, (side, side), borderMode=cv2.BORDER_REPLICATE)
        values = (moved - 127.5) * (contrast + rng.normal(0, 0.05 * shake)) + 127.5
        values = values + (tint + rng.normal(0, 9 * shake, 3)) * 0.6
        jump = rng.normal(0, 0.03 * shake, 4)
        made.append(mix(pixels, values, opacity * region_mask(shape + jump, side=side, rng=rng)))
    return np.stack(made)


def freeze(burst: Stack, rng: np.random.Generator, *, face: bool) -> Stack:
    """A region that stands still, runs at half speed or lags, while the rest moves on."""
    mask = region_mask(draw_region(rng, face=face), side=burst.shape[1], rng=rng)
    count, kind = len(burst), rng.random()
    if kind < 0.5:
        first = int(rng.integers(0, count // 2))
        order = np.minimum(np.arange(count), first)
    elif kind < 0.8:
        order = np.arange(count) // 2 + int(rng.integers(count // 3))
    else:
        order = np.maximum(np.arange(count) - int(rng.integers(2, 4)), 0)
    return np.stack([mix(pixels, burst[i], mask) for pixels, i in zip(burst, order, strict=True)])


def splice(burst: Stack, rng: np.random.Generator, *, face: bool) -> Stack:
    """Some of the frames come from another round of compression, another size or another lens."""
    count, side = len(burst), burst.shape[1]
    if rng.random() < 0.5:
        inside = np.zeros(count, bool)
        start = int(rng.integers(0, count - 2))
        inside[start : start + int(rng.integers(1, count - 2))] = True
    else:
        inside = rng.random(count) < rng.uniform(0.25, 0.6)
    inside[int(rng.integers(count))] ^= bool(inside.all() or not inside.any())
    kind, factor = rng.random(), float(rng.uniform(0.3, 0.7))
    quality, amount = int(rng.integers(12, 50)), float(rng.uniform(0.6, 1.5))
    made = burst.copy()
    for index in np.flatnonzero(inside):
        if kind < 0.45:
            other = jpeg(burst[index], quality=quality)
        elif kind < 0.75:
            small = rescale(burst[index], factor=factor)
            other = rescale(small, factor=side / len(small), kernel="linear")
        elif kind < 0.9:
            other = blur(burst[index], sigma=amount)
        else:
            other = sharpen(burst[index], amount=amount)
        made[index] = cv2.resize(other, (side, side))
    return made


def interpolate(burst: Stack, rng: np.random.Generator, *, face: bool) -> Stack:
    """Only every second to fourth frame is kept; those between are blends of the two beside."""
    count, step = len(burst), int(rng.integers(2, 5))
    phase = int(rng.integers(step))
    keys = np.unique(np.clip(np.arange(phase - step, count + step, step), 0, count - 1))
    made = burst.copy()
    for index in range(count):
        before, after = keys[keys <= index].max(), keys[keys >= index].min()
        if before != after:
            share = (index - before) / (after - before)
            mixed = (1 - share) * burst[before].astype(np.float32) + share * burst[after]
            made[index] = mixed.round()
    return made


def animate(burst: Stack, rng: np.random.Generator, *, face: bool) -> Stack:
    """One frame set in motion by smooth warps, as where a picture is turned into a video."""
    still, side, count = burst[int(rng.integers(len(burst)))], burst.shape[1], len(burst)
    amplitude = side * float(np.exp(rng.uniform(np.log(0.008), np.log(0.05))))
    fields = [smooth_field(side, cells=int(rng.integers(2, 5)), rng=rng) for _ in range(2)]
    pace, phase = rng.uniform(0.3, 1.0, 2), rng.uniform(0, 2 * np.pi, 2)
    drift, zoom = rng.normal(0, 0.006 * side, 2), float(rng.normal(0, 0.006))
    made = []
    for time in range(count):
        sway = np.sin(pace * time + phase) - np.sin(phase)
        flow = amplitude * sum(s * field for s, field in zip(sway, fields, strict=True))
        made.append(displace(still, flow + drift * time, zoom=zoom * time))
    return np.stack(made)


def wobble(burst: Stack, rng: np.random.Generator, *, face: bool) -> Stack:
    """Fine elastic shifts of the texture that follow no motion of the scene."""
    side, cells = burst.shape[1], int(rng.integers(5, 14))
    amplitude = side * float(np.exp(rng.uniform(np.log(0.005), np.log(0.018))))
    memory = float(rng.uniform(0, 0.85))
    mask = region_mask(draw_region(rng, face=face), side=side, rng=rng)
    spread = np.float32(1.0) if rng.random() < 0.4 else mask[..., None]
    field, made = smooth_field(side, cells=cells, rng=rng), []
    for pixels in burst:
        fresh = smooth_field(side, cells=cells, rng=rng)
        field = memory * field + float(np.sqrt(1 - memory**2)) * fresh
        made.append(displace(pixels, amplitude * field * spread))
    return np.stack(made)


def redecode(burst: Stack, rng: np.random.Generator, *, face: bool, family: DecoderFamily) -> Stack:
    """Every frame, or a region of it, through a small decoder with noise of its own in the latents,
    so that the textures flicker.
    """
    strength = float(np.exp(rng.uniform(np.log(0.02), np.log(0.25))))
    torch_rng = torch.Generator().manual_seed(int(rng.integers(2**31)))
    batch = torch.from_numpy(burst).permute(0, 3, 1, 2).float() / 127.5 - 1
    with torch.inference_mode():
        latents = family.encoder(batch)
        grain = torch.randn(latents.shape, generator=torch_rng)
        coarse = torch.randn((*latents.shape[:2], 10, 10), generator=torch_rng)
        size = (latents.shape[2], latents.shape[3])
        coarse = torch.nn.functional.interpolate(coarse, size=size, mode="bilinear")
        noise = strength * latents.std(dim=(2, 3), keepdim=True) * (0.4 * grain + 0.6 * coarse)
        decoded = family.decoders[str(rng.choice(UPSAMPLERS))](latents + noise)
    return _blend_decoded(burst, decoded / 2 + 0.5, rng, face=face)


def reconstruct(
    burst: Stack, rng: np.random.Generator, *, face: bool, autoencoder: Autoencoder
) -> Stack:
    """As :func:`redecode`, by a published autoencoder and with noise in its latents."""
    torch_rng = torch.Generator().manual_seed(int(rng.integers(2**31)))
    batch = torch.from_numpy(burst).permute(0, 3, 1, 2).float() / 255
    strength = float(rng.uniform(0.02, 0.15))
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        latents = autoencoder.encoder(batch.contiguous(memory_format=torch.channels_last))
        latents = latents + strength * latents.std() * torch.randn(
            latents.shape, generator=torch_rng
        )
        decoded = autoencoder.decoder(latents).float()
    return _blend_decoded(burst, decoded, rng, face=face)


def make_makers(family: DecoderFamily, autoencoder: Autoencoder) -> dict[str, Maker]:
    """All makers by the name of what they imitate."""
    decode, rebuild = (
        partial(redecode, family=family),
        partial(reconstruct, autoencoder=autoencoder),
    )
    makers = (flicker, freeze, splice, interpolate, animate, wobble, decode, rebuild)
    return dict(zip(METHODS, makers, strict=True))


def draw_region(rng: np.random.Generator, *, face: bool) -> npt.NDArray[np.float64]:
    """Centre (x, y) and radii of an ellipse, in sides of the picture."""
    if face and rng.random() < 0.75:
        return np.array([0.5, 0.5, 0.24, 0.3]) * rng.normal(1, 0.06, 4)
    if face:
        return np.array([0.5, rng.choice([0.4, 0.63]), 0.18, 0.09]) * rng.normal(1, 0.1, 4)
    return np.concatenate([rng.uniform(0.25, 0.75, 2), rng.uniform(0.12, 0.35, 2)])


def region_mask(shape: npt.NDArray[np.float64], *, side: int, rng: np.random.Generator) -> Plane:
    """A soft ellipse (side, side) in 0…1, its edge bent at random."""
    down, across = (np.mgrid[0:side, 0:side].astype(np.float32) + 0.5) / side
    distance = np.hypot((across - shape[0]) / abs(shape[2]), (down - shape[1]) / abs(shape[3]))
    bend = 0.12 * smooth_field(side, cells=4, rng=rng)[..., 0]
    soft = float(rng.uniform(0.05, 0.3))
    return np.asarray(np.clip((1 + bend - distance) / soft + 0.5, 0, 1), np.float32)


def smooth_field(side: int, *, cells: int, rng: np.random.Generator) -> Plane:
    """A random field (side, side, 2) of about unit size that changes over ``side / cells``."""
    coarse = rng.standard_normal((cells + 2, cells + 2, 2)).astype(np.float32)
    return np.asarray(cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC), np.float32)


def displace(pixels: Stack, flow: npt.NDArray[np.floating], *, zoom: float = 0.0) -> Stack:
    """``pixels`` read at a place that is ``flow`` (side, side, 2) pixels off."""
    side = len(pixels)
    down, across = np.mgrid[0:side, 0:side].astype(np.float32)
    grid = np.stack([across, down], axis=-1)
    places = (side / 2 + (grid - side / 2) * (1 - zoom) + flow).astype(np.float32)
    moved = cv2.remap(
        pixels,
        places[..., 0],
        places[..., 1],
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REFLECT_101,
    )
    return np.asarray(moved, np.uint8)


def mix(under: Stack, over: npt.NDArray[np.floating] | Stack, mask: Plane) -> Stack:
    """``over`` where ``mask`` is 1, ``under`` where it is 0."""
    weight = mask[..., None]
    mixed = under * (1 - weight) + np.asarray(over, np.float32) * weight
    return np.asarray(mixed.round().clip(0, 255), np.uint8)


def _blend_decoded(
    burst: Stack, decoded: torch.Tensor, rng: np.random.Generator, *, face: bool
) -> Stack:
    values = (decoded.clamp(0, 1) * 255).permute(0, 2, 3, 1).numpy()
    if rng.random() < 0.5:
        return np.asarray(values.round(), np.uint8)
    mask = region_mask(draw_region(rng, face=face), side=burst.shape[1], rng=rng)
    return np.stack([mix(p, v, mask) for p, v in zip(burst, values, strict=True)])
