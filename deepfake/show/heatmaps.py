"""Heat maps drawn over pictures and spectrograms, and those of sounds."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from ..preprocess import Pixels, Samples
from ..types import Heatmap

SOUND_RATE = 16000
DEFAULT_LIMIT = 0.5
"""Where a heat map begins to show when the report does not say from where it is suspicious."""
MOST_DRAWN_PIXELS = 2400
MOST_BOX_SHARE = 16
"""Heat maps that span more than so many pictures are nonsense and are not drawn."""


def overlay(
    pixels: Pixels, *heatmaps: Heatmap, limits: Mapping[str, float] | None = None
) -> Pixels:
    """The picture with its heat maps over it, the highest one where several overlap.

    Below its limit a score is transparent; from there to 1 the colours go from yellow over orange
    to violet, darker and denser with the score (:func:`colour_scale`). ``limits`` are suspicious
    scores by the names of the heat maps, ``DEFAULT_LIMIT`` where there is none.
    """
    height, width = pixels.shape[:2]
    levels = np.full((height, width), -1.0, np.float32)
    for heatmap in heatmaps:
        _raise_to(levels, heatmap, limit=(limits or {}).get(heatmap.name, DEFAULT_LIMIT))
    shown = levels >= 0
    colours, opacity = colour_scale(levels[shown])
    drawn = pixels.copy()
    mixed = pixels[shown] * (1 - opacity[:, None]) + colours * opacity[:, None]
    drawn[shown] = mixed.round().astype(np.uint8)
    return drawn


def colour_scale(
    levels: npt.NDArray[np.float32],
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """RGB colours (n, 3) in 0…255 and opacities (n,) in 0…1 for ``levels`` (n,) from 0 at the limit
    to 1 at the highest score.

    A part of OpenCV's *inferno* (van der Walt and Smith 2015), in which equal steps look equal and
    whose lightness falls all the way, so that it can be read without seeing colours.
    """
    import cv2

    steps = np.rint(225 - 125 * np.clip(levels, 0, 1)).astype(np.uint8)
    if not steps.size:
        return np.zeros((0, 3), np.float32), np.zeros(0, np.float32)
    colours = cv2.applyColorMap(steps[:, None], cv2.COLORMAP_INFERNO)[:, 0, ::-1]
    return colours.astype(np.float32), (0.45 + 0.35 * np.clip(levels, 0, 1)).astype(np.float32)


def _raise_to(plane: npt.NDArray[np.float32], heatmap: Heatmap, *, limit: float) -> None:
    """Raise ``plane`` (height, width) to where the scores of a heat map lie between ``limit``, as
    0, and 1 where that is higher.
    """
    import cv2

    height, width = plane.shape
    box = heatmap.box or (0.0, 0.0, float(width), float(height))
    left, top, right, bottom = (round(side) for side in box)
    inside = plane[max(0, top) : max(0, bottom), max(0, left) : max(0, right)]
    if not inside.size or (right - left) * (bottom - top) > MOST_BOX_SHARE * height * width:
        return
    grid = np.clip(np.array(heatmap.values, dtype=np.float32), 0, 1)
    smooth = cv2.resize(grid, (right - left, bottom - top), interpolation=cv2.INTER_LINEAR)
    rows, columns = inside.shape
    smooth = smooth[max(0, -top) :, max(0, -left) :][:rows, :columns]
    np.maximum(inside, (smooth - limit) / max(1e-6, 1 - limit), out=inside)


def spectrogram(samples: Samples) -> Pixels:
    """A picture of mono ``samples`` at 16 kHz: time across, 0 to 8 kHz upwards, 80 dB of range.

    At most 1200 columns, each the loudest of the moments that it covers.
    """
    import cv2

    size, hop = 512, 160
    padded = np.pad(samples, (0, max(0, size - len(samples))))
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[::hop]
    step = -(-len(frames) // 1200)
    columns = [
        np.abs(np.fft.rfft(frames[start : start + step] * np.hanning(size), axis=1)).max(axis=0)
        for start in range(0, len(frames), step)
    ]
    decibels = 20 * np.log10(np.stack(columns, axis=1)[::-1] + 1e-6)
    scaled = np.clip(255 * (decibels - decibels.max() + 80) / 80, 0, 255).astype(np.uint8)
    return np.asarray(cv2.applyColorMap(scaled, cv2.COLORMAP_BONE)[..., ::-1], np.uint8)
