"""How long the shipped face finder takes for one frame, all in, and its parts.

    python -m benchmarks.finder [--teacher YUNET.onnx]

A frame is a noisy picture with drawn faces. "All in" is what a caller of ``BundleFinder`` would
wait without the engine's queue: shrinking, normalising, the network, reading its map. With
``--teacher`` a YuNet file is timed on the same frame through ``YunetFinder``. Medians; the least of
all runs and the processor time of all threads are disturbed less by other programs.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median

import cv2
import numpy as np
from rich.console import Console

from deepfake.content.faces import YunetFinder, keep_best
from deepfake.engine.backends import choose_backend, open_backend
from deepfake.engine.maps import read_map
from deepfake.preprocess import FinderPreprocess, Pixels
from deepfake.settings import Settings
from deepfake.show.console import print_table
from deepfake.trust.registry import read_bundles


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.finder", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--teacher", type=Path, help="a YuNet ONNX file to compare with")
    parser.add_argument("--size", default="1280x720", help="of the frame, pixels (1280x720)")
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--repeats", type=int, default=60)
    parser.add_argument("--threads", type=int, default=0, help="0 for all cores")
    options = parser.parse_args(arguments)
    width, height = (int(part) for part in options.size.split("x"))
    threads = options.threads or os.cpu_count() or 1
    settings = Settings(threads=options.threads, device="cpu", backend=options.backend)
    settings = replace(settings, backend=choose_backend(settings))
    cv2.setNumThreads(threads)
    frame = draw_frame(height=height, width=width)
    rows = time_bundle(frame, settings, repeats=options.repeats)
    if options.teacher:
        teacher = YunetFinder(options.teacher)
        rows.append([options.teacher.name, *_time(lambda: teacher.find(frame), options.repeats)])
    console = Console(markup=False, highlight=False)
    console.print(
        f"{width}x{height}, {threads} threads, {settings.backend}, {options.repeats} runs"
    )
    print_table(["step", "median ms", "least ms", "processor ms"], rows, console)
    return 0


def time_bundle(frame: Pixels, settings: Settings, *, repeats: int) -> list[list[str]]:
    """A row for the whole and for each part of it."""
    bundle = read_bundles(settings.models_folder)["face-finder"]
    preprocess, least = bundle.preprocess, bundle.calibration.points.synthetic
    assert isinstance(preprocess, FinderPreprocess)
    backend = open_backend(bundle, settings=settings)
    batch, zoom = preprocess(frame)
    rows, columns = batch.shape[1:3]
    values = backend.run(batch)[0]

    def read() -> None:
        keep_best(read_map(values, rows=rows, columns=columns, zoom=zoom, least=least))

    def find() -> None:
        batch, zoom = preprocess(frame)
        values = backend.run(batch)[0]
        keep_best(read_map(values, rows=rows, columns=columns, zoom=zoom, least=least))

    table = [
        [f"{bundle.name}, all in", *_time(find, repeats)],
        ["  shrink", *_time(lambda: preprocess(frame), repeats)],
        [f"  network on {columns}x{rows}", *_time(lambda: backend.run(batch), repeats)],
        ["  read the map", *_time(read, repeats)],
    ]
    backend.close()
    return table


def draw_frame(*, height: int, width: int) -> Pixels:
    """Noise with a few drawn faces, from a seed."""
    rng = np.random.default_rng(1)
    frame = rng.normal(110, 25, (height, width, 3)).clip(0, 255).astype(np.uint8)
    for share in (0.2, 0.5, 0.8):
        centre, size = (round(share * width), height // 2), round(share * height / 3)
        cv2.ellipse(frame, centre, (round(0.75 * size), size), 0, 0, 360, (205, 160, 135), -1)
        for side in (-1, 1):
            eye = (centre[0] + side * round(0.3 * size), centre[1] - round(0.2 * size))
            cv2.circle(frame, eye, max(1, size // 10), (40, 30, 30), -1)
        mouth = (centre[0], centre[1] + round(0.45 * size))
        cv2.ellipse(frame, mouth, (round(0.3 * size), size // 10), 0, 0, 360, (150, 60, 60), -1)
    return frame


def _time(call: Callable[[], object], repeats: int) -> list[str]:
    """Milliseconds: median, least, and median of what all threads used."""
    seconds, used = [], []
    for _ in range(repeats + 3):
        started, before = time.perf_counter(), time.process_time()
        call()
        seconds.append(time.perf_counter() - started)
        used.append(time.process_time() - before)
    times = median(seconds[3:]), min(seconds[3:]), median(used[3:])
    return [f"{1000 * value:.2f}" for value in times]


if __name__ == "__main__":
    sys.exit(main())
