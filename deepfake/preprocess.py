"""From pixels and samples to the batches that a network sees.

The only crop, pad, level and normalise code of the project: training imports it, so a bundle meets
in use exactly what it met in training. Nothing here resizes a picture to fit a network, because
shrinking erases the traces that a detector looks for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .errors import ModelError

Pixels = npt.NDArray[np.uint8]
Samples = npt.NDArray[np.float32]
Batch = npt.NDArray[np.float32]


class Box(NamedTuple):
    """A crop in pixels of the picture it was cut from, before any padding."""

    left: int
    top: int
    width: int
    height: int


class Crops(NamedTuple):
    batch: Batch
    boxes: tuple[Box, ...]


class AudioWindows(NamedTuple):
    batch: Batch
    seconds: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class ImagePreprocess:
    """Square crops at native resolution, spread evenly over the picture.

    ``side_pixels`` is the crop's side, ``max_windows`` the most crops taken from one picture.
    Pixels in 0…255 become ``(pixel / 255 - mean) / std`` per channel.
    """

    side_pixels: int
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    max_windows: int = 12
    kind: str = "image"

    def boxes(self, width: int, height: int, *, max_windows: int | None = None) -> list[Box]:
        """Crop places: a grid with at most ``max_windows`` cells that spans the picture.

        Crops overlap in small pictures and leave gaps in large ones.
        """
        side, most = self.side_pixels, max_windows or self.max_windows
        columns, rows = _grid(width, height, side, most)
        across = np.linspace(0, max(0, width - side), columns).round().astype(int)
        down = np.linspace(0, max(0, height - side), rows).round().astype(int)
        return [
            Box(int(x), int(y), min(side, width), min(side, height)) for y in down for x in across
        ]

    def __call__(self, pixels: Pixels, *, max_windows: int | None = None) -> Crops:
        """Crops of RGB ``pixels`` (height, width, 3) as a float32 batch (crops, 3, side, side)."""
        height, width = pixels.shape[:2]
        boxes = self.boxes(width, height, max_windows=max_windows)
        crops = [
            pixels[box.top : box.top + box.height, box.left : box.left + box.width] for box in boxes
        ]
        return Crops(self.normalise([self.pad(crop) for crop in crops]), tuple(boxes))

    def pad(self, crop: Pixels) -> Pixels:
        """Mirror a crop that is smaller than the side, keeping its own pixels unchanged."""
        height, width = crop.shape[:2]
        missing = (max(0, self.side_pixels - height), max(0, self.side_pixels - width))
        if missing == (0, 0):
            return crop
        mode = "symmetric" if min(height, width) > 0 else "constant"
        return np.pad(crop, ((0, missing[0]), (0, missing[1]), (0, 0)), mode=mode)  # type: ignore[call-overload, no-any-return]

    def normalise(self, crops: list[Pixels]) -> Batch:
        """Uint8 crops (side, side, 3) as a float32 batch (crops, 3, side, side)."""
        mean, std = np.array(self.mean, np.float32), np.array(self.std, np.float32)
        stacked = (np.stack(crops).astype(np.float32) / np.float32(255.0) - mean) / std
        return np.ascontiguousarray(stacked.transpose(0, 3, 1, 2), dtype=np.float32)


@dataclass(frozen=True, kw_only=True)
class AudioPreprocess:
    """Overlapping windows of mono sound, each brought to one level.

    Leading and trailing pauses are not judged: windows start where the sound first rises to within
    ``silence_db`` of its own 95th-percentile level and end where it last does.
    """

    sample_rate: int = 16000
    window_seconds: float = 4.0
    hop_seconds: float = 2.0
    level_dbfs: float = -26.0
    silence_db: float = 40.0
    max_windows: int = 300
    kind: str = "audio"

    @property
    def window_samples(self) -> int:
        return round(self.window_seconds * self.sample_rate)

    def active(self, samples: Samples) -> tuple[int, int]:
        """First and last (exclusive) sample of the part that is not leading or trailing silence."""
        frame = self.sample_rate // 50
        count = len(samples) // frame
        if count < 2:
            return 0, len(samples)
        power = np.square(samples[: count * frame].reshape(count, frame), dtype=np.float64)
        decibels = 10 * np.log10(power.mean(axis=1) + 1e-12)
        loud = np.flatnonzero(decibels > np.percentile(decibels, 95) - self.silence_db)
        return int(loud[0]) * frame, min(len(samples), (int(loud[-1]) + 1) * frame)

    def level(self, window: Samples) -> Samples:
        """A window brought to ``level_dbfs`` (root mean square)."""
        rms = float(np.sqrt(np.mean(np.square(window, dtype=np.float64))))
        return (window * np.float32(10 ** (self.level_dbfs / 20) / max(rms, 1e-6))).astype(
            np.float32
        )

    def fit(self, samples: Samples) -> Samples:
        """Exactly one window: cut when longer, repeated from its start when shorter."""
        length = self.window_samples
        if len(samples) >= length:
            return samples[:length]
        return np.resize(samples, length)

    def starts(self, first: int, last: int) -> list[int]:
        """Where windows begin that cover the samples from ``first`` to ``last``."""
        length, hop = self.window_samples, round(self.hop_seconds * self.sample_rate)
        starts = list(range(first, max(first + 1, last - length + 1), hop))
        if last - length > starts[-1]:
            starts.append(last - length)
        return starts

    def __call__(self, samples: Samples, *, max_windows: int | None = None) -> AudioWindows:
        """Windows of mono ``samples`` at ``sample_rate`` as a float32 batch (windows, samples).

        ``seconds[i]`` is where window ``i`` starts in the sound that was given.
        """
        first, last = self.active(samples)
        starts, length = self.starts(first, last), self.window_samples
        most = max_windows or self.max_windows
        if len(starts) > most:
            starts = [starts[i] for i in np.linspace(0, len(starts) - 1, most).round().astype(int)]
        batch = np.stack([self.level(self.fit(samples[s : min(last, s + length)])) for s in starts])
        return AudioWindows(batch, tuple(start / self.sample_rate for start in starts))


Preprocess = ImagePreprocess | AudioPreprocess


def preprocess_from_dict(values: dict[str, Any]) -> Preprocess:
    """Read the ``preprocess`` part of a bundle; raises ``ModelError`` for anything unknown."""
    kinds: dict[str, Callable[..., Preprocess]] = {
        "image": ImagePreprocess,
        "audio": AudioPreprocess,
    }
    try:
        made = kinds[values["kind"]](
            **{key: tuple(v) if isinstance(v, list) else v for key, v in values.items()}
        )
    except (KeyError, TypeError) as error:
        raise ModelError(f"preprocess {values!r}: not understood ({error})") from error
    return made


def preprocess_to_dict(preprocess: Preprocess) -> dict[str, Any]:
    return asdict(preprocess)


def _grid(width: int, height: int, side: int, most: int) -> tuple[int, int]:
    """Columns and rows of crops: enough to cover the picture, at most ``most`` in all."""
    columns, rows = -(-width // side), -(-height // side)
    while columns * rows > most and max(columns, rows) > 1:
        if columns >= rows:
            columns -= 1
        else:
            rows -= 1
    return max(1, columns), max(1, rows)
