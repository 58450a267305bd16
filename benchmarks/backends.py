"""How fast each installed backend runs each shipped bundle: the figures behind ``auto``.

    python -m benchmarks.backends
    python -m benchmarks.backends --slots image --batch 12

One run, all backends in turns, medians. Pixels enter as bytes, so scaling them is part of the time.
``openvino int8`` is the graph that ``--precision auto`` chooses, where a bundle has one; what it
does to the accuracy is in the card of the bundle.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np

from deepfake.bundle import Bundle
from deepfake.engine.backends import INT8_GRAPH, Backend, has_int8, installed_backends, open_backend
from deepfake.preprocess import Batch
from deepfake.settings import Settings
from deepfake.trust.registry import read_bundles

from .timing import make_console, make_parser, print_machine, print_results, time_steps


def main(arguments: list[str] | None = None) -> int:
    parser = make_parser("backends", __doc__)
    parser.add_argument("--slots", nargs="+", metavar="SLOT", help="(every slot)")
    parser.add_argument("--batch", type=int, default=12, help="windows in one run (12)")
    parser.add_argument("--runs", type=int, default=5, help="runs in one measurement (5)")
    parser.add_argument("--threads", type=int, default=0, help="0 for all cores")
    options = parser.parse_args(arguments)
    console = make_console()
    print_machine(*installed_backends(), repeats=options.repeats, console=console)
    if options.threads and "torch" in installed_backends():
        import torch

        torch.set_num_threads(options.threads)
    rows = []
    for slot, bundle in read_bundles(Settings().models_folder).items():
        if not options.slots or slot in options.slots:
            rows += compare(bundle, options.batch, options.runs, options.threads, options.repeats)
    head = ["bundle", "backend", "ms a window", "÷ openvino", "largest gap of a logit"]
    print_results(f"batches of {options.batch}", head, rows, console=console)
    return 0


def compare(bundle: Bundle, size: int, runs: int, threads: int, repeats: int) -> list[list[str]]:
    """A row for each backend, the fastest first; the gap is to OpenVINO in fp32."""
    golden, _ = bundle.golden()
    batch = np.resize(golden, (size, *golden.shape[1:]))
    opened = {
        name: open_backend(bundle, settings=Settings(backend=name, threads=threads, device="cpu"))
        for name in installed_backends()
    }
    if INT8_GRAPH in bundle.files and has_int8() and "openvino" in opened:
        settings = Settings(backend="openvino", threads=threads, device="cpu", precision="auto")
        opened["openvino int8"] = open_backend(bundle, settings=settings)
    logits = {name: backend.run(batch) for name, backend in opened.items()}
    times = time_steps(
        {name: _repeat(backend, batch, runs) for name, backend in opened.items()}, repeats=repeats
    )
    for backend in opened.values():
        backend.close()
    base = times["openvino" if "openvino" in times else min(times)]
    first = logits["openvino" if "openvino" in times else min(times)]
    return [
        [
            bundle.name,
            name,
            f"{1000 * taken.seconds / runs / size:.2f}",
            f"{taken.seconds / base.seconds:.2f}",
            f"{float(np.abs(logits[name] - first).max()):.1e}",
        ]
        for name, taken in sorted(times.items(), key=lambda item: item[1].seconds)
    ]


def _repeat(backend: Backend, batch: Batch, runs: int) -> Callable[[], None]:
    def step() -> None:
        for _ in range(runs):
            backend.run(batch)

    return step


if __name__ == "__main__":
    sys.exit(main())
