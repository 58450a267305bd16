"""How fast a minute of speech is examined, step by step, as multiples of real time.

    python -m benchmarks.audio --threads 1

One run, the steps in turns, medians; pin the process to one core (``taskset -c 0``) for figures
about one core.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from deepfake import DetectOptions, Detector, Settings
from deepfake.content.speech import find_speech
from deepfake.preprocess import AudioPreprocess
from examples.samples import speech, wav

from .timing import (
    count_cores,
    make_console,
    make_parser,
    print_machine,
    print_results,
    time_steps,
)


def main(arguments: list[str] | None = None) -> int:
    parser = make_parser("audio", __doc__)
    parser.add_argument("--seconds", type=int, default=60, help="length of the sound (60)")
    parser.add_argument("--threads", type=int, default=0, help="0 for all cores")
    options = parser.parse_args(arguments)
    console = make_console()
    print_machine("openvino", "onnxruntime", repeats=options.repeats, console=console)
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
        times = time_steps(steps, repeats=options.repeats)
    rows = [
        [name, f"{1000 * taken.seconds:.0f}", f"{options.seconds / taken.seconds:.0f}"]
        for name, taken in times.items()
    ]
    title = f"{options.seconds} s of sound, {options.threads or count_cores()} threads; "
    title += f"reasons: {', '.join(reason.code for reason in report.reasons)}"
    print_results(title, ["step", "ms", "× real time"], rows, console=console)
    return 0


if __name__ == "__main__":
    sys.exit(main())
