"""Where in a picture or a sound the evidence lies, from window scores, so for every backend."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from .errors import SettingsError
from .preprocess import Box, ImagePreprocess, Pixels, Samples
from .types import Heatmap, Timeline

if TYPE_CHECKING:
    from pathlib import Path

    from .bundle import Bundle
    from .engine import Engine
    from .media import Media
    from .types import Report

MOST_WINDOWS = 96
MOST_CELLS = 32
SOUND_RATE = 16000


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
        crops = [
            preprocess.pad(pixels[box.top : box.top + box.height, box.left : box.left + box.width])
            for box in boxes[start : start + engine.settings.max_batch]
        ]
        scores += engine.score(bundle, preprocess.normalise(crops)).windows
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


def overlay(pixels: Pixels, shown: Heatmap) -> Pixels:
    """The picture with its heat map over it: transparent at 0, red at 1."""
    import cv2

    height, width = pixels.shape[:2]
    grid = np.array(shown.values, dtype=np.float32)
    smooth = cv2.resize(grid, (width, height), interpolation=cv2.INTER_LINEAR)[..., None]
    red = np.array([230, 30, 30], dtype=np.float32)
    opacity = 0.65 * np.clip(smooth, 0, 1)
    return np.asarray(pixels * (1 - opacity) + red * opacity).round().astype(np.uint8)


def draw(media: Media, report: Report) -> Pixels | None:
    """What :func:`located` finds, under its heat map; None without one."""
    found = located(media, report)
    return None if found is None else overlay(*found)


def located(media: Media, report: Report) -> tuple[Pixels, Heatmap] | None:
    """What the report's first heat map lies over, and that heat map: the picture, the frame of a
    video, or the spectrogram of a sound.
    """
    evidence = next((item for item in report.evidence if item.heatmaps), None)
    if evidence is None:
        return None
    shown = evidence.heatmaps[0]
    if evidence.source == "audio":
        seconds = report.media.seconds or 1.0
        return spectrogram(media.audio(sample_rate=SOUND_RATE, max_seconds=seconds)), shown
    if shown.second is None:
        return media.image(), shown
    most = max(len(timeline.seconds) for timeline in evidence.timelines)
    for frame in media.frames(most=most):
        if abs(frame.seconds - shown.second) < 1e-3:
            return frame.pixels, shown
    return None


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
