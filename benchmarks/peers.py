"""The package beside what is usual: a torch network over a loop of files, on the same machine.

    python -m benchmarks.peers
    python -m benchmarks.peers --kinds image --megapixels 2 --files 64
    python -m benchmarks.peers --media FOLDER

The peers are written with public libraries the way most published detectors are run: Pillow opens
a file, torchvision makes Resize 256, CenterCrop 224, ToTensor and Normalize of it, and a timm
ResNet-50 or ViT-B/16 scores it, one file after the other, in inference mode with torch's own number
of threads. Their weights are random, which costs the same. Ours is a scan: every
source of evidence, a full report a file, journalled, with one worker a core. ``warm`` is its rate
once the workers have started, ``start included`` that of the whole call; the start of torch is not
counted. ``ours ÷ it`` divides our files a second, warm, by those of the line: above 1 ours is
faster. ``÷ decode`` is the time beside that of decoding alone, in as many processes as cores. Run
it on a quiet machine: threads of torch that wait for one another suffer most from other load.

For speech the peer is a raw-waveform network of AASIST's size and cost (``benchmarks.rawnet``) on
4 s windows one after the other, read with soundfile; ours is a report with all evidence on.
"""

from __future__ import annotations

import math
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

from deepfake import Detector, Kind, Settings
from deepfake.scan.executors import Line
from deepfake.scan.scan import Summary, scan

from .media import MediaSet, add_media_options, read_media
from .pipeline import decode_picture, make_sets
from .processes import count_processor_seconds
from .timing import (
    Taken,
    count_cores,
    find_median,
    make_console,
    make_parser,
    print_machine,
    print_results,
    stopwatch,
    take_turns,
    time_steps,
)

PACKAGES = ("torch", "timm", "torchvision", "pillow", "openvino", "onnxruntime")
NETWORKS = {"ResNet-50": "resnet50", "ViT-B/16": "vit_base_patch16_224"}
WARM, WHOLE = "ours, warm", "ours, start included"


def main(arguments: list[str] | None = None) -> int:
    parser = make_parser("peers", __doc__)
    parser.add_argument("--files", type=int, default=48, help="pictures of each size (48)")
    parser.add_argument("--megapixels", type=float, nargs="+", default=[0.3, 2.0], help="(0.3 2)")
    parser.add_argument(
        "--networks", nargs="+", choices=NETWORKS, default=[*NETWORKS], help="peers (all)"
    )
    parser.add_argument("--sound-seconds", type=float, default=60.0, help="(60)")
    add_media_options(parser)
    parser.set_defaults(lines=())  # no videos: none of the peers takes them
    options = parser.parse_args(arguments)
    console = make_console()
    print_machine(*PACKAGES, repeats=options.repeats, console=console)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        pool = stack.enter_context(
            ProcessPoolExecutor(count_cores(), mp_context=get_context("spawn"))
        )
        networks: dict[str, Callable[[Path], float]] = {}
        for media in read_media(options.media) if options.media else make_sets(folder, options):
            title = f"{len(media.paths)} × {media.name}"
            if media.kind.value not in options.kinds:
                continue
            if media.kind is Kind.IMAGE:
                networks = networks or {
                    name: load_network(NETWORKS[name]) for name in options.networks
                }
                rows = compare_pictures(media, networks, pool, repeats=options.repeats)
                head = ["program", "ms a file", "processor ms", "files/s", "ours ÷ it", "÷ decode"]
                print_results(title, head, rows, console=console)
            elif media.kind is Kind.AUDIO:
                rows = compare_sounds(media, repeats=options.repeats)
                head = ["program", "ms a file", "processor ms", "× real time", "ours ÷ it"]
                print_results(title, head, rows, console=console)
    return 0


def compare_pictures(
    media: MediaSet,
    networks: dict[str, Callable[[Path], float]],
    pool: ProcessPoolExecutor,
    *,
    repeats: int,
) -> list[list[str]]:
    """A row for each program."""
    cores, paths = count_cores(), list(media.paths)
    warm: list[float] = []
    steps: dict[str, Callable[[], Taken]] = {
        f"decode alone, {cores} processes": stopwatch(lambda: [*pool.map(decode_picture, paths)])
    }
    for name, score in networks.items():
        steps[name] = stopwatch(lambda score=score: [score(path) for path in paths])  # type: ignore[misc]

    def scan_all() -> Taken:
        before = count_processor_seconds()
        whole, steady = time_scan(paths, workers=cores)
        warm.append(steady)
        return Taken(whole, count_processor_seconds() - before)

    steps[WHOLE] = scan_all
    times = {name: find_median(taken) for name, taken in take_turns(steps, repeats=repeats).items()}
    times[WARM] = Taken(median(warm[-repeats:]), math.nan)
    decode = next(iter(times.values()))
    return [
        [
            name,
            f"{1000 * taken.seconds / len(paths):.1f}",
            "" if name == WARM else f"{1000 * taken.processor_seconds / len(paths):.1f}",
            f"{len(paths) / taken.seconds:.1f}",
            f"{taken.seconds / times[WARM].seconds:.2f}",
            f"{taken.seconds / decode.seconds:.2f}",
        ]
        for name, taken in times.items()
    ]


def compare_sounds(media: MediaSet, *, repeats: int) -> list[list[str]]:
    """A row for each program."""
    import torch

    from .rawnet import SAMPLE_RATE, WINDOW_SAMPLES, RawNetwork, count_cost

    network = RawNetwork().eval()
    cost = count_cost()
    peer = f"raw-waveform network, {cost.parameters / 1e3:.0f} k, {cost.macs / 1e9:.1f} GMAC a 4 s"

    def score(path: Path) -> float:
        import soundfile

        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
        if rate != SAMPLE_RATE:
            raise RuntimeError(f"{path.name} has {rate} Hz; the peer takes {SAMPLE_RATE} Hz")
        mono = torch.from_numpy(samples.mean(axis=1))
        short = -len(mono) % WINDOW_SAMPLES
        windows = torch.nn.functional.pad(mono, (0, short)).reshape(-1, 1, WINDOW_SAMPLES)
        with torch.inference_mode():
            return max(float(network(window)) for window in windows)

    with Detector(Settings(device="cpu")) as detector:
        steps = {
            peer: lambda: [score(path) for path in media.paths],
            "ours": lambda: [detector.detect(path) for path in media.paths],
        }
        times = time_steps(steps, repeats=repeats)
    return [
        [
            name,
            f"{1000 * taken.seconds / len(media.paths):.0f}",
            f"{1000 * taken.processor_seconds / len(media.paths):.0f}",
            f"{media.seconds / taken.seconds:.1f}",
            f"{taken.seconds / times['ours'].seconds:.2f}",
        ]
        for name, taken in times.items()
    ]


def time_scan(paths: Sequence[Path], *, workers: int) -> tuple[float, float]:
    """Wall seconds of a scan of ``paths``, and what it would have taken without its start.

    The start ends when every worker has surely finished its first file: after 2 files a worker. The
    rate from there to the end is taken for all files.
    """
    finished: list[float] = []

    def note(summary: Summary, line: Line | None) -> None:
        if line is not None:
            finished.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        scan(
            paths,
            output=Path(folder) / "results.jsonl",
            settings=Settings(device="cpu", precision="auto"),  # int8, where there is any
            workers=workers,
            progress=note,
        )
        whole = time.perf_counter() - started
    if len(finished) != len(paths):
        raise RuntimeError(f"{len(finished)} of {len(paths)} files were examined")
    first = min(2 * workers, len(finished) - 1)
    steady = (finished[-1] - finished[first - 1]) / (len(finished) - first)
    return whole, steady * len(paths)


def load_network(name: str) -> Callable[[Path], float]:
    """A function from a picture file to the score of a timm network, in the usual way."""
    import timm
    import torch
    from PIL import Image
    from torchvision import transforms

    network = timm.create_model(name, pretrained=False, num_classes=1).eval()
    transform: Any = transforms.Compose(
        [
            transforms.Resize(256),
            transforms.CenterCrop(224),
            transforms.ToTensor(),
            transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )

    def score(path: Path) -> float:
        with Image.open(path) as image:
            batch = transform(image.convert("RGB"))[None]
        with torch.inference_mode():
            return float(torch.sigmoid(network(batch)))

    return score


if __name__ == "__main__":
    sys.exit(main())
