"""How fast each installed backend runs each shipped bundle: the figures behind ``auto``.

    python -m benchmarks.backends

One run, all backends in turn, medians; the ratio is to the fastest.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from dataclasses import replace
from statistics import median

import numpy as np
from rich.console import Console

from deepfake.backends import installed_backends, open_backend
from deepfake.bundle import Bundle, read_bundles
from deepfake.console import print_table
from deepfake.settings import Settings


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.backends", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--batch", type=int, default=8, help="windows in one run (8)")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--threads", type=int, default=0, help="0 for all cores")
    options = parser.parse_args(arguments)
    settings = Settings(threads=options.threads, device="cpu")
    console = Console(markup=False, highlight=False)
    rows = []
    for bundle in read_bundles(settings.models_folder).values():
        times = {
            name: time_backend(bundle, replace(settings, backend=name), options)
            for name in installed_backends()
        }
        fastest = min(times.values())
        rows += [
            [bundle.name, name, f"{1000 * seconds:.2f}", f"{seconds / fastest:.2f}"]
            for name, seconds in sorted(times.items(), key=lambda pair: pair[1])
        ]
    threads = options.threads or os.cpu_count()
    console.print(f"{threads} threads, batch {options.batch}, median of {options.repeats}")
    print_table(["bundle", "backend", "ms a window", "ratio"], rows, console)
    return 0


def time_backend(bundle: Bundle, settings: Settings, options: argparse.Namespace) -> float:
    """Median seconds a window."""
    if settings.threads and settings.backend == "torch":
        import torch

        torch.set_num_threads(settings.threads)
    golden, _ = bundle.golden()
    batch = np.resize(golden, (options.batch, *golden.shape[1:]))
    backend = open_backend(bundle, settings=settings)
    seconds = []
    for _ in range(options.repeats + 2):
        started = time.perf_counter()
        backend.run(batch)
        seconds.append(time.perf_counter() - started)
    backend.close()
    return median(seconds[2:]) / options.batch


if __name__ == "__main__":
    sys.exit(main())
