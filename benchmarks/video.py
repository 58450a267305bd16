"""What a long video costs: seconds for each minute of it, and the memory at its peak.

    python -m benchmarks.video --minutes 10 --size 1920x1080
    python -m benchmarks.video --clip talk.mp4 --minutes 1 --size 1280x720

The video is ten seconds of moving texture and noise, or of a clip of your own (with a face, to have
the cost of those as well), encoded as H.264 and repeated without a new encoding. It is examined by
``deepfake detect`` in a process of its own, whose memory is summed with that of its decoders.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from deepfake.show.console import print_table

from .media import LOOP_SECONDS, clip_frames, encode_clip, moving_frames, repeat_clip
from .processes import run_watched


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.video", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--size", default="1920x1080", help="width x height (1920x1080)")
    parser.add_argument("--clip", type=Path, help="a clip to repeat, scaled to the size")
    parser.add_argument("flags", nargs="*", help="more flags for deepfake detect, after --")
    options = parser.parse_args(arguments)
    width, height = (int(number) for number in options.size.split("x"))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "long.mp4"
        frames = clip_frames(options.clip) if options.clip else moving_frames(width, height)
        loop = encode_clip(frames, size=(width, height))
        repeat_clip(loop, path, times=max(1, round(60 * options.minutes / LOOP_SECONDS)))
        command = [sys.executable, "-m", "deepfake", "detect", str(path), "--json"]
        seconds, peak, _, output = run_watched([*command, *options.flags])
    report = json.loads(output)
    length = report["media"]["seconds"]
    rows = [
        ["length of the video, seconds", f"{length:.0f}"],
        ["wall seconds, start of the program included", f"{seconds:.1f}"],
        ["wall seconds for a minute of video", f"{60 * seconds / length:.1f}"],
        ["× real time", f"{length / seconds:.1f}"],
        ["peak memory of all processes, MB", f"{peak / 1e6:.0f}"],
    ]
    rows += [
        [f"seconds in {step}", f"{value:.1f}"] for step, value in report["seconds_by_step"].items()
    ]
    for item in report["evidence"]:
        bursts = sum(len(line["scores"]) for line in item["timelines"] if line["window_seconds"])
        if bursts and item["source"] != "audio":
            rows.append([f"bursts scored by {item['source']}", str(bursts)])
    print_table([f"{options.size}, H.264", "measured"], rows, Console(highlight=False))
    return 0


if __name__ == "__main__":
    sys.exit(main())
