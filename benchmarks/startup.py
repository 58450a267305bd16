"""How long a new process takes to its first report.

    python -m benchmarks.startup
    python -m benchmarks.startup --imports

Fresh processes in turns, on a warm disk cache: an empty interpreter; the imports that nothing of
this kind can do without (numpy, OpenCV, ONNX Runtime); ``import deepfake``; the first report on a
small picture from Python; and ``deepfake detect``. The ratio is to the imports. ``--imports`` tells
which packages the time of the first report goes to, by ``python -X importtime`` (which slows them).
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from .media import make_pictures
from .timing import make_console, make_parser, print_machine, print_results, time_steps

LIBRARIES = "numpy, cv2, onnxruntime"
REPORT = "import sys, deepfake; deepfake.detect(sys.argv[1])"
MOST_ROWS = 10
_LINE = re.compile(r"import time:\s+(\d+) \|\s+\d+ \|\s*([\w.]+)$", re.MULTILINE)


UNUSUAL = ("PYTHONDONTWRITEBYTECODE", "OPENBLAS_NUM_THREADS")
"""Set on some machines; without compiled modules every start compiles this package anew."""


def main(arguments: list[str] | None = None) -> int:
    parser = make_parser("startup", __doc__)
    parser.add_argument("--file", type=Path, help="report on a file of your own")
    parser.add_argument("--imports", action="store_true", help="show what the imports take as well")
    options = parser.parse_args(arguments)
    console = make_console()
    packages = ("numpy", "opencv-python-headless", "onnxruntime", "openvino")
    print_machine(*packages, repeats=options.repeats, console=console)
    with tempfile.TemporaryDirectory() as folder:
        path = options.file or make_pictures(Path(folder), megapixels=0.3, files=1).paths[0]
        rows = time_starts(path, repeats=options.repeats)
        head = ["process", "ms", "processor ms", "÷ imports"]
        print_results("fresh processes", head, rows, console=console)
        if options.imports:
            print_imports(path, console)
    return 0


def time_starts(path: Path, *, repeats: int) -> list[list[str]]:
    """A row for each kind of process; each must end well."""
    imports = f"import {LIBRARIES}"
    commands = {
        "empty interpreter": ["-c", ""],
        imports: ["-c", imports],
        "import deepfake": ["-c", "import deepfake"],
        "first report": ["-c", REPORT, str(path)],
        "deepfake detect": ["-m", "deepfake", "detect", str(path)],
    }
    steps = {name: lambda command=command: run(command) for name, command in commands.items()}
    times = time_steps(steps, repeats=repeats)
    return [
        [
            name,
            f"{1000 * taken.seconds:.0f}",
            f"{1000 * taken.processor_seconds:.0f}",
            f"{taken.seconds / times[imports].seconds:.2f}",
        ]
        for name, taken in times.items()
    ]


def run(arguments: Sequence[str]) -> str:
    """Run this interpreter anew; returns what it wrote to the standard error."""
    environment = {key: text for key, text in os.environ.items() if key not in UNUSUAL}
    done = subprocess.run(
        [sys.executable, *arguments],
        env=environment,
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    return done.stderr


def print_imports(path: Path, console: Console) -> None:
    """The packages whose modules took longest to import on the way to a first report."""
    taken = sum_imports(run(["-X", "importtime", "-c", REPORT, str(path)]))
    whole = sum(taken.values())
    rows = [
        [package, f"{microseconds / 1000:.0f}", f"{100 * microseconds / whole:.0f} %"]
        for package, microseconds in taken.most_common(MOST_ROWS)
    ]
    rows.append(["all", f"{whole / 1000:.0f}", "100 %"])
    print_results("imports of a first report", ["package", "ms", "share"], rows, console=console)


def sum_imports(text: str) -> Counter[str]:
    """Microseconds of each top-level package, its modules alone, from ``-X importtime``."""
    taken: Counter[str] = Counter()
    for microseconds, module in _LINE.findall(text):
        taken[module.split(".")[0]] += int(microseconds)
    return taken


if __name__ == "__main__":
    sys.exit(main())
