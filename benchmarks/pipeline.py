"""What a whole report costs beside the decoding that every tool has to do.

    python -m benchmarks.pipeline
    python -m benchmarks.pipeline --kinds image --megapixels 2 --files 16
    python -m benchmarks.pipeline --kinds video audio --repeats 3
    python -m benchmarks.pipeline --media FOLDER

On the same files and cores, in turns: decoding with Pillow or PyAV alone, in one process and in one
a core; the same in the confined child process; with the preprocessing of the bundles; and a full
report with all evidence on, from one caller and from one a core. Media are made on the spot.
``÷ decode`` is the time beside that of the plain decoder, of as many processes: what is above 1 is
the whole price of confinement, hashing, evidence and networks. Of a clip a report does not look at
every frame, so that it may take less than decoding all of them. ``processor`` sums all threads and
child processes, which other programs disturb less. The second table says where the time of a report
goes. Confine the program with ``taskset -c 0`` for figures of one core.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from itertools import chain
from multiprocessing import get_context
from pathlib import Path
from statistics import median

import av
import numpy as np
from PIL import Image

from deepfake import DetectOptions, Detector, Kind, Report, Settings, open_media
from deepfake.preprocess import FinderPreprocess, ImagePreprocess

from .media import (
    MediaSet,
    add_media_options,
    make_clip,
    make_pictures,
    make_speech,
    read_media,
)
from .timing import (
    count_cores,
    make_console,
    make_parser,
    print_machine,
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
    parser.add_argument(
        "--lines", type=int, nargs="+", default=[720, 1080], help="heights of the clips (720 1080)"
    )
    parser.add_argument("--clip-seconds", type=float, default=30.0, help="(30)")
    parser.add_argument("--sound-seconds", type=float, default=60.0, help="(60)")
    add_media_options(parser)
    options = parser.parse_args(arguments)
    console = make_console()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        detector = stack.enter_context(Detector(Settings(device="cpu")))
        pool = stack.enter_context(
            ProcessPoolExecutor(count_cores(), mp_context=get_context("spawn"))
        )
        print_machine(*PACKAGES, repeats=options.repeats, console=console)
        for media in read_media(options.media) if options.media else make_sets(folder, options):
            if media.kind.value not in options.kinds:
                continue
            if media.kind is Kind.IMAGE:
                rows, reports = measure_pictures(media, detector, pool, repeats=options.repeats)
                head = ["step", "ms a file", "processor ms", "files/s", "÷ decode"]
            else:
                rows, reports = measure_streams(media, detector, repeats=options.repeats)
                head = ["step", "seconds", "processor seconds", "× real time", "÷ decode"]
            print_results(f"{len(media.paths)} × {media.name}", head, rows, console=console)
            print_results(
                "where a report's time goes, medians",
                ["step", "ms", "share"],
                tabulate_steps(reports),
                console=console,
            )
    return 0


def make_sets(folder: Path, options: argparse.Namespace) -> Iterator[MediaSet]:
    """The media to measure with, each made when its turn comes."""
    if Kind.IMAGE.value in options.kinds:
        for size in options.megapixels:
            yield make_pictures(folder / f"{size:g}", megapixels=size, files=options.files)
    if Kind.AUDIO.value in options.kinds:
        yield make_speech(folder / "speech.wav", seconds=options.sound_seconds)
    if Kind.VIDEO.value in options.kinds:
        for height in options.lines:
            path, width = folder / f"{height}.mp4", 2 * round(height * 8 / 9)
            yield make_clip(path, width=width, height=height, seconds=options.clip_seconds)


def measure_pictures(
    media: MediaSet, detector: Detector, pool: ProcessPoolExecutor, *, repeats: int
) -> tuple[list[list[str]], list[Report]]:
    """A row for each stage, and every report that was made."""
    paths, cores = list(media.paths), count_cores()
    reports: list[Report] = []
    plain, together = "decode, 1 process", f"decode, {cores} processes"
    detect_many = f"report, {cores} callers"
    steps: Steps = {
        plain: lambda: [decode_picture(path) for path in paths],
        together: lambda: list(pool.map(decode_picture, paths)),
        "decode, confined": lambda: [decode_confined(path) for path in paths],
        "decode and preprocess": lambda: [preprocess(path, detector) for path in paths],
        "report": lambda: reports.extend(detector.detect(path) for path in paths),
        detect_many: lambda: list(detector.detect_many(paths, workers=cores)),
    }
    times = time_steps(steps, repeats=repeats)
    rows = []
    for name, taken in times.items():
        decode = times[together if name in (together, detect_many) else plain]
        rows.append(
            [
                name,
                f"{1000 * taken.seconds / len(paths):.1f}",
                f"{1000 * taken.processor_seconds / len(paths):.1f}",
                f"{len(paths) / taken.seconds:.1f}",
                f"{taken.seconds / decode.seconds:.2f}",
            ]
        )
    return rows, reports


def measure_streams(
    media: MediaSet, detector: Detector, *, repeats: int
) -> tuple[list[list[str]], list[Report]]:
    """A row for each stage of clips or sounds, and every report that was made."""
    reports: list[Report] = []
    decode = decode_clip if media.kind is Kind.VIDEO else decode_sound
    steps: Steps = {"decode": lambda: [decode(path) for path in media.paths]}
    if media.kind is Kind.AUDIO:
        steps["decode, confined"] = lambda: [hear_confined(path) for path in media.paths]
    steps["report"] = lambda: reports.extend(detector.detect(path) for path in media.paths)
    times = time_steps(steps, repeats=repeats)
    rows = [
        [
            name,
            f"{taken.seconds:.2f}",
            f"{taken.processor_seconds:.2f}",
            f"{media.seconds / taken.seconds:.1f}",
            f"{taken.seconds / times['decode'].seconds:.2f}",
        ]
        for name, taken in times.items()
    ]
    return rows, reports


def tabulate_steps(reports: Sequence[Report]) -> list[list[str]]:
    """Median milliseconds of each step of the reports, and its share of their sum."""
    names = dict.fromkeys(chain.from_iterable(report.seconds_by_step for report in reports))
    steps = {name: median(report.seconds_by_step[name] for report in reports) for name in names}
    whole = sum(steps.values())
    return [
        [name, f"{1000 * taken:.1f}", f"{100 * taken / whole:.0f} %"]
        for name, taken in steps.items()
    ]


def decode_picture(path: Path) -> tuple[int, ...]:
    """All pixels of a picture with Pillow, as most programs get them."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).shape


def decode_clip(path: Path) -> int:
    """Every frame of a clip with PyAV and all cores, left in the colours that it is stored in."""
    with av.open(str(path)) as container:
        container.streams.video[0].thread_type = "AUTO"
        return sum(1 for _ in container.decode(video=0))


def decode_sound(path: Path) -> int:
    """Every sample of a sound with PyAV."""
    with av.open(str(path)) as container:
        return sum(frame.samples for frame in container.decode(audio=0))


def decode_confined(path: Path) -> tuple[int, ...]:
    """The same in the child process, hashed and checked."""
    with open_media(path) as media:
        return media.image().shape


def hear_confined(path: Path) -> int:
    """The samples that the audio evidence takes, from the child process."""
    with open_media(path) as media:
        return len(media.audio(sample_rate=16_000, max_seconds=DetectOptions().max_audio_seconds))


def preprocess(path: Path, detector: Detector) -> int:
    """Decode, make the input of the image bundle and of the face finder, and count its values."""
    with open_media(path) as media:
        pixels = media.image()
    values = 0
    for slot in ("image", "face-finder"):
        step = detector.engine.bundle(slot).preprocess
        assert isinstance(step, ImagePreprocess | FinderPreprocess)
        values += step(pixels)[0].size
    return values


if __name__ == "__main__":
    sys.exit(main())
