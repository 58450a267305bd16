"""What a long video costs: seconds for each minute of it, and the memory at its peak.

    python -m benchmarks.video --minutes 10 --size 1920x1080
    python -m benchmarks.video --clip talk.mp4 --minutes 1 --size 1280x720

The video is ten seconds of moving texture and noise, or of a clip of your own (with a face, to have
the cost of those as well), encoded as H.264 and repeated without a new encoding. It is examined by
``deepfake detect`` in a process of its own, whose memory is summed with that of its decoders.
"""

from __future__ import annotations

import argparse
import io
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from rich.console import Console

from deepfake.console import print_table
from deepfake.preprocess import Pixels

RATE = 30
LOOP_SECONDS = 10


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
        frames = _clip(options.clip) if options.clip else _texture(width, height)
        loop = _encode(frames, width, height)
        _repeat(loop, path, times=max(1, round(60 * options.minutes / LOOP_SECONDS)))
        seconds, peak, report = _examine(path, options.flags)
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
        if item["status"] == "ok" and "bursts" in item["details"]:
            rows.append([f"bursts scored by {item['source']}", str(item["details"]["bursts"])])
    print_table([f"{options.size}, H.264", "measured"], rows, Console(highlight=False))
    return 0


def _texture(width: int, height: int) -> Iterator[Pixels]:
    """A blurred random picture that drifts, with fresh noise in every frame."""
    rng = np.random.default_rng(1)
    wide = rng.integers(0, 256, (height // 8 + 40, width // 8 + 40, 3), np.uint8)
    wide = np.asarray(cv2.resize(wide, None, fx=8, fy=8, interpolation=cv2.INTER_CUBIC))
    grain = rng.integers(-6, 7, (height, width + 64, 1)).astype(np.int16)
    for index in range(RATE * LOOP_SECONDS):
        across, down = 2 * (index % 150), index % 150
        part = wide[down : down + height, across : across + width].astype(np.int16)
        start = int(rng.integers(64))
        yield np.clip(part + grain[:, start : start + width], 0, 255).astype(np.uint8)


def _clip(path: Path) -> Iterator[Pixels]:
    """The first frames of a clip, and those again where it is shorter than the loop."""
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray(format="rgb24") for _, frame in _first(container)]
    for index in range(RATE * LOOP_SECONDS):
        yield frames[index % len(frames)]


def _first(container: Any) -> Iterator[tuple[int, Any]]:
    return zip(range(RATE * LOOP_SECONDS), container.decode(video=0), strict=False)


def _encode(frames: Iterator[Pixels], width: int, height: int) -> bytes:
    target = io.BytesIO()
    with av.open(target, "w", format="mp4") as sink:
        stream = sink.add_stream("libx264", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"crf": "23", "preset": "veryfast"}
        for pixels in frames:
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            sink.mux(stream.encode(frame.reformat(width, height)))
        sink.mux(stream.encode(None))
    return target.getvalue()


def _repeat(loop: bytes, path: Path, *, times: int) -> None:
    """The packets of ``loop`` one after the other, with their times moved on."""
    with av.open(str(path), "w") as sink:
        stream: Any = None
        for index in range(times):
            with av.open(io.BytesIO(loop)) as source:
                coded = source.streams.video[0]
                stream = stream or sink.add_stream_from_template(coded)
                shift = round(index * LOOP_SECONDS / (coded.time_base or Fraction(1, 1000)))
                for packet in source.demux(coded):
                    if packet.dts is None or packet.pts is None:
                        continue
                    packet.pts += shift
                    packet.dts += shift
                    packet.stream = stream
                    sink.mux(packet)


def _examine(path: Path, flags: list[str]) -> tuple[float, int, dict[str, Any]]:
    """Wall seconds, peak bytes of the process with its children, and the report."""
    command = [sys.executable, "-m", "deepfake", "detect", str(path), "--json", *flags]
    started, peak = time.perf_counter(), 0
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.DEVNULL)
        while process.poll() is None:
            peak = max(peak, sum(_resident(number) for number in _family(process.pid)))
            time.sleep(0.05)
        seconds = time.perf_counter() - started
        output.seek(0)
        return seconds, peak, json.loads(output.read())


def _family(process: int) -> list[int]:
    """A process and its descendants."""
    family = [process]
    for parent in family:
        try:
            tasks = Path(f"/proc/{parent}/task").iterdir()
            children = [Path(task, "children").read_text() for task in tasks]
        except OSError:
            continue
        family += [int(number) for text in children for number in text.split()]
    return family


def _resident(process: int) -> int:
    """Bytes of memory that belong to the process alone, or its share of what is shared."""
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith("Pss:"))


if __name__ == "__main__":
    sys.exit(main())
