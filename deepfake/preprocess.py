"""From pixels and samples to the batches that a network sees.

The only crop, pad, level and scale code of the project: training imports it, so a bundle meets
in use exactly what it met in training. A whole picture is not shrunk to fit a network, because that
erases the traces that its detector looks for, except for a network that reads what is shown, beside
crops that are not; a face is, because faces come in every size and the edges of a blend outlast the
shrinking.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .errors import ModelError

Pixels = npt.NDArray[np.uint8]
Samples = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float32]
Batch = npt.NDArray[np.uint8] | npt.NDArray[np.float32]
"""Windows for one network: pixels, uint8 (windows, …, height, width, 3), which the device that
runs it brings to its range by the preprocess's ``scale``, or samples, float32 (windows, samples).
"""

LEAST_OVERVIEW = 1.5
"""Times the side of a crop: a picture whose short side is not longer has no overview."""
LEAST_GRID = 4
"""Fewer crops of a picture lie in a row."""
LOUDEST = 2.0**31
"""Largest sample that is kept: that of 32-bit integers that nobody scaled. The power of a spectrum
of such samples still fits float32.
"""
MIX_SECONDS = 0.5
"""How much of a sound is mixed at once."""
CANCELLED = 0.25
"""Share of the powers of all channels, −6 dB. The sum of independent channels has all of them, and
that of ordinary stereo more, whatever their levels; less is left only where channels cancel.
"""
_INAUDIBLE = 1e-7
"""Power, −70 dB of full scale: what codecs leave of silence may be of opposite sign."""


class PixelScale(NamedTuple):
    """How pixels in 0…255 enter a network: ``(pixel / 255 - mean) / std`` for every channel."""

    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)

    def __call__(self, pixels: npt.NDArray[np.uint8]) -> Floats:
        """Uint8 (…, height, width, 3) as float32 (…, 3, height, width)."""
        levels = np.arange(256, dtype=np.float32)[:, None] / np.float32(255)
        table = (levels - np.array(self.mean, np.float32)) / np.array(self.std, np.float32)
        return np.stack([table[:, c][pixels[..., c]] for c in range(3)], axis=-3)


class Box(NamedTuple):
    """A crop in pixels of the picture it was cut from, before any padding."""

    left: int
    top: int
    width: int
    height: int


class Crops(NamedTuple):
    batch: Pixels
    boxes: tuple[Box, ...]


class AudioWindows(NamedTuple):
    batch: Samples
    seconds: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class ImagePreprocess:
    """Square crops at native resolution, spread evenly over the picture.

    ``side_pixels`` is the crop's side, ``max_windows`` the most crops taken from one picture.
    ``mean`` and ``std`` are those of :class:`PixelScale`. With an ``overview`` the middle of a
    picture that is much larger than a crop, shrunk to one, is one more.
    """

    side_pixels: int
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    max_windows: int = 12
    overview: bool = False
    kind: str = "image"

    @property
    def scale(self) -> PixelScale:
        return PixelScale(self.mean, self.std)

    def boxes(
        self,
        width: int,
        height: int,
        *,
        max_windows: int | None = None,
        draw: np.random.Generator | None = None,
    ) -> list[Box]:
        """Crop places: a grid with at most ``max_windows`` cells that spans the picture.

        Crops overlap in small pictures and leave gaps in large ones. Fewer than four lie in a row
        along the longer side, through the middle of the picture; a single one is the middle. With
        ``draw`` each is moved at random, along each side by at most half of the way to the next. An
        overview comes last.
        """
        side, most = self.side_pixels, max_windows or self.max_windows
        columns, rows = _grid(width, height, side, most)
        across, down = _spread(width - side, columns), _spread(height - side, rows)
        places = np.array([(x, y) for y in down for x in across])
        if draw is not None:
            spare = np.maximum(0, (width - side, height - side))
            reach = spare / np.maximum(1, (columns - 1, rows - 1)) / 2
            moved = places + draw.uniform(-1, 1, places.shape) * np.minimum(reach, side / 2)
            places = np.clip(moved.round().astype(np.int64), 0, spare)
        boxes = [Box(int(x), int(y), min(side, width), min(side, height)) for x, y in places]
        short = min(width, height)
        if self.overview and short > LEAST_OVERVIEW * side:
            boxes.append(Box((width - short) // 2, (height - short) // 2, short, short))
        return boxes

    def __call__(
        self,
        pixels: Pixels,
        *,
        max_windows: int | None = None,
        draw: np.random.Generator | None = None,
    ) -> Crops:
        """Crops of RGB ``pixels`` (height, width, 3) as a batch (crops, side, side, 3)."""
        height, width = pixels.shape[:2]
        boxes = self.boxes(width, height, max_windows=max_windows, draw=draw)
        return Crops(np.stack([self.crop(pixels, box) for box in boxes]), tuple(boxes))

    def crop(self, pixels: Pixels, box: Box) -> Pixels:
        """One window (side, side, 3) of RGB ``pixels``."""
        right, bottom = box.left + box.width, box.top + box.height
        return self.fit(pixels[box.top : bottom, box.left : right])

    def fit(self, crop: Pixels) -> Pixels:
        """RGB (height, width, 3) as a window (side, side, 3): mirrored where it is smaller, its own
        pixels unchanged; averaged over areas where it is larger both ways, as an overview is.
        """
        height, width = crop.shape[:2]
        if min(height, width) > self.side_pixels:
            return shrink(crop, self.side_pixels, self.side_pixels)
        missing = (max(0, self.side_pixels - height), max(0, self.side_pixels - width))
        if missing == (0, 0):
            return crop
        mode = "symmetric" if min(height, width) > 0 else "constant"
        return np.pad(crop, ((0, missing[0]), (0, missing[1]), (0, 0)), mode=mode)  # type: ignore[call-overload, no-any-return]


def bound_samples(samples: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], tuple[str, ...]]:
    """Floating-point ``samples`` of any shape, what is no number as silence and the rest cut at
    ``LOUDEST``, with a sentence for each of the two that was needed.
    """
    if float(np.abs(samples).max(initial=0)) <= LOUDEST:  # which a NaN is not
        return samples, ()
    warnings = []
    if not np.isfinite(samples).all():
        warnings.append("The sound has samples that are not numbers; they were taken as silence.")
        samples = np.nan_to_num(samples, nan=0.0, posinf=0.0, neginf=0.0)
    if float(np.abs(samples).max(initial=0)) > LOUDEST:
        warnings.append("The sound has samples far beyond full scale; they were cut.")
        samples = np.clip(samples, -LOUDEST, LOUDEST)
    return samples, tuple(warnings)


def mix_channels(channels: Samples, *, sample_rate: int) -> tuple[Samples, tuple[str, ...]]:
    """Mono of ``channels`` (channels, samples), with a sentence where it is not their mean.

    In the mean of channels of opposite sign nothing is left of what a listener hears. Where the sum
    of half a second has less than ``CANCELLED`` of their powers, its loudest channel is taken.
    """
    mixed = channels.mean(axis=0, dtype=np.float32)
    count, length = channels.shape
    if count == 1:
        return mixed, ()
    parts = max(1, length // round(MIX_SECONDS * sample_rate))
    chosen: int | None = None
    for start, end in pairwise(length * part // parts for part in range(parts + 1)):
        table, mean = channels[:, start:end], mixed[start:end]
        powers = np.einsum("ij,ij->i", table, table, dtype=np.float64)
        loudest = int(powers.argmax())
        left = count**2 * float(np.einsum("i,i->", mean, mean, dtype=np.float64))
        if left >= CANCELLED * powers.sum() or powers[loudest] < _INAUDIBLE * (end - start):
            continue
        if chosen is None or powers[chosen] < powers[loudest] / 4:  # each change is a click
            chosen = loudest
        mixed[start:end] = table[chosen]
    said = "The channels of the sound cancel each other; where they do, one of them was judged."
    return mixed, () if chosen is None else (said,)


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
    def scale(self) -> None:
        """Samples enter the network as they are."""

    @property
    def window_samples(self) -> int:
        return round(self.window_seconds * self.sample_rate)

    def active(self, samples: Samples) -> tuple[int, int]:
        """First and last (exclusive) sample of the part that is not leading or trailing silence."""
        frame = self.sample_rate // 50
        count = len(samples) // frame
        if count < 2:
            return 0, len(samples)
        frames = samples[: count * frame].reshape(count, frame)
        power = np.einsum("ij,ij->i", frames, frames, dtype=np.float64) / frame
        decibels = 10 * np.log10(power + 1e-12)
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


class FinderInput(NamedTuple):
    """A batch of one (1, height, width, 3); ``zoom`` takes its pixels to those of the picture."""

    batch: Pixels
    zoom: float


@dataclass(frozen=True, kw_only=True)
class FinderPreprocess:
    """A picture on the first of the ``canvases`` (height, width) that it fits at its own size, or,
    where it fits none, shrunk onto the one that keeps most of it. A runtime meets few shapes so.
    """

    canvases: tuple[tuple[int, int], ...] = ((256, 256), (384, 640), (640, 384), (512, 512))
    kind: str = "finder"

    @property
    def scale(self) -> PixelScale:
        return PixelScale()

    def __call__(self, pixels: Pixels) -> FinderInput:
        """RGB ``pixels`` (height, width, 3), at the left top of a grey canvas."""
        height, width = pixels.shape[:2]

        def share_on(canvas: tuple[int, int]) -> float:
            return float(min(1.0, canvas[0] / height, canvas[1] / width))

        canvas = max(self.canvases, key=share_on)
        share = share_on(canvas)
        size = max(1, round(height * share)), max(1, round(width * share))
        while min(pixels.shape[0] / size[0], pixels.shape[1] / size[1]) >= 2:
            rows, columns = (length // 2 for length in pixels.shape[:2])
            pixels = shrink(pixels[: 2 * rows, : 2 * columns], rows, columns)  # far quicker
        small = shrink(pixels, *size)
        batch = np.full((1, *canvas, 3), 127, np.uint8)
        batch[0, : small.shape[0], : small.shape[1]] = small
        return FinderInput(batch, 1 / share)


_FACE = ((-0.5, 0.0), (0.5, 0.0), (0.0, 0.56), (-0.41, 1.15), (0.41, 1.15))
"""Eyes, nose and corners of the mouth of an upright face, the eyes one apart."""


@dataclass(frozen=True, kw_only=True)
class FacePreprocess:
    """Faces turned upright and brought to one size: squares of ``span`` eye distances.

    Five landmarks (eyes, nose, corners of the mouth; those on the person's right first) are
    laid on those of a mean face by the best similarity (Umeyama 1991), its nose at the middle.
    ``mean`` and ``std`` are those of :class:`PixelScale`.
    """

    side_pixels: int = 160
    span: float = 3.8
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    kind: str = "face"

    @property
    def scale(self) -> PixelScale:
        return PixelScale(self.mean, self.std)

    def transform(self, landmarks: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """The affine matrix (2, 3) from the picture to the crop for ``landmarks`` (5, 2)."""
        unit = self.side_pixels / self.span
        goal = np.array(_FACE) * unit
        goal += self.side_pixels / 2 - goal[2]
        return similarity(np.asarray(landmarks, np.float64), goal)

    def crop(self, pixels: Pixels, landmarks: npt.NDArray[Any]) -> Pixels:
        """One face of RGB ``pixels`` (height, width, 3) as (side, side, 3); what lies outside the
        picture repeats its edge.
        """
        return warp(pixels, self.transform(landmarks), self.side_pixels)


@dataclass(frozen=True, kw_only=True)
class ClipPreprocess:
    """Bursts of ``frames`` pictures that are ``step_seconds`` apart, whatever the frame rate.

    A frame enters as the square at its middle, shrunk; a face as :class:`FacePreprocess` crops it,
    by one transform for the whole burst, so that its motion stays.
    """

    frames: int = 8
    step_seconds: float = 0.125
    side_pixels: int = 128
    span: float = 3.8
    kind: str = "clip"

    @property
    def scale(self) -> PixelScale:
        return PixelScale()

    def square(self, pixels: Pixels) -> Pixels:
        """The square at the middle of RGB ``pixels`` as (side, side, 3)."""
        height, width = pixels.shape[:2]
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        middle = pixels[top : top + side, left : left + side]
        return warp(middle, np.diag([self.side_pixels / side] * 2 + [1.0])[:2], self.side_pixels)

    def faces(self, burst: Sequence[Pixels], landmarks: npt.NDArray[Any]) -> list[Pixels]:
        """One face through a burst of frames; ``landmarks`` (frames, 5, 2) are averaged."""
        align = FacePreprocess(side_pixels=self.side_pixels, span=self.span)
        middle = np.asarray(landmarks, np.float64).mean(axis=0)
        return [align.crop(pixels, middle) for pixels in burst]

    def __call__(self, crops: Sequence[Pixels]) -> Pixels:
        """A burst of crops (side, side, 3) as a batch (1, frames, side, side, 3); the last one is
        repeated where there are too few.
        """
        chosen = [crops[min(index, len(crops) - 1)] for index in range(self.frames)]
        return np.stack(chosen)[None]


def similarity(
    points: npt.NDArray[np.float64], goal: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """The rotation, scale and shift (2, 3) that bring ``points`` (n, 2) nearest to ``goal``.

    Least squares with a positive scale (Umeyama 1991); in the plane it is one complex factor.
    """
    start, end = points.mean(axis=0), goal.mean(axis=0)
    off, target = points - start, goal - end
    power = max(float((off**2).sum()), 1e-9)
    real = float((off * target).sum()) / power
    turned = float((off[:, 0] * target[:, 1] - off[:, 1] * target[:, 0]).sum()) / power
    matrix = np.array([[real, -turned], [turned, real]])
    return np.hstack([matrix, (end - matrix @ start)[:, None]])


def warp(pixels: Pixels, matrix: npt.NDArray[np.float64], side: int) -> Pixels:
    """The square (side, side, 3) that ``matrix`` (2, 3) cuts from RGB ``pixels``, without aliases:
    what it shrinks to less than half is averaged over whole blocks of pixels first.
    """
    import cv2

    scale = float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))
    inverse = cv2.invertAffineTransform(matrix)
    corners = np.array([[0, 0, 1], [side, 0, 1], [0, side, 1], [side, side, 1]]) @ inverse.T
    height, width = pixels.shape[:2]
    left, top = np.clip(np.floor(corners.min(axis=0)) - 4, 0, [width - 1, height - 1]).astype(int)
    right, bottom = np.clip(np.ceil(corners.max(axis=0)) + 4, [left + 1, top + 1], [width, height])
    part = pixels[top : int(bottom), left : int(right)]
    matrix = matrix.copy()
    matrix[:, 2] += matrix[:, :2] @ np.array([left, top])
    scale = max(scale, 1e-6)  # landmarks that all lie on one point have none
    block = min(math.ceil(0.5 / scale), *part.shape[:2]) if scale < 0.5 else 1
    if block > 1:
        rows, columns = (length // block for length in part.shape[:2])
        part = shrink(part[: rows * block, : columns * block], rows, columns)
        matrix[:, 2] += matrix[:, :2] @ np.full(2, (block - 1) / 2)  # centres at half integers
        matrix[:, :2] *= block
    return np.asarray(
        cv2.warpAffine(
            part, matrix, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        ),
        np.uint8,
    )


def shrink(pixels: Pixels, height: int, width: int) -> Pixels:
    """RGB ``pixels`` averaged over areas to (height, width, 3)."""
    import cv2

    if pixels.shape[:2] == (height, width):
        return pixels
    return np.asarray(cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


Preprocess = ImagePreprocess | AudioPreprocess | FinderPreprocess | FacePreprocess | ClipPreprocess


def preprocess_from_dict(values: dict[str, Any]) -> Preprocess:
    """Read the ``preprocess`` part of a bundle; raises ``ModelError`` for anything unknown."""
    kinds: dict[str, Callable[..., Preprocess]] = {
        "image": ImagePreprocess,
        "audio": AudioPreprocess,
        "finder": FinderPreprocess,
        "face": FacePreprocess,
        "clip": ClipPreprocess,
    }
    try:
        made = kinds[values["kind"]](**{key: _freeze(value) for key, value in values.items()})
    except (KeyError, TypeError) as error:
        raise ModelError(f"preprocess {values!r}: not understood ({error})") from error
    return made


def preprocess_to_dict(preprocess: Preprocess) -> dict[str, Any]:
    values = asdict(preprocess)
    if not values.get("overview", True):  # older releases wrote none, and digests cover every key
        del values["overview"]
    return values


def _freeze(value: Any) -> Any:
    return tuple(_freeze(inner) for inner in value) if isinstance(value, list) else value


def _grid(width: int, height: int, side: int, most: int) -> tuple[int, int]:
    """Columns and rows of crops: enough to cover the picture, at most ``most`` in all."""
    columns, rows = -(-width // side), -(-height // side)
    if most < LEAST_GRID and columns * rows > most:
        return (min(columns, most), 1) if width >= height else (1, min(rows, most))
    while columns * rows > most and max(columns, rows) > 1:
        if columns >= rows:
            columns -= 1
        else:
            rows -= 1
    return max(1, columns), max(1, rows)


def _spread(spare: int, count: int) -> npt.NDArray[np.int64]:
    """Starts of ``count`` crops from edge to edge where ``spare`` pixels are free, or in the middle
    for one.
    """
    free = max(0, spare)
    starts = np.linspace(0, free, count) if count > 1 else np.array([free / 2])
    return starts.round().astype(np.int64)
