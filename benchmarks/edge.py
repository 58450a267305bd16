"""Size, latency and memory of exported bundles, each in a process of its own.

    python -m benchmarks.edge exports/

Measures every export that lies in the folder and writes those that need no files of yours first
(onnx, openvino, tflite-ready). Time is the median processor time of one window on one thread, which
other work on the machine disturbs less than the clock; memory is the peak of a process that imports
the runtime and NumPy, loads the export and runs it, above that of one that only imports them.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

BYTES_PER_KILO = 1024
SIDES = {"samples": 32000, "windows": 1, "height": 256, "width": 256}
"""Lengths of the open dimensions of an input: two seconds of sound, one window, a small canvas."""


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.edge", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("folder", type=Path, help="folder of exports")
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.one is not None:
        print(json.dumps(measure(options.one, repeats=options.repeats)))
        return 0
    from rich.console import Console

    from deepfake.show.console import print_table

    write_exports(options.folder)
    rows = []
    idle = {
        name: run_apart(options, f"idle:{name}")["bytes"] for name in ("onnxruntime", "openvino")
    }
    for path in sorted([*options.folder.glob("*.onnx"), *options.folder.glob("*.xml")]):
        found = run_apart(options, str(path))
        files = [path] if path.suffix == ".onnx" else [path, path.with_suffix(".bin")]
        size = sum(file.stat().st_size for file in files)
        above = found["bytes"] - idle["onnxruntime" if path.suffix == ".onnx" else "openvino"]
        rows.append(
            [
                path.name,
                f"{size / 1e6:.2f}",
                f"{1000 * found['seconds']:.1f}",
                f"{above / 1e6:.0f}",
            ]
        )
    console = Console(markup=False, highlight=False)
    console.print(
        f"1 thread, median of {options.repeats}; runtime alone: "
        + ", ".join(f"{name} {size / 1e6:.0f} MB" for name, size in idle.items())
    )
    print_table(["export", "MB on disk", "CPU ms a window", "MB of memory"], rows, console)
    return 0


def write_exports(folder: Path) -> None:
    """Write the exports of every shipped bundle that are not in ``folder`` yet."""
    from rich.console import Console
    from rich.progress import track

    from deepfake.bundle import QUICK_TIERS
    from deepfake.engine.engine import Engine
    from deepfake.export.bundles import ExportOptions, export_bundle
    from deepfake.settings import Settings

    ends = {"onnx": ".onnx", "openvino": ".xml", "tflite-ready": "-tflite.onnx"}
    engine = Engine(Settings(device="cpu"))
    wanted = [
        (bundle, format)
        for bundle in engine.active.values()
        for format, end in ends.items()
        if bundle.slot not in QUICK_TIERS and not (folder / f"{bundle.name}{end}").exists()
    ]
    for bundle, format in track(wanted, "exporting", console=Console(stderr=True)):
        export_bundle(bundle, engine=engine, folder=folder, options=ExportOptions(format=format))
    engine.close()


def run_apart(options: argparse.Namespace, one: str) -> dict[str, float]:
    """What :func:`measure` finds in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.edge", str(options.folder)]
    command += ["--one", one, "--repeats", str(options.repeats)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def measure(one: str, *, repeats: int) -> dict[str, float]:
    """Median processor seconds of a run and peak bytes of this process; of ``idle:RUNTIME`` the
    bytes alone.
    """
    import numpy as np

    if one.startswith("idle:"):
        __import__(one.removeprefix("idle:"))
        return {"seconds": 0.0, "bytes": peak_bytes()}
    open_one = _open_onnx if one.endswith(".onnx") else _open_openvino
    run, shape, kind = open_one(one)
    random = np.random.default_rng(0)
    if kind == "uint8":
        array: Any = random.integers(0, 256, shape, dtype=np.uint8)
    else:
        array = random.normal(0, 0.05, shape).astype(np.float32)
    seconds = []
    for _ in range(repeats + 3):
        started = time.process_time()
        run(array)
        seconds.append(time.process_time() - started)
    return {"seconds": median(seconds[3:]), "bytes": peak_bytes()}


def peak_bytes() -> int:
    """Largest resident size that this process had."""
    return BYTES_PER_KILO * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _open_onnx(path: str) -> tuple[Callable[[Any], object], list[int], str]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    port = session.get_inputs()[0]
    shape = [SIDES.get(length, length) for length in port.shape]
    kind = "uint8" if "uint8" in port.type else "float32"
    return lambda array: session.run(None, {port.name: array}), shape, kind


def _open_openvino(path: str) -> tuple[Callable[[Any], object], list[int], str]:
    import openvino

    config = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    compiled = openvino.Core().compile_model(path, "CPU", config)
    port = compiled.inputs[0]
    kind = "uint8" if port.element_type == openvino.Type.u8 else "float32"
    return lambda array: compiled([array]), _openvino_shape(port, kind), kind


def _openvino_shape(port: Any, kind: str) -> list[int]:
    """Lengths of an input whose open dimensions have lost their names."""
    lengths = [None if axis.is_dynamic else axis.get_length() for axis in port.partial_shape]
    if kind == "float32":
        return [SIDES["samples"]]
    open_side = 1 if lengths[1] is not None else SIDES["height"]
    return [open_side if length is None else length for length in lengths]


if __name__ == "__main__":
    sys.exit(main())
