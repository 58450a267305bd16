"""How many machines a load needs, and what a million files cost: from rates measured here.

    python -m benchmarks.capacity --cores 32 --price 1.50
    python -m benchmarks.capacity --images-per-core 5 --recordings-per-core 2 --videos-per-core 0.05
    python -m benchmarks.capacity --images-per-gpu 150 --gpus 4 --gpu-machine-price 6

A rate is files a second. Those of a core that are not given are measured first: photographs of two
megapixels, recordings of 60 s, videos of 30 s at 1280x720, all generated, by one worker on every
core at once. Rates of a GPU are not measured here (benchmarks.backends runs on one), so rows for
machines with GPUs appear for the rates that are given. Prices are parameters, and their defaults
examples, not quotes: put in your own.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import av
import numpy as np
from rich.console import Console

from deepfake.scan.executors import LocalExecutor, Task, WorkerSetup
from deepfake.settings import DetectOptions, Settings
from deepfake.show.console import print_table
from examples.samples import speech, wav

from .cluster import write_photographs

DAY_SECONDS = 86_400
LOADS = (1e6, 1e9)
IMAGE_SIZE, VIDEO_SIZE = (1632, 1224), (1280, 720)
RECORDING_SECONDS, VIDEO_SECONDS, FRAME_RATE = 60, 30, 30
EXAMPLE_PRICE, EXAMPLE_GPU_PRICE = 1.00, 4.00


@dataclass(frozen=True)
class Kind:
    """A kind of file: its name here and in flags, what is generated, and how many files each
    worker examines to be measured.
    """

    name: str
    text: str
    files_per_worker: int


KINDS = (
    Kind("images", "image of 2 megapixels", 10),
    Kind("recordings", f"recording of {RECORDING_SECONDS} s", 6),
    Kind("videos", f"video of {VIDEO_SECONDS} s, 720p", 2),
)


@dataclass(frozen=True)
class Machine:
    """``units`` cores or GPUs, of whose time the share ``utilisation`` is used."""

    units: int
    price: float
    utilisation: float

    def files_a_second(self, rate: float) -> float:
        """What the machine does on average; ``rate`` is that of one unit."""
        return rate * self.units * self.utilisation

    def count(self, rate: float, files_a_day: float) -> int:
        """Machines that keep up with a load."""
        return math.ceil(files_a_day / (DAY_SECONDS * self.files_a_second(rate)))

    def million_price(self, rate: float) -> float:
        """Price of a million files."""
        return self.price * 1e6 / (3600 * self.files_a_second(rate))


def main(arguments: list[str] | None = None) -> int:
    options = build_parser().parse_args(arguments)
    console = Console(markup=False, highlight=False, width=140)
    given = {kind.name: getattr(options, f"{kind.name}_per_core") for kind in KINDS}
    sizes = {kind.name: 1e6 * getattr(options, f"{kind.name}_megabytes") for kind in KINDS}
    missing = [kind for kind in KINDS if given[kind.name] is None]
    rates = dict(given)
    if missing:
        with tempfile.TemporaryDirectory() as folder:
            for kind, rate, size in measure(missing, Path(folder), workers=options.workers):
                rates[kind.name] = rate
                sizes[kind.name] = sizes[kind.name] or size
    cores = Machine(options.cores, options.price, options.utilisation)
    gpus = Machine(options.gpus, options.gpu_machine_price, options.utilisation)
    rows = []
    for kind in KINDS:
        gpu_rate = getattr(options, f"{kind.name}_per_gpu")
        origin = "given" if given[kind.name] else "measured"
        rows.append(plan(kind, f"core, {origin}", rates[kind.name], cores, sizes[kind.name]))
        if gpu_rate:
            rows.append(plan(kind, "GPU, given", gpu_rate, gpus, sizes[kind.name]))
    if missing:
        console.print(f"measured on {os.cpu_count()} cores with {options.workers} workers")
    console.print(
        f"machines of {cores.units} cores at {cores.price:.2f} an hour, or of {gpus.units} GPUs at "
        f"{gpus.price:.2f}, {cores.utilisation:.0%} used"
    )
    if (cores.price, gpus.price) == (EXAMPLE_PRICE, EXAMPLE_GPU_PRICE):
        console.print("these prices are examples, not quotes; give --price, --gpu-machine-price")
    columns = ["file", "rate of one", "files/s", "machines, 1M a day", "1G a day"]
    columns += ["price of 1M", "MB/s, 1M a day", "1G a day"]
    print_table(columns, rows, console)
    return 0


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.capacity", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--cores", type=_count, default=32, help="of one machine (32)")
    parser.add_argument("--gpus", type=_count, default=1, help="of one machine with GPUs (1)")
    parser.add_argument(
        "--utilisation",
        type=_share,
        default=0.6,
        help="share of the day in which a machine works: load has peaks, machines fail (0.6)",
    )
    parser.add_argument(
        "--price",
        type=_positive,
        default=EXAMPLE_PRICE,
        help=f"of a machine for an hour ({EXAMPLE_PRICE:.2f}, an example, not a quote)",
    )
    parser.add_argument(
        "--gpu-machine-price",
        type=_positive,
        default=EXAMPLE_GPU_PRICE,
        help=f"the same for one with GPUs ({EXAMPLE_GPU_PRICE:.2f}, an example, not a quote)",
    )
    parser.add_argument(
        "--workers",
        type=_count,
        default=os.cpu_count() or 1,
        help="busy at once while rates are measured; no more than this machine has cores (all)",
    )
    for kind in KINDS:
        for unit in ("core", "gpu"):
            parser.add_argument(
                f"--{kind.name}-per-{unit}",
                type=_positive,
                metavar="RATE",
                help=f"files a second of one {unit}: {kind.text}",
            )
        parser.add_argument(
            f"--{kind.name}-megabytes",
            type=_positive,
            metavar="SIZE",
            default=0.0,
            help="mean size of a file; else that of the generated one",
        )
    return parser


def plan(kind: Kind, unit: str, rate: float, machine: Machine, size_bytes: float) -> list[str]:
    """The row of a kind of file on a kind of machine."""
    reads = [load * size_bytes / DAY_SECONDS / 1e6 for load in LOADS]
    return [
        kind.text,
        unit,
        f"{rate:.3g}",
        *(f"{machine.count(rate, load):,}" for load in LOADS),
        f"{machine.million_price(rate):,.2f}",
        *(f"{read:,.0f}" if size_bytes else "–" for read in reads),
    ]


def measure(kinds: list[Kind], folder: Path, *, workers: int) -> list[tuple[Kind, float, float]]:
    """For each kind the files a second of one worker while all work, and bytes of a file."""
    found = []
    executor = LocalExecutor(
        WorkerSetup(Settings(device="cpu", precision="auto"), DetectOptions()), workers
    )
    try:
        for kind in kinds:
            paths = WRITERS[kind.name](folder)
            count = workers * kind.files_per_worker
            tasks = [Task(paths[number % len(paths)]) for number in range(count)]
            list(executor.run(iter(tasks[:workers] * 2)))  # workers start, networks are compiled
            started = time.perf_counter()
            for task, line in executor.run(iter(tasks)):
                if "error" in line:
                    raise RuntimeError(f"{task.path}: {line['error']['message']}")
            rate = count / (time.perf_counter() - started) / workers
            found.append((kind, rate, fmean(Path(path).stat().st_size for path in paths)))
    finally:
        executor.close()
    return found


def _write_images(folder: Path) -> list[str]:
    width, height = IMAGE_SIZE
    return write_photographs(folder, count=8, width=width, height=height, first_seed=0)


def _write_recordings(folder: Path) -> list[str]:
    path = folder / "recording.wav"
    path.write_bytes(wav(speech(RECORDING_SECONDS)))
    return [str(path)]


def _write_videos(folder: Path) -> list[str]:
    """A picture that drifts under fresh noise, H.264, without sound."""
    width, height = VIDEO_SIZE
    path, rng = folder / "video.mp4", np.random.default_rng(0)
    coarse = rng.integers(0, 256, (height // 8, width // 8, 3), np.uint8)
    wide = np.kron(coarse, np.ones((8, 8, 1), np.uint8))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FRAME_RATE, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for index in range(FRAME_RATE * VIDEO_SECONDS):
            noise = rng.integers(-6, 7, (height, width, 1), np.int16)
            pixels = np.roll(wide, 2 * index, axis=1) + noise
            frame = av.VideoFrame.from_ndarray(
                np.clip(pixels, 0, 255).astype(np.uint8), format="rgb24"
            )
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return [str(path)]


WRITERS = {"images": _write_images, "recordings": _write_recordings, "videos": _write_videos}


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text}: not above 0")
    return value


def _share(text: str) -> float:
    value = _positive(text)
    if value > 1:
        raise argparse.ArgumentTypeError(f"{text}: above 1")
    return value


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text}: not above 0")
    return value


if __name__ == "__main__":
    sys.exit(main())
