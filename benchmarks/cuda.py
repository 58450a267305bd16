"""How much of a GPU's speed the engine keeps when it is fed from the host's memory.

    python -m benchmarks.cuda
    python -m benchmarks.cuda --slot face --batches 64 256 1024

First the peak: the same network under float16 autocast, channels last, on windows that already lie
on the device in its range, at every size of a batch. Then the backend and the engine at the best
size, fed from pinned memory of the host, with whole batches and with requests of 8 windows, as
pictures make them, several in flight; each as a share of the peak. At last the price of float16:
the largest difference of a score between the device and the CPU, over the bundle's golden inputs
and natural windows, where at most 0.002 is allowed (status 1 otherwise).

Without a CUDA device it says so and ends with status 2. ``--device cpu`` tries the program itself;
its figures mean nothing.
"""

from __future__ import annotations

import argparse
import sys
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import closing
from dataclasses import replace
from typing import Any

import numpy as np

from deepfake import DeepfakeError, Settings
from deepfake.bundle import Bundle, scale_batch
from deepfake.engine.backends import open_backend, torch_devices
from deepfake.engine.engine import Engine
from deepfake.engine.scores import Scored
from deepfake.preprocess import Batch, ImagePreprocess

from .media import photograph
from .timing import make_console, make_parser, print_machine, print_results, time_steps

MOST_GAP = 0.002
IN_FLIGHT = 4
"""Batches that wait for an answer at any time."""
REQUEST_WINDOWS = 8


def main(arguments: list[str] | None = None) -> int:
    parser = make_parser("cuda", __doc__)
    parser.add_argument("--slot", default="image", help="whose bundle is run (image)")
    parser.add_argument("--batches", type=int, nargs="+", default=[16, 32, 64, 128, 256, 512, 1024])
    parser.add_argument("--rounds", type=int, default=20, help="batches in one measurement (20)")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    options = parser.parse_args(arguments)
    try:
        settings = Settings(device=options.device, backend="torch", precision="auto")
        torch_devices(settings)
        with closing(Engine(settings)) as engine:
            bundle = engine.bundle(options.slot)
    except (DeepfakeError, ImportError) as error:
        print(f"{error}", file=sys.stderr)
        print("This benchmark needs an NVIDIA GPU and the train extra.", file=sys.stderr)
        return 2
    console = make_console()
    print_machine("torch", repeats=options.repeats, console=console)
    console.print(f"{bundle.name} on {name_device(options.device)}\n")
    windows = make_windows(bundle)
    peaks = measure_peak(bundle, windows, options)
    best = max(peaks, key=peaks.__getitem__)
    rows = [[str(size), f"{rate:.0f}", f"{rate / peaks[best]:.2f}"] for size, rate in peaks.items()]
    title = "data resident on the device, float16"
    print_results(title, ["batch", "windows/s", "÷ peak"], rows, console=console)
    rates = measure_engine(bundle, windows, settings, options, size=best)
    rows = [[name, f"{rate:.0f}", f"{rate / peaks[best]:.2f}"] for name, rate in rates.items()]
    title = f"from pinned memory of the host, batches of {best}"
    print_results(title, ["path", "windows/s", "÷ peak"], rows, console=console)
    gaps = measure_gaps(bundle, windows, settings)
    print_results(
        "the same inputs on the CPU, in float32",
        ["inputs", "windows", "largest gap of a score", f"≤ {MOST_GAP}"],
        [
            [name, str(count), f"{gap:.5f}", "yes" if gap <= MOST_GAP else "NO"]
            for name, (count, gap) in gaps.items()
        ],
        console=console,
    )
    return 0 if all(gap <= MOST_GAP for _, gap in gaps.values()) else 1


def make_windows(bundle: Bundle) -> Batch:
    """Natural windows for an image bundle, the golden inputs with some noise for the others."""
    preprocess = bundle.preprocess
    if isinstance(preprocess, ImagePreprocess):
        pictures = (photograph(768, 512, seed=seed) for seed in range(8))
        return np.concatenate([preprocess(pixels).batch for pixels in pictures])
    golden, _ = bundle.golden()
    noise = np.random.default_rng(1).normal(0, 0.05 * golden.std(), golden.shape)
    if golden.dtype == np.uint8:
        return np.asarray((golden + noise).clip(0, 255), np.uint8)
    return np.asarray(golden + noise, np.float32)


def measure_peak(bundle: Bundle, windows: Batch, options: argparse.Namespace) -> dict[int, float]:
    """Windows a second by size of the batch, with the data on the device."""
    import torch
    from safetensors.torch import load

    from deepfake import networks

    network = networks.create(bundle.network, **bundle.network_options)
    network.load_state_dict(load(bundle.file_bytes("model.safetensors")))
    layout: Any = torch.channels_last if windows.ndim == 4 else torch.contiguous_format
    narrow = torch.float16 if options.device == "cuda" else torch.bfloat16
    network = network.eval().to(options.device).to(memory_format=layout)

    def step(size: int) -> Callable[[], None]:
        chosen = np.resize(windows, (size, *windows.shape[1:]))
        batch = torch.from_numpy(scale_batch(chosen, bundle.preprocess))
        batch = batch.to(options.device, narrow).contiguous(memory_format=layout)

        def run() -> None:
            with torch.inference_mode(), torch.autocast(options.device, narrow):
                for _ in range(options.rounds):
                    network(batch)
            wait_for(options.device)

        return run

    steps = {size: step(size) for size in options.batches}
    times = time_steps(steps, repeats=options.repeats)
    return {size: options.rounds * size / taken.seconds for size, taken in times.items()}


def measure_engine(
    bundle: Bundle,
    windows: Batch,
    settings: Settings,
    options: argparse.Namespace,
    *,
    size: int,
) -> dict[str, float]:
    """Windows a second of the backend and of the engine, from the memory of the host."""
    batches = [pin(np.resize(windows, (size, *windows.shape[1:])), settings) for _ in range(4)]
    settings = replace(settings, max_batch=size, max_queued=4 * size)
    backend, engine = open_backend(bundle, settings=settings), Engine(settings)

    def run_backend() -> None:
        for index in range(options.rounds):
            backend.run(batches[index % len(batches)])

    def run_engine(request: int) -> None:
        waiting: deque[Future[Scored]] = deque()
        for index in range(options.rounds):
            batch = batches[index % len(batches)]
            for start in range(0, size, request):
                waiting.append(engine.submit(bundle, batch[start : start + request]))
                while len(waiting) > IN_FLIGHT * size // request:
                    waiting.popleft().result()
        for future in waiting:
            future.result()

    steps = {
        "Backend.run": run_backend,
        "Engine, whole batches": lambda: run_engine(size),
        f"Engine, {REQUEST_WINDOWS} windows a request": lambda: run_engine(REQUEST_WINDOWS),
    }
    try:
        times = time_steps(steps, repeats=options.repeats)
    finally:
        engine.close()
        backend.close()
    return {name: options.rounds * size / taken.seconds for name, taken in times.items()}


def measure_gaps(
    bundle: Bundle, windows: Batch, settings: Settings
) -> dict[str, tuple[int, float]]:
    """For each kind of input the number of windows and the largest gap of a score."""
    golden, _ = bundle.golden()
    device = open_backend(bundle, settings=settings)
    cpu = open_backend(bundle, settings=Settings(device="cpu"))
    gaps = {}
    for name, batch in {"golden": golden, "natural": windows}.items():
        gap = bundle.calibration.largest_gap(device.run(batch), cpu.run(batch))
        gaps[name] = len(batch), gap
    device.close()
    cpu.close()
    return gaps


def pin(batch: Batch, settings: Settings) -> Batch:
    """The batch in page-locked memory, from which a device copies while it computes."""
    import torch

    tensor = torch.from_numpy(batch)
    pinned: Batch = tensor.pin_memory().numpy() if settings.device == "cuda" else batch
    return pinned


def wait_for(device: str) -> None:
    import torch

    if device == "cuda":
        torch.cuda.synchronize()


def name_device(device: str) -> str:
    import torch

    return torch.cuda.get_device_name() if device == "cuda" else "the CPU, which proves nothing"


if __name__ == "__main__":
    sys.exit(main())
