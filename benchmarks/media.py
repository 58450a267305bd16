"""Media to measure with, made on the spot: pictures, a clip and speech that cost what real ones do.

A camera's JPEG holds about a quarter to half a byte a pixel at quality 85, and decoding takes as
long as there are bytes to read: so the pictures have structure on every scale, hard edges and a
grain that was smoothed as a camera's raw developer does. Every file differs from every other.
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from deepfake import DeepfakeError, Kind, open_media
from deepfake.preprocess import Pixels

QUALITY = 85
GRAIN, TEXTURE = 8.0, 60.0
"""Standard deviations of the sensor's noise and of the finest texture, in steps of 256, before they
are smoothed."""


class MediaSet(NamedTuple):
    """Files of one kind that are measured together; ``seconds`` is the length of all of them."""

    name: str
    kind: Kind
    paths: tuple[Path, ...]
    seconds: float = 0.0


def add_media_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--media", type=Path, metavar="FOLDER", help="measure with the files of a folder instead"
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


def make_pictures(folder: Path, *, megapixels: float, files: int, scenes: int = 4) -> MediaSet:
    """JPEG files 3:2, 4:2:0, of about ``megapixels``; a few scenes, made different by a comment."""
    height = 16 * max(1, round((megapixels * 1e6 / 1.5) ** 0.5 / 16))
    width = 16 * max(1, round(1.5 * height / 16))
    made = [
        jpeg_bytes(photograph(width, height, seed=seed)) for seed in range(min(scenes, files))
    ]
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for index in range(files):
        path = folder / f"{index:06}.jpg"
        path.write_bytes(with_comment(made[index % len(made)], f"picture {index}"))
        paths.append(path)
    share = sum(map(len, made)) / len(made) / (width * height)
    name = f"{megapixels:g} MP ({width}x{height}, {share:.2f} bytes a pixel)"
    return MediaSet(name, Kind.IMAGE, tuple(paths))


def photograph(width: int, height: int, *, seed: int) -> Pixels:
    """A picture with structure on every scale, hard edges and the grain of a sensor."""
    random = np.random.default_rng(seed)
    light = np.zeros((height, width), np.float32)
    for octave in range(2, 10):
        cells = 2**octave
        if cells > height // 2:
            break
        grid = random.standard_normal((cells, cells * 3 // 2), np.float32)
        light += 60 / 1.6**octave * cv2.resize(
            grid, (width, height), interpolation=cv2.INTER_CUBIC
        )
    colour = random.uniform(70, 170, (4, 6, 1)) + random.uniform(-25, 25, (4, 6, 3))
    picture = cv2.resize(
        colour.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC
    )
    picture += light[..., None]
    for _ in range(60):
        _add_disc(picture, random)
    patches = random.uniform(0.1, 1, (8, 12, 1)).astype(np.float32) ** 2
    strength = cv2.resize(patches, (width, height), interpolation=cv2.INTER_CUBIC)[..., None]
    grain = random.standard_normal((height, width, 3), np.float32)
    grain = cv2.GaussianBlur(0.2 * grain + 0.8 * grain[..., :1], (0, 0), 0.6)
    picture += (GRAIN + TEXTURE * strength) * grain
    return np.clip(picture, 0, 255).astype(np.uint8)


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
