"""What files cost that are made to be costly, with the budgets of ``Limits`` and without.

    python -m benchmarks.hostile
    python -m benchmarks.hostile --share 0.1 --names "GIF, 50,000 frames"

The files are small and quickly made: the same few packets again and again. Without budgets an
examination is ended after ``--most-seconds``, so that the ratio (of processor seconds, which other
programs do not lengthen) is then at least the one shown.
"""

from __future__ import annotations

import io
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image

from deepfake import DeepfakeError, Detector, Limits, Settings
from deepfake.errors import TimeLimit
from deepfake.preprocess import Pixels
from examples.samples import wav

from .timing import Taken, make_console, make_parser, print_machine, print_results, stopwatch

WITHOUT = Limits(decode_pixels=10**18, sampled_frames=10**9)
LARGE = (4000, 4000)
GIF_MANY = "GIF, 50,000 frames"
GIF_LARGE = "GIF, 3,000 frames of 4000×4000"


def make_gif(count: int, *, size: tuple[int, int], part: tuple[int, int] | None = None) -> bytes:
    """An animated GIF of ``count`` frames, ten a second, that cover a ``part`` of its ``size``."""
    frames = [_gif_parts(_waves(part or size, seed=seed)) for seed in range(8)]
    head = bytearray(frames[0][0])
    head[6:10] = b"".join(side.to_bytes(2, "little") for side in size)
    control = b"\x21\xf9\x04\x04\x0a\0\0\0"
    return bytes(head) + b"".join(control + frames[i % 8][1] for i in range(count)) + b";"


def make_video(
    count: int,
    *,
    size: tuple[int, int],
    rate: int = 25,
    codec: str = "libvpx",
    format: str = "webm",
    pixel_format: str = "yuv420p",
) -> bytes:
    """A video of one encoded picture and then the same difference to it again and again."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=format) as container:
        stream = container.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.pix_fmt = *size, pixel_format
        frame = av.VideoFrame.from_ndarray(_waves(size, seed=0), format="rgb24")
        packets = [packet for _ in range(2) for packet in stream.encode(frame)]
        packets += stream.encode(None)
        first, again = (bytes(packet) for packet in packets[:2])
        for index in range(count):
            packet = av.Packet(again if index else first)
            packet.stream, packet.time_base = stream, Fraction(1, rate)
            packet.pts = packet.dts = index
            packet.duration = 1
            packet.is_keyframe = index == 0
            container.mux(packet)
    return buffer.getvalue()


def make_animation(count: int, *, format: str) -> bytes:
    """An animated PNG, WebP or AVIF."""
    first, *rest = [Image.fromarray(_waves((256, 256), seed=seed % 8)) for seed in range(count)]
    buffer = io.BytesIO()
    first.save(buffer, format, save_all=True, append_images=rest, duration=100)
    return buffer.getvalue()


def make_files(share: float) -> dict[str, Callable[[], bytes]]:
    """What is measured, each with a ``share`` of its frames."""

    def count(number: int) -> int:
        return max(2, round(share * number))

    return {
        GIF_MANY: lambda: make_gif(count(50_000), size=(64, 64)),
        GIF_LARGE: lambda: make_gif(count(3_000), size=LARGE, part=(8, 8)),
        "VP8, 3,000 frames of 4000×4000, one key frame": lambda: make_video(
            count(3_000), size=LARGE
        ),
        "PNG in MOV, 3,000 frames of 4000×4000": lambda: make_video(
            count(3_000), size=LARGE, codec="png", format="mov", pixel_format="rgb24"
        ),
        "VP8, 500,000 frames, 1,000 a second": lambda: make_video(
            count(500_000), size=(64, 64), rate=1000
        ),
        "VP8, four hours at 25 a second": lambda: make_video(count(359_000), size=(64, 64)),
        "APNG, 2,000 frames": lambda: make_animation(count(2_000), format="png"),
        "WebP, 1,000 frames": lambda: make_animation(count(1_000), format="webp"),
        "AVIF, 200 frames": lambda: make_animation(count(200), format="avif"),
        "WAV, four hours": lambda: wav(
            np.zeros(round(share * 4 * 3600 * 8000), np.float32), sample_rate=8000
        ),
    }


def examine(detector: Detector, path: Path, *, most_seconds: float) -> tuple[Taken, str]:
    """What a file takes, and what its report says of what was looked at."""
    said: list[str] = []

    def detect() -> None:
        try:
            report = detector.detect(path, deadline=time.monotonic() + most_seconds)
            own = [text for text in report.warnings if text not in detector.engine.warnings]
            said.append(" ".join(own) or "nothing")
        except TimeLimit:
            said.append("not done")
        except DeepfakeError as error:
            said.append(str(error))

    return stopwatch(detect)(), said[0]


def main(arguments: list[str] | None = None) -> int:
    parser = make_parser("hostile", __doc__, repeats=1)
    parser.add_argument("--share", type=float, default=1.0, help="of the frames of each (1)")
    parser.add_argument("--names", nargs="+", help="only files with these in their names")
    parser.add_argument("--most-seconds", type=float, default=600.0, help="for each file (600)")
    parser.add_argument("--models", type=Path, default=Settings().models_folder)
    parser.add_argument("--alone", action="store_true", help="only with budgets")
    options = parser.parse_args(arguments)
    console = make_console()
    print_machine("av", "pillow", repeats=options.repeats, console=console)
    rows = []
    for name, make in make_files(options.share).items():
        if options.names and not any(wanted in name for wanted in options.names):
            continue
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "file"
            path.write_bytes(make())
            rows.append(_measure(name, path, options.models, options.most_seconds, options.alone))
    head = ["file", "MB", "seconds", "of processors", "without budgets", "of processors"]
    head += ["×", "what the report says"]
    print_results("Files made to be costly", head, rows, console=console)
    return 0


def _measure(
    name: str, path: Path, models: Path, most_seconds: float, alone: bool
) -> Sequence[str]:
    cells, ratio, said = [name, f"{path.stat().st_size / 1e6:.1f}"], "–", ""
    taken: list[Taken] = []
    for limits in [Limits()] if alone else [Limits(), WITHOUT]:
        with Detector(Settings(models_folder=models, limits=limits)) as detector:
            one, text = examine(detector, path, most_seconds=most_seconds)
            taken.append(one)
            said = said or text
    for one in taken:
        cells += [f"{one.seconds:.1f}", f"{one.processor_seconds:.1f}"]
    if alone:
        cells += ["–", "–"]
    else:
        ratio = f"{taken[1].processor_seconds / max(taken[0].processor_seconds, 0.01):.1f}"
    return [*cells, ratio, said]


def _waves(size: tuple[int, int], *, seed: int) -> Pixels:
    width, height = size
    x, y = np.arange(width)[None, :], np.arange(height)[:, None]
    grey = 128 + 60 * (np.sin(x / 17 + seed) + np.cos(y / 23 - seed))
    return np.repeat(np.clip(grey, 0, 255).astype(np.uint8)[..., None], 3, axis=2)


def _gif_parts(pixels: Pixels) -> tuple[bytes, bytes]:
    """The header with the palette, and the one picture, of a GIF by Pillow."""
    buffer = io.BytesIO()
    Image.fromarray(pixels[..., 0]).save(buffer, "gif")
    data = buffer.getvalue()
    start = 13 + 3 * 2 ** ((data[10] & 7) + 1) * (data[10] >> 7)
    return data[:start], data[data.index(b"\x2c", start) : -1]


if __name__ == "__main__":
    sys.exit(main())
