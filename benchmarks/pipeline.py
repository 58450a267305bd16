"""What a whole report costs beside the decoding that every tool has to do.

    python -m benchmarks.pipeline
    python -m benchmarks.pipeline --kinds image --megapixels 2 --files 16
    python -m benchmarks.pipeline --media FOLDER

On the same files and cores, in turns: decoding with Pillow or PyAV alone, in one process and in one
a core; the same in the confined child process; with the preprocessing of the bundles; and a full
report with all evidence on, from one caller and from one a core. Media are made on the spot.
``÷ decode`` is the time a file beside that of the plain decoder, of as many processes: what is left
above 1 is the whole price of confinement, hashing, evidence and networks. The second table says
where the time of a report goes. Confine the program with ``taskset -c 0`` for figures of one core.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from itertools import chain
from multiprocessing import get_context
from pathlib import Path
from statistics import median

import numpy as np
from PIL import Image

from deepfake import Detector, Kind, Report, Settings, open_media
from deepfake.preprocess import FinderPreprocess, ImagePreprocess

from .media import MediaSet, add_media_option, make_pictures, read_media
from .timing import (
    count_cores,
    describe_machine,
    make_console,
    make_parser,
    print_results,
    time_steps,
)

PACKAGES = ("numpy", "pillow", "av", "opencv-python-headless", "openvino", "onnxruntime")
Steps = dict[str, Callable[[], object]]


def main(arguments: list[str] | None = None) -> int:
    parser = make_parser("pipeline", __doc__)
    parser.add_argument("--files", type=int, default=8, help="pictures of each size (8)")
    parser.add_argument(
        "--megapixels", type=float, nargs="+", default=[0.3, 2.0, 12.0], help="(0.3 2 12)"
    )
    add_media_option(parser)
    options = parser.parse_args(arguments)
    console = make_console()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        detector = stack.enter_context(Detector(Settings(device="cpu")))
        pool = stack.enter_context(
            ProcessPoolExecutor(count_cores(), mp_context=get_context("spawn"))
        )
        console.print(describe_machine(*PACKAGES), soft_wrap=True)
        console.print(f"median of {options.repeats}, steps in turns\n")
        if options.media:
            sets: Iterator[MediaSet] = iter(read_media(options.media))
        else:
            sets = make_sets(folder, options.megapixels, options.files)
        for media in sets:
            rows, steps = measure_pictures(media, detector, pool, repeats=options.repeats)
            print_results(
                media.name, ["step", "ms a file", "files/s", "÷ decode"], rows, console=console
            )
            print_results("a report, step by step", ["step", "ms", "share"], steps, console=console)
    return 0


def make_sets(folder: Path, megapixels: Sequence[float], files: int) -> Iterator[MediaSet]:
    """The media to measure with, each made when its turn comes."""
    for size in megapixels:
        yield make_pictures(folder / f"{size:g}", megapixels=size, files=files)


def measure_pictures(
    media: MediaSet, detector: Detector, pool: ProcessPoolExecutor, *, repeats: int
) -> tuple[list[list[str]], list[list[str]]]:
    """Rows of all stages, and of the steps of a report."""
    paths, cores = list(media.paths), count_cores()
    reports: list[Report] = []

    def detect() -> None:
        reports.extend(detector.detect(path) for path in paths)

    plain, together = "decode, 1 process", f"decode, {cores} processes"
    detect_many = f"report, {cores} callers"
    steps: Steps = {
        plain: lambda: [decode_plainly(path) for path in paths],
        together: lambda: list(pool.map(decode_plainly, paths)),
        "decode, confined": lambda: [decode_confined(path) for path in paths],
        "decode and preprocess": lambda: [preprocess(path, detector) for path in paths],
        "report": detect,
        detect_many: lambda: list(detector.detect_many(paths, workers=cores)),
    }
    seconds = time_steps(steps, repeats=repeats)
    rows = [
        [
            name,
            f"{1000 * taken / len(paths):.1f}",
            f"{len(paths) / taken:.1f}",
            f"{taken / seconds[together if name in (together, detect_many) else plain]:.2f}",
        ]
        for name, taken in seconds.items()
    ]
    return rows, tabulate_steps(reports)


def tabulate_steps(reports: Sequence[Report]) -> list[list[str]]:
    """Median milliseconds of each step of the reports, and its share of their sum."""
    names = dict.fromkeys(chain.from_iterable(report.seconds_by_step for report in reports))
    steps = {name: median(report.seconds_by_step[name] for report in reports) for name in names}
    whole = sum(steps.values())
    return [
        [name, f"{1000 * taken:.1f}", f"{100 * taken / whole:.0f} %"]
        for name, taken in steps.items()
    ]


def decode_plainly(path: Path) -> tuple[int, ...]:
    """All pixels of a picture with Pillow, as most programs get them."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).shape


def decode_confined(path: Path) -> tuple[int, ...]:
    """The same in the child process, hashed and checked."""
    with open_media(path) as media:
        return media.image().shape


def preprocess(path: Path, detector: Detector) -> None:
    """Decode, then make the input of the image bundle and of the face finder."""
    with open_media(path) as media:
        pixels = media.image()
    for slot in ("image", "face-finder"):
        step = detector.engine.bundle(slot).preprocess
        assert isinstance(step, ImagePreprocess | FinderPreprocess)
        step(pixels)


if __name__ == "__main__":
    sys.exit(main())
