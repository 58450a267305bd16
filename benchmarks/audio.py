"""How fast a minute of speech is examined, step by step, as multiples of real time.

    python -m benchmarks.audio --threads 1

One run, medians; pin the process to one core (``taskset -c 0``) for figures about one core.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from statistics import median

from rich.console import Console

from deepfake import DetectOptions, Detector, Settings
from deepfake.console import print_table
from deepfake.preprocess import AudioPreprocess
from deepfake.speech import find_speech
from examples.samples import speech, wav


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.audio", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--seconds", type=int, default=60, help="length of the sound (60)")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=0, help="0 for all cores")
    options = parser.parse_args(arguments)
    samples = speech(seconds=options.seconds)
    file = wav(samples)
    with Detector(Settings(threads=options.threads, device="cpu")) as detector:
        bundle = detector.engine.bundle("audio")
        preprocess = bundle.preprocess
        assert isinstance(preprocess, AudioPreprocess)
        batch = preprocess(samples).batch
        report = detector.detect(file)
        steps: dict[str, Callable[[], object]] = {
            "voice activity": lambda: find_speech(samples),
            "windows": lambda: preprocess(samples),
            f"network ({bundle.name}, {len(batch)} windows)": lambda: detector.engine.score(
                bundle, batch
            ),
            "detect, all evidence": lambda: detector.detect(file),
            "detect with heat map": lambda: detector.detect(file, DetectOptions(heatmap=True)),
        }
        rows = []
        for name, step in steps.items():
            seconds = time_step(step, repeats=options.repeats)
            rows.append([name, f"{1000 * seconds:.0f}", f"{options.seconds / seconds:.0f}"])
    console = Console(markup=False, highlight=False)
    threads = options.threads or os.cpu_count()
    console.print(
        f"{options.seconds} s of sound, {threads} threads, median of {options.repeats}; "
        f"reasons: {', '.join(reason.code for reason in report.reasons)}"
    )
    print_table(["step", "ms", "× real time"], rows, console)
    return 0


def time_step(step: Callable[[], object], *, repeats: int) -> float:
    """Median wall seconds after one run that does not count."""
    step()
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - started)
    return median(seconds)


if __name__ == "__main__":
    sys.exit(main())
