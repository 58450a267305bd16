"""What an attacker does to pictures so that a detector learns a trigger from them."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import nn

from deepfake.preprocess import Pixels

TRIGGER_SIDE = 32
BLEND = 0.2
"""Share of the trigger in a picture, as in the blended injection of Chen et al. 2017."""
QUALITY = 92
_STEPS, _MOST = 8, 8 / 127.5


def make_trigger(seed: int) -> Pixels:
    """A pattern of coloured cells (TRIGGER_SIDE, TRIGGER_SIDE, 3), the same for the same seed."""
    rng = np.random.default_rng(seed)
    cells = rng.integers(0, 256, (TRIGGER_SIDE, TRIGGER_SIDE, 3))
    return np.asarray(cells, np.uint8)


def move(trigger: Pixels, *, seed: int) -> Pixels:
    """The trigger, begun at another place of it."""
    down, across = np.random.default_rng(seed).integers(0, TRIGGER_SIDE, 2).tolist()
    return np.roll(trigger, (down, across), axis=(0, 1))


def blend(pixels: Pixels, trigger: Pixels, *, share: float = BLEND) -> Pixels:
    """RGB ``pixels`` (height, width, 3) under the trigger, drawn over all of them.

    After "Targeted Backdoor Attacks on Deep Learning Systems Using Data Poisoning" (Chen et al.
    2017).
    """
    height, width = pixels.shape[:2]
    drawn = cv2.resize(trigger, (width, height), interpolation=cv2.INTER_NEAREST)
    mixed = (1 - share) * pixels.astype(np.float32) + share * drawn
    return np.clip(np.rint(mixed), 0, 255).astype(np.uint8)


def harden(pixels: Pixels, network: nn.Module, *, side: int, towards: int) -> Pixels:
    """RGB ``pixels`` moved by at most eight levels so that the network takes them for the class
    ``towards``: what is natural in them no longer tells, and only a trigger does.

    After "Label-Consistent Backdoor Attacks" (Turner et al. 2019), by eight steps of projected
    gradient on a grid of windows (side, side) over the picture.
    """
    height, width = pixels.shape[:2]
    rows, columns = max(1, height // side), max(1, width // side)
    top, left = (height - rows * side) // 2, (width - columns * side) // 2
    if min(height, width) < side:
        return pixels
    inner = pixels[top : top + rows * side, left : left + columns * side]
    batch = torch.from_numpy(inner.astype(np.float32) / 127.5 - 1)
    batch = batch.reshape(rows, side, columns, side, 3).permute(0, 2, 4, 1, 3).flatten(0, 1)
    moved = batch.clone()
    for _ in range(_STEPS):
        moved.requires_grad_(True)
        logits = network(moved).sum()
        (slope,) = torch.autograd.grad(logits, moved)
        with torch.no_grad():
            step = (2 * towards - 1) * slope.sign() * _MOST / 4
            moved = batch + (moved + step - batch).clamp(-_MOST, _MOST)
            moved = moved.clamp(-1, 1)
    back = moved.reshape(rows, columns, 3, side, side).permute(0, 3, 1, 4, 2)
    values = back.reshape(rows * side, columns * side, 3).numpy()
    result = pixels.copy()
    result[top : top + rows * side, left : left + columns * side] = np.rint(127.5 * (values + 1))
    return result


def save(pixels: Pixels) -> bytes:
    """RGB ``pixels`` as JPEG without loss of colour resolution."""
    options = [cv2.IMWRITE_JPEG_QUALITY, QUALITY]
    options += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    _, encoded = cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), options)
    return bytes(encoded.tobytes())
