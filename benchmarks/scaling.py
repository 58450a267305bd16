"""Whether a scan of many files needs more memory than one of few, and how its speed holds.

    python -m benchmarks.scaling
    python -m benchmarks.scaling --files 100 1000 --workers 1

Small pictures, no two of the same bytes, are scanned by ``deepfake scan`` in a process of its own,
whose memory is sampled with that of its workers and decoders (proportional set size, so that shared
pages count once). ``÷ before`` compares the peak with that of the row above: a scan whose memory is
flat stays near 1. Rates include the start, which few files cannot hide.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from statistics import median

from .media import make_pictures
from .processes import Run, run_watched
from .timing import count_cores, make_console, make_parser, print_machine, print_results, take_turns

SAMPLE_SECONDS = 0.5


def main(arguments: list[str] | None = None) -> int:
    parser = make_parser("scaling", __doc__, repeats=1)
    parser.add_argument(
        "--files", type=int, nargs="+", default=[100, 1000, 10_000], help="(100 1000 10000)"
    )
    parser.add_argument("--megapixels", type=float, default=0.1, help="of each picture (0.1)")
    parser.add_argument("--workers", type=int, default=0, help="0 for one a core")
    options = parser.parse_args(arguments)
    console = make_console()
    print_machine("openvino", "onnxruntime", repeats=options.repeats, console=console)
    workers = options.workers or count_cores()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for files in options.files:
            make_pictures(folder / str(files), megapixels=options.megapixels, files=files)
        steps = {
            files: lambda files=files: scan_watched(folder, files, workers=workers)
            for files in options.files
        }
        runs = take_turns(steps, repeats=options.repeats, warm=False)
    rows = tabulate_runs(runs)
    head = ["files", "seconds", "files/s", "peak MB", "÷ before", "of the first process, MB"]
    title = f"scan of pictures of {options.megapixels:g} MP with {workers} workers"
    print_results(title, head, rows, console=console)
    return 0


def scan_watched(folder: Path, files: int, *, workers: int) -> Run:
    """Scan ``folder/FILES`` into a fresh results file; every file must be in it."""
    results = folder / f"{files}.jsonl"
    command = [sys.executable, "-m", "deepfake", "scan", str(folder / str(files))]
    command += ["--output", str(results), "--workers", str(workers)]
    run = run_watched(command, every_seconds=SAMPLE_SECONDS)
    lines = results.read_bytes().count(b"\n")
    results.unlink()
    if lines != files:
        raise RuntimeError(f"the scan of {files} files wrote {lines} results")
    return run


def tabulate_runs(runs: dict[int, list[Run]]) -> list[list[str]]:
    """A row for each number of files; medians."""
    rows: list[list[str]] = []
    before = 0.0
    for files, taken in runs.items():
        seconds = median(run.seconds for run in taken)
        peak = median(run.peak_bytes for run in taken)
        own = median(run.own_peak_bytes for run in taken)
        ratio = f"{peak / before:.2f}" if before else ""
        cells = [f"{seconds:.1f}", f"{files / seconds:.1f}", f"{peak / 1e6:.0f}", ratio]
        rows.append([str(files), *cells, f"{own / 1e6:.0f}"])
        before = peak
    return rows


if __name__ == "__main__":
    sys.exit(main())
