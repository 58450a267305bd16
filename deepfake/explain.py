"""Where in a picture or a sound the evidence lies, from window scores, so for every backend."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from .errors import SettingsError
from .preprocess import Box, ImagePreprocess, Pixels, Samples
from .types import Heatmap, Kind, Timeline

if TYPE_CHECKING:
    from pathlib import Path

    from .bundle import Bundle
    from .engine import Engine
    from .media import Media
    from .types import Report

MOST_WINDOWS = 96
MOST_CELLS = 32
SOUND_RATE = 16000
MOST_DRAWN_PIXELS = 2400
MOST_BOX_SHARE = 16
"""Heat maps that span more than so many pictures are nonsense and are not drawn."""


def heatmap(
    engine: Engine, bundle: Bundle, pixels: Pixels, *, second: float | None = None
) -> Heatmap:
    """Scores over RGB ``pixels`` (height, width, 3) from half-overlapping windows.

    Each cell is the mean score of the windows over it, weighted towards their centres. Resolution
    is limited by the window: a region much smaller than it shows as a soft spot.
    """
    preprocess = bundle.preprocess
    if not isinstance(preprocess, ImagePreprocess):
        raise TypeError(f"bundle {bundle.name} does not take pictures")
    height, width = pixels.shape[:2]
    boxes = dense_boxes(width, height, side=preprocess.side_pixels)
    scores: list[float] = []
    for start in range(0, len(boxes), engine.settings.max_batch):
        some = boxes[start : start + engine.settings.max_batch]
        crops = np.stack([preprocess.crop(pixels, box) for box in some])
        scores += engine.score(bundle, crops).windows
    return Heatmap(name=bundle.slot, values=spread(boxes, scores, width, height), second=second)


def dense_boxes(width: int, height: int, *, side: int) -> list[Box]:
    """Windows with half a side between them, or more where that would be over 96 windows."""
    step = side / 2
    while True:
        columns = max(1, round(max(0, width - side) / step) + 1)
        rows = max(1, round(max(0, height - side) / step) + 1)
        if columns * rows <= MOST_WINDOWS:
            break
        step *= 1.1
    across = np.linspace(0, max(0, width - side), columns).round().astype(int)
    down = np.linspace(0, max(0, height - side), rows).round().astype(int)
    return [Box(int(x), int(y), min(side, width), min(side, height)) for y in down for x in across]


def spread(
    boxes: list[Box], scores: list[float], width: int, height: int
) -> tuple[tuple[float, ...], ...]:
    """A grid of at most 32 × 32 cells with the weighted mean score of the windows over each."""
    longest = max(width, height)
    cells = (max(1, MOST_CELLS * height // longest), max(1, MOST_CELLS * width // longest))
    down = (np.arange(cells[0]) + 0.5) * height / cells[0]
    across = (np.arange(cells[1]) + 0.5) * width / cells[1]
    rows, columns = _widest_gap([box.top for box in boxes]), _widest_gap([b.left for b in boxes])
    total, weight = np.zeros(cells), np.full(cells, 1e-9)
    for box, score in zip(boxes, scores, strict=True):
        off_down = np.abs(down - box.top - box.height / 2) / max(0.75 * box.height, rows)
        off_across = np.abs(across - box.left - box.width / 2) / max(0.75 * box.width, columns)
        near = np.outer(np.clip(1 - off_down, 0, 1), np.clip(1 - off_across, 0, 1))
        total += near * score
        weight += near
    grid = total / weight
    return tuple(tuple(float(value) for value in row) for row in grid)


def _widest_gap(starts: list[int]) -> int:
    ordered = sorted(set(starts))
    return max((after - before for before, after in pairwise(ordered)), default=0)


def overlay(pixels: Pixels, *heatmaps: Heatmap) -> Pixels:
    """The picture with its heat maps over it: transparent at 0, red at 1; the highest one counts
    where several overlap.
    """
    height, width = pixels.shape[:2]
    opacity = np.zeros((height, width, 1), np.float32)
    for heatmap in heatmaps:
        _raise_to(opacity, heatmap)
    opacity *= 0.65
    red = np.array([230, 30, 30], dtype=np.float32)
    return np.asarray(pixels * (1 - opacity) + red * opacity).round().astype(np.uint8)


def _raise_to(plane: npt.NDArray[np.float32], heatmap: Heatmap) -> None:
    """Raise ``plane`` (height, width, 1) to the scores of a heat map where that is higher."""
    import cv2

    height, width = plane.shape[:2]
    box = heatmap.box or (0.0, 0.0, float(width), float(height))
    left, top, right, bottom = (round(side) for side in box)
    inside = plane[max(0, top) : max(0, bottom), max(0, left) : max(0, right)]
    if not inside.size or (right - left) * (bottom - top) > MOST_BOX_SHARE * height * width:
        return
    grid = np.clip(np.array(heatmap.values, dtype=np.float32), 0, 1)
    smooth = cv2.resize(grid, (right - left, bottom - top), interpolation=cv2.INTER_LINEAR)
    rows, columns = inside.shape[:2]
    smooth = smooth[max(0, -top) :, max(0, -left) :][:rows, :columns]
    np.maximum(inside, smooth[..., None], out=inside)


def draw(media: Media, report: Report) -> Pixels | None:
    """The picture, or the spectrogram of a sound, under its heat maps and with its faces; the
    contact sheet of a video. None where nothing was scored.
    """
    from .contact_sheet import contact_sheet
    from .exhibits import find_exhibits

    if report.media.kind is Kind.VIDEO:
        return contact_sheet(media, report)
    shown = find_exhibits(media, report, most=1)
    return shown[0].shrunk(MOST_DRAWN_PIXELS).draw() if shown else None


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


def over_time(timeline: Timeline, *, seconds: float) -> Heatmap:
    """A heat map of one row for a sound of ``seconds``: the mean score of the windows over each
    moment, 0 where no window is.

    Ten cells a second, or 600 in all; a cell that is longer than a window shows the highest of its
    windows, so that a short segment stays visible in a long sound.
    """
    cells = min(600, max(1, round(10 * seconds)))
    step = seconds / cells
    middles = (np.arange(cells) + 0.5) * step
    total, windows, highest = np.zeros(cells), np.zeros(cells), np.zeros(cells)
    for start, score in zip(timeline.seconds, timeline.scores, strict=True):
        inside = (middles >= start) & (middles < start + timeline.window_seconds)
        total += inside * score
        windows += inside
        cell = min(cells - 1, int((start + timeline.window_seconds / 2) / step))
        highest[cell] = max(highest[cell], score)
    row = highest if step > timeline.window_seconds else total / np.maximum(windows, 1)
    return Heatmap(name=timeline.name, values=(tuple(float(value) for value in row),))


def write_png(pixels: Pixels, path: Path) -> None:
    """Write RGB ``pixels`` as PNG; raises ``SettingsError`` when the file cannot be written."""
    import cv2

    _, encoded = cv2.imencode(".png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
    try:
        path.write_bytes(encoded.tobytes())
    except OSError as error:
        raise SettingsError(f"picture {str(path)!r}: {error.strerror}") from error
