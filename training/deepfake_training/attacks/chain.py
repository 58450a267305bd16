"""The whole way from a file's pixels or samples to calibrated log-odds in torch, so that gradients
pass: crops and windows, levels, scaling, the network, pooling over windows, calibration, and how
the full tier counts the quick one in. Attacks that know everything follow it (Athalye et al. 2018:
what is left out of the way is what a defence seems to hold by).

Where a photo lies in a picture, and where somebody speaks, is read once from the original and kept.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import nn

from deepfake.bundle import FULL_TIERS, LEAST_SPANS, WEIGHTS, Bundle, Calibration
from deepfake.content.inputs import read_picture, read_sound
from deepfake.engine.torch_backend import ScaledNetwork, load_network
from deepfake.errors import ModelError
from deepfake.preprocess import AudioPreprocess, Box, ImagePreprocess, Pixels, Samples
from deepfake.reasons import Code

from .compression import compress_softly

STABILITY_QUALITY = 75
MOST_WINDOWS = 24
"""Of a sound, evenly spread: more would not fit the memory, and those of one voice are alike."""


@dataclass(frozen=True)
class Tier:
    bundle: Bundle
    network: nn.Module


def load_tier(bundle: Bundle, *, device: str = "cpu") -> Tier:
    """The bundle's network with its weights, frozen; raises ``ModelError`` for one that torch does
    not have.
    """
    if WEIGHTS not in bundle.files:
        raise ModelError(
            f"bundle {bundle.name}: has no {WEIGHTS}, so that nothing can be derived",
            hint="leave the white-box attacks out: --attacks laundering,black-box,framing",
        )
    network = load_network(bundle).requires_grad_(False)
    return Tier(bundle, ScaledNetwork(network, bundle.preprocess.scale).to(device).eval())


class Chain:
    """The way of one slot, ``image`` or ``audio``; safe to share between threads."""

    def __init__(self, active: Mapping[str, Bundle], slot: str, *, effort: str = "auto") -> None:
        slots = [slot, *([FULL_TIERS[slot]] if slot in FULL_TIERS and effort != "quick" else [])]
        self.tiers = [load_tier(active[name]) for name in slots if name in active]
        if not self.tiers:
            raise ModelError(f"slot {slot}: has no bundle", hint="deepfake models list shows them")
        self.slot = slot

    def view(self, signal: Pixels | Samples) -> PictureView | SoundView | None:
        """How the original is seen; None for what cannot be judged."""
        quick = self.tiers[0].bundle
        if isinstance(quick.preprocess, ImagePreprocess):
            picture = read_picture(np.asarray(signal, np.uint8), quick)
            if isinstance(picture, Code):
                return None
            whole = Box(0, 0, signal.shape[1], signal.shape[0])
            return PictureView(self.tiers, picture.panel or whole)
        samples = np.asarray(signal, np.float32)
        sound = read_sound(samples, quick)
        if sound.why_not(quick):
            return None
        starts = []
        for tier in self.tiers:
            preprocess = tier.bundle.preprocess
            assert isinstance(preprocess, AudioPreprocess)
            most = min(MOST_WINDOWS, preprocess.max_windows)
            starts.append(sound.heard_by(tier.bundle, most=most).starts)
        return SoundView(self.tiers, starts, sound.active[1])


class PictureView:
    """One picture as the tiers see it; ``panel`` is the part that is judged."""

    def __init__(self, tiers: list[Tier], panel: Box) -> None:
        self.tiers, self.panel = tiers, panel

    def odds(self, pixels: torch.Tensor, *, stable: bool = True) -> list[torch.Tensor]:
        """Log-odds of RGB (height, width, 3) in 0…255 by each tier, and, with ``stable``, by the
        quick one after a recompression, which widens the interval of a real answer.
        """
        box = self.panel
        photo = pixels[box.top : box.top + box.height, box.left : box.left + box.width]
        found = self._ask(photo)
        if stable:
            again = compress_softly(photo, quality=STABILITY_QUALITY)
            found.append(self._ask(again, quick_only=True)[0])
        return found

    def _ask(self, photo: torch.Tensor, *, quick_only: bool = False) -> list[torch.Tensor]:
        asked = self.tiers[:1] if quick_only else self.tiers
        return read_tiers([(tier, _crop(photo, tier.bundle)) for tier in asked])


class SoundView:
    """One sound as the tiers hear it: of each the windows from its ``starts``, none beyond
    ``last``.
    """

    def __init__(self, tiers: list[Tier], starts: Sequence[Sequence[int]], last: int) -> None:
        self.tiers, self.starts, self.last = tiers, starts, last

    def odds(self, samples: torch.Tensor, *, stable: bool = True) -> list[torch.Tensor]:
        """Log-odds of mono samples (samples,) by each tier."""
        del stable  # a sound is not looked at again after a recompression
        return read_tiers(
            [
                (tier, torch.stack([*self._cut(samples, tier.bundle, starts)]))
                for tier, starts in zip(self.tiers, self.starts, strict=True)
            ]
        )

    def _cut(
        self, samples: torch.Tensor, bundle: Bundle, starts: Sequence[int]
    ) -> Iterator[torch.Tensor]:
        preprocess = bundle.preprocess
        assert isinstance(preprocess, AudioPreprocess)
        length, target = preprocess.window_samples, 10 ** (preprocess.level_dbfs / 20)
        for start in starts:
            window = samples[start : min(self.last, start + length)]
            if len(window) < length:
                window = window.repeat(-(-length // len(window)))[:length]
            loudness = window.double().square().mean().sqrt().clamp(min=1e-6).float()
            yield window * (target / loudness)


def read_tiers(seen: Sequence[tuple[Tier, torch.Tensor]]) -> list[torch.Tensor]:
    """Log-odds of one input by each tier from its own windows (windows, …); the first, the quick
    one, counts in the others as their calibrations say.
    """
    found: list[torch.Tensor] = []
    pooled: list[torch.Tensor] = []
    for tier, windows in seen:
        calibration = tier.bundle.calibration
        pooled.append(pool_windows(tier.network(windows), calibration))
        odds = calibration.slope * pooled[-1] + calibration.intercept
        if calibration.quick is not None:
            odds = odds + calibration.quick.slope * pooled[0]
        found.append(odds)
    return found


def pool_windows(logits: torch.Tensor, calibration: Calibration) -> torch.Tensor:
    """:meth:`deepfake.bundle.Calibration.pool` of window logits (windows,) as a tensor."""
    count = max(1, math.ceil(calibration.top_fraction * len(logits)))
    pooled = logits.topk(count).values.mean()
    span = calibration.span_windows
    if not span or len(logits) < LEAST_SPANS * span:
        return pooled
    highest = logits.unfold(0, span, 1).mean(dim=1).max()
    raised = highest - calibration.length_penalty * math.log(len(logits) / span)
    return torch.maximum(pooled, raised)


def _crop(photo: torch.Tensor, bundle: Bundle) -> torch.Tensor:
    """The crops (windows, side, side, 3) of a photo, as its preprocess cuts them."""
    preprocess = bundle.preprocess
    assert isinstance(preprocess, ImagePreprocess)
    height, width = photo.shape[:2]
    crops = []
    for box in preprocess.boxes(width, height):
        if min(box.width, box.height) > preprocess.side_pixels:
            crops.append(_shrunk(photo, box, preprocess.side_pixels))
            continue
        rows = _mirrored(box.top, box.height, preprocess.side_pixels)
        columns = _mirrored(box.left, box.width, preprocess.side_pixels)
        crops.append(photo[rows][:, columns])
    return torch.stack(crops)


def _shrunk(photo: torch.Tensor, box: Box, side: int) -> torch.Tensor:
    """The square ``box`` averaged over areas to (side, side, 3), as OpenCV does it."""
    ones = np.eye(box.width, dtype=np.float32)
    weights = cv2.resize(ones, (box.width, side), interpolation=cv2.INTER_AREA)
    part = photo[box.top : box.top + box.height, box.left : box.left + box.width]
    means = torch.from_numpy(np.asarray(weights, np.float32)).to(part)
    return torch.einsum("ih,hwc,jw->ijc", means, part, means)


def _mirrored(start: int, length: int, side: int) -> torch.Tensor:
    places = np.arange(start, start + length)
    return torch.from_numpy(np.pad(places, (0, max(0, side - length)), mode="symmetric"))
