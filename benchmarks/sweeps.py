"""How speed grows with the size of a batch, and with the number of workers of a scan.

    python -m benchmarks.sweeps
    python -m benchmarks.sweeps --parts batch --bundles image face --batches 1 8 64
    python -m benchmarks.sweeps --parts workers --files 64 --megapixels 2

The first table runs every bundle on every installed CPU backend with batches of 1 … 64 windows, in
turns: windows a second, where a batch is best, and what that gains over windows one by one. The
second scans the same pictures with 1 … as many workers as cores, each with one thread: files a
second once the workers have started, and the gain over one worker. Two cores that share a cache,
and the parent that writes the journal, keep two workers below 2.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np
from rich.console import Console

from deepfake import Settings
from deepfake.bundle import Bundle
from deepfake.engine.backends import installed_backends, open_backend
from deepfake.trust.registry import read_bundles

from .media import make_pictures
from .peers import time_scan
from .timing import (
    count_cores,
    make_console,
    make_parser,
    print_machine,
    print_results,
    take_turns,
    time_steps,
)

PARTS = ("batch", "workers")


def main(arguments: list[str] | None = None) -> int:
    parser = make_parser("sweeps", __doc__)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="(both)")
    parser.add_argument("--bundles", nargs="+", metavar="SLOT", help="(those of every slot)")
    parser.add_argument("--backends", nargs="+", metavar="NAME", help="(all that are installed)")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32, 64])
    parser.add_argument("--threads", type=int, default=0, help="of a backend; 0 for all cores")
    parser.add_argument("--files", type=int, default=48, help="pictures of a scan (48)")
    parser.add_argument("--megapixels", type=float, default=2.0, help="of each picture (2)")
    parser.add_argument("--workers", type=int, nargs="+", help="(1 … as many as cores)")
    options = parser.parse_args(arguments)
    console = make_console()
    packages = ("openvino", "onnxruntime", "torch")
    print_machine(*packages, repeats=options.repeats, console=console)
    if "batch" in options.parts:
        sweep_batches(options, console)
    if "workers" in options.parts:
        sweep_workers(options, console)
    return 0


def sweep_batches(options: argparse.Namespace, console: Console) -> None:
    """Print windows a second for each bundle, backend and size of a batch."""
    settings = Settings(threads=options.threads, device="cpu")
    rows = []
    for slot, bundle in read_bundles(settings.models_folder).items():
        if options.bundles and slot not in options.bundles:
            continue
        for name in options.backends or installed_backends():
            rates = time_batches(
                bundle, replace(settings, backend=name), options.batches, repeats=options.repeats
            )
            best = max(rates, key=rates.__getitem__)
            cells = [f"{rate:.1f}" for rate in rates.values()]
            gain = rates[best] / rates[min(rates)]
            rows.append([bundle.name, name, *cells, str(best), f"{gain:.2f}"])
    title = f"windows a second by size of the batch, {options.threads or count_cores()} threads"
    head = ["bundle", "backend", *map(str, options.batches), "best", "gain"]
    print_results(title, head, rows, console=console)


def time_batches(
    bundle: Bundle, settings: Settings, batches: Sequence[int], *, repeats: int
) -> dict[int, float]:
    """Median windows a second for each size of a batch."""
    backend = open_backend(bundle, settings=settings)
    golden, _ = bundle.golden()
    inputs = {size: np.resize(golden, (size, *golden.shape[1:])) for size in batches}
    steps = {size: lambda batch=batch: backend.run(batch) for size, batch in inputs.items()}
    try:
        times = time_steps(steps, repeats=repeats)
    finally:
        backend.close()
    return {size: size / taken.seconds for size, taken in times.items()}


def sweep_workers(options: argparse.Namespace, console: Console) -> None:
    """Print files a second for each number of workers."""
    counts = options.workers or range(1, count_cores() + 1)
    with tempfile.TemporaryDirectory() as folder:
        media = make_pictures(Path(folder), megapixels=options.megapixels, files=options.files)
        steps = {
            str(count): lambda count=count: time_scan(media.paths, workers=count)
            for count in counts
        }
        taken = take_turns(steps, repeats=options.repeats, warm=False)
    whole = {count: median(times[0] for times in pairs) for count, pairs in taken.items()}
    steady = {count: median(times[1] for times in pairs) for count, pairs in taken.items()}
    one = next(iter(steady.values()))
    rows = [
        [
            count,
            f"{options.files / steady[count]:.1f}",
            f"{one / steady[count]:.2f}",
            f"{options.files / whole[count]:.1f}",
        ]
        for count in steady
    ]
    head = ["workers", "files/s, warm", f"÷ {next(iter(steady))} worker", "files/s, start included"]
    print_results(f"scan of {options.files} × {media.name}", head, rows, console=console)


if __name__ == "__main__":
    sys.exit(main())
