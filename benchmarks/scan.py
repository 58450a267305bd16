"""How fast a scan is with some workers, and what memory it takes with some files.

    python -m benchmarks.scan --files 400 --workers 1 2
    python -m benchmarks.scan --files 1000 10000 --workers 2 --side 160

The files are JPEG pictures of noise over a slope, each of its own. They are scanned by ``deepfake
scan`` in a process of its own. Its rate is that between the first and the last result, so that the
start is left out; its memory is the proportional set size (PSS), of the scan itself and of all
processes together, at the peak of what is looked at four times a second.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
from rich.console import Console

from deepfake.console import print_table

LOOK_SECONDS = 0.25


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scan", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--files", type=int, nargs="+", default=[400])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--side", type=int, default=768, help="pixels of a picture's side (768)")
    parser.add_argument("flags", nargs="*", help="more flags for deepfake scan, after --")
    options = parser.parse_args(arguments)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for files in options.files:
            pictures = Path(folder) / str(files)
            make_pictures(pictures, files, side=options.side)
            for workers in options.workers:
                output = Path(folder) / f"{files}-{workers}.jsonl"
                rate, own, total = measure(pictures, output, files, workers, options.flags)
                rows.append(
                    [files, workers, f"{rate:.2f}", f"{own / 1e6:.0f}", f"{total / 1e6:.0f}"]
                )
    head = ["files", "workers", "files/s", "peak MB of the scan", "of all processes"]
    print_table(head, [[str(cell) for cell in row] for row in rows], Console())
    return 0


def make_pictures(folder: Path, count: int, *, side: int) -> None:
    """``count`` different JPEG pictures of ``side`` pixels."""
    folder.mkdir()
    slope = np.linspace(40, 180, side, dtype=np.uint8)[:, None, None]
    for number in range(count):
        noise = np.random.default_rng(number).integers(0, 50, (side, side, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"{number:06}.jpg"), noise + slope)


def measure(
    pictures: Path, output: Path, files: int, workers: int, flags: list[str]
) -> tuple[float, int, int]:
    """Files a second, and the peak bytes of the scan itself and of all its processes."""
    command = [sys.executable, "-m", "deepfake", "scan", str(pictures), "--output", str(output)]
    command += ["--workers", str(workers), *flags]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        results, first, before, own, total = Lines(output), 0.0, 0, 0, 0
        last = time.monotonic()
        while process.poll() is None:
            lines = results.look()
            if lines and not first:
                first, before = time.monotonic(), lines
            if lines < files:
                last = time.monotonic()
            sizes = [pss_bytes(pid) for pid in family(process.pid)]
            own, total = max(own, pss_bytes(process.pid)), max(total, sum(sizes))
            time.sleep(LOOK_SECONDS)
        if process.returncode or results.look() != files:
            raise SystemExit(f"the scan failed with status {process.returncode}")
    return (files - before) / (last - first), own, total


class Lines:
    """Counts the lines of a growing file, reading each part once."""

    def __init__(self, path: Path) -> None:
        self._path, self._offset, self.count = path, 0, 0

    def look(self) -> int:
        if self._path.exists():
            with self._path.open("rb") as file:
                file.seek(self._offset)
                new = file.read()
            self._offset += len(new)
            self.count += new.count(b"\n")
        return self.count


def family(root: int) -> list[int]:
    """The process and everything that it started, at any depth."""
    found = [root]
    for pid in found:
        for path in Path(f"/proc/{pid}/task").glob("*/children"):
            with suppress(OSError):
                found += map(int, path.read_text().split())
    return found


def pss_bytes(pid: int) -> int:
    """The proportional set size of a process, 0 when it has ended."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0


if __name__ == "__main__":
    sys.exit(main())
