"""Media to measure with, made on the spot: pictures, a clip and speech that cost what real ones do.

A camera's JPEG holds about a quarter to half a byte a pixel at quality 85, and decoding takes as
long as there are bytes to read: so the pictures have structure on every scale, hard edges and a
grain that was smoothed as a camera's raw developer does. Every file differs from every other.
"""

from __future__ import annotations

import argparse
import io
import itertools
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av
import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from deepfake import DeepfakeError, Kind, open_media
from deepfake.preprocess import Pixels
from examples.samples import speech, wav

QUALITY = 85
GRAIN, TEXTURE = 8.0, 60.0
"""Standard deviations of the sensor's noise and of the finest texture, in steps of 256, before they
are smoothed."""
RATE = 30
LOOP_SECONDS = 10


class MediaSet(NamedTuple):
    """Files of one kind that are measured together; ``seconds`` is the length of all of them."""

    name: str
    kind: Kind
    paths: tuple[Path, ...]
    seconds: float = 0.0


def add_media_options(parser: argparse.ArgumentParser) -> None:
    """``--media`` and ``--kinds``."""
    parser.add_argument(
        "--media", type=Path, metavar="FOLDER", help="measure with the files of a folder instead"
    )
    kinds = [kind.value for kind in Kind]
    parser.add_argument(
        "--kinds", nargs="+", choices=kinds, default=kinds, help="what to measure (all)"
    )


def read_media(folder: Path) -> list[MediaSet]:
    """The files below a folder that the package can open, a set for each kind."""
    found: dict[Kind, list[tuple[Path, float]]] = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        try:
            with open_media(path) as media:
                found.setdefault(media.info.kind, []).append((path, media.info.seconds or 0.0))
        except DeepfakeError:
            continue
    return [
        MediaSet(
            f"{len(files)} own {kind.value} files",
            kind,
            tuple(path for path, _ in files),
            sum(seconds for _, seconds in files),
        )
        for kind, files in found.items()
    ]


def make_pictures(folder: Path, *, megapixels: float, files: int) -> MediaSet:
    """JPEG files 3:2, 4:2:0, of about ``megapixels``: a few scenes, more of them the smaller they
    are, each in many files that a comment makes different in bytes and size.
    """
    height = 16 * max(1, round((megapixels * 1e6 / 1.5) ** 0.5 / 16))
    width = 16 * max(1, round(1.5 * height / 16))
    scenes = min(files, max(2, min(64, round(8 / megapixels))))
    made = [jpeg_bytes(photograph(width, height, seed=seed)) for seed in range(scenes)]
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for index in range(files):
        path = folder / f"{index:06}.jpg"
        text = f"picture {index:06}" + "." * (index // scenes)
        path.write_bytes(with_comment(made[index % scenes], text))
        paths.append(path)
    share = sum(map(len, made)) / len(made) / (width * height)
    name = f"{megapixels:g} MP ({width}x{height}, {share:.2f} bytes a pixel)"
    return MediaSet(name, Kind.IMAGE, tuple(paths))


def photograph(width: int, height: int, *, seed: int) -> Pixels:
    """A picture with structure on every scale, hard edges and the grain of a sensor."""
    random = np.random.default_rng(seed)
    colour = random.uniform(70, 170, (4, 6, 1)) + random.uniform(-25, 25, (4, 6, 3))
    picture = _enlarge(colour, width, height)
    for octave in range(2, min(10, int(height / 2).bit_length())):
        cells = 2**octave
        grid = random.standard_normal((cells, cells * 3 // 2), np.float32)
        picture += 60 / 1.6**octave * _enlarge(grid, width, height)[..., None]
    for _ in range(60):
        _add_disc(picture, random)
    strength = _enlarge(random.uniform(0.1, 1, (8, 12)) ** 2, width, height)[..., None]
    grain = random.standard_normal((height, width, 3), np.float32)
    grain = np.asarray(cv2.GaussianBlur(0.2 * grain + 0.8 * grain[..., :1], (0, 0), 0.6))
    picture += (GRAIN + TEXTURE * strength) * grain
    return np.clip(picture, 0, 255).astype(np.uint8)


def _enlarge(grid: NDArray[Any], width: int, height: int) -> NDArray[np.float32]:
    large = cv2.resize(grid.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    return np.asarray(large, np.float32)


def _add_disc(picture: NDArray[np.float32], random: np.random.Generator) -> None:
    """A disc of another shade, in place: two hard edges in every row that it covers."""
    height, width = picture.shape[:2]
    across, down = (int(random.integers(2, 3 + side // 9)) for side in (width, height))
    left, top = int(random.integers(width)), int(random.integers(height))
    part = picture[top : top + 2 * down, left : left + 2 * across]
    mask = np.zeros(part.shape[:2], np.uint8)
    cv2.ellipse(mask, (across, down), (across - 1, down - 1), 0, 0, 360, 1, -1)
    shade = (random.uniform(-40, 80) + random.uniform(-15, 15, 3)).astype(np.float32)
    part[...] = np.where(mask[..., None] > 0, 0.8 * part + shade, part)


def jpeg_bytes(pixels: Pixels) -> bytes:
    """A JPEG file at quality 85, 4:2:0."""
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=QUALITY, subsampling="4:2:0")
    return out.getvalue()


def with_comment(jpeg: bytes, text: str) -> bytes:
    """The same picture in another file: with a comment segment (ITU-T T.81, B.2.4.5)."""
    comment = text.encode("ascii")
    return jpeg[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + jpeg[2:]


def make_clip(path: Path, *, width: int, height: int, seconds: float) -> MediaSet:
    """H.264 at 30 frames a second, with speech: a drifting picture under fresh noise."""
    repeat_clip(
        encode_clip(moving_frames(width, height, seconds=min(seconds, LOOP_SECONDS))),
        path,
        times=max(1, round(seconds / LOOP_SECONDS)),
        sound=True,
    )
    with open_media(path) as media:
        length = media.info.seconds or seconds
    rate = 8 * path.stat().st_size / length / 1e6
    return MediaSet(f"{length:.0f} s of {height}p, {rate:.1f} Mbit/s", Kind.VIDEO, (path,), length)


def make_speech(path: Path, *, seconds: float) -> MediaSet:
    """A WAV file of synthesised syllables that voice activity detection takes for speech."""
    path.write_bytes(wav(speech(seconds=seconds)))
    return MediaSet(f"{seconds:g} s of speech, 16 kHz WAV", Kind.AUDIO, (path,), seconds)


def moving_frames(width: int, height: int, *, seconds: float = LOOP_SECONDS) -> Iterator[Pixels]:
    """A picture that drifts by two pixels a frame and back, with fresh noise in every frame."""
    random = np.random.default_rng(1)
    wide = cv2.GaussianBlur(photograph(width + 320, height + 160, seed=1), (0, 0), 0.7)
    grain = random.integers(-8, 9, (height, width + 64, 1)).astype(np.int16)
    for index in range(round(RATE * seconds)):
        across = 2 * min(index % 320, 320 - index % 320)
        part = wide[across // 2 : across // 2 + height, across : across + width]
        start = int(random.integers(64))
        yield np.clip(part + grain[:, start : start + width], 0, 255).astype(np.uint8)


def clip_frames(path: Path) -> Iterator[Pixels]:
    """The first frames of a clip, and those again where it is shorter than the loop."""
    with av.open(str(path)) as container:
        decoded = itertools.islice(container.decode(video=0), RATE * LOOP_SECONDS)
        frames = [frame.to_ndarray(format="rgb24") for frame in decoded]
    yield from itertools.islice(itertools.cycle(frames), RATE * LOOP_SECONDS)


def encode_clip(frames: Iterable[Pixels], *, size: tuple[int, int] | None = None) -> bytes:
    """An MP4 file of RGB frames, scaled to ``size`` (width, height) where that is given."""
    target = io.BytesIO()
    iterator = iter(frames)
    first = next(iterator)
    width, height = size or (first.shape[1], first.shape[0])
    with av.open(target, "w", format="mp4") as sink:
        stream = sink.add_stream("libx264", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"crf": "23", "preset": "veryfast"}
        for pixels in itertools.chain([first], iterator):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            sink.mux(stream.encode(frame.reformat(width, height)))
        sink.mux(stream.encode(None))
    return target.getvalue()


def repeat_clip(loop: bytes, path: Path, *, times: int, sound: bool = False) -> None:
    """The packets of ``loop`` one after the other, with their times moved on, and speech."""
    with av.open(str(path), "w") as sink:
        stream: Any = None
        voice: Any = None
        end = 0.0
        for _ in range(times):
            with av.open(io.BytesIO(loop), "r") as source:
                coded = source.streams.video[0]
                if stream is None:
                    stream = sink.add_stream_from_template(coded)
                    voice = sink.add_stream("aac", rate=16_000) if sound else None
                shift = round(end / (coded.time_base or Fraction(1, 1000)))
                for packet in source.demux(coded):
                    if packet.dts is None or packet.pts is None:
                        continue
                    packet.pts += shift
                    packet.dts += shift
                    packet.stream = stream
                    sink.mux(packet)
                end += coded.frames / RATE
        if voice is not None:
            frame = av.AudioFrame.from_ndarray(speech(seconds=end)[None], "fltp", "mono")
            frame.sample_rate, frame.pts = 16_000, 0
            sink.mux(voice.encode(frame))
            sink.mux(voice.encode(None))
