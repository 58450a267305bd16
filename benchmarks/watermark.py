"""Watermark reading on real pictures: ``python -m benchmarks.watermark --data FOLDER``.

FOLDER holds ``image/real/<source>/…`` and, if there is one, ``image/fake``. Prints, per payload and
per reading, how many unmarked real pictures are flagged and how many marked ones are found after
each kind of storage. Marks are embedded in float, as SDXL and FLUX pipelines do, and in bytes, as
Stable Diffusion 1 does.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from deepfake.analyzers.watermark import LEAST_PIXELS, PAYLOADS, READINGS, find_watermarks
from examples.samples import embed_watermark

Pixels = NDArray[np.uint8]


def read(path: Path) -> Pixels:
    with Image.open(path) as image:
        return np.array(image.convert("RGB"))


def pictures(folder: Path) -> Iterator[tuple[str, Pixels]]:
    """Pictures of at least 65,536 pixels below ``folder``, with their source."""
    for path in sorted(folder.rglob("*.*")):
        if path.suffix.lower() not in (".jpg", ".jpeg", ".png", ".webp"):
            continue
        pixels = read(path)
        if pixels.shape[0] * pixels.shape[1] >= LEAST_PIXELS:
            yield path.parent.name, pixels


def as_jpeg(pixels: Pixels, *, quality: int, subsampling: int) -> Pixels:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=quality, subsampling=subsampling)
    with Image.open(out) as image:
        return np.array(image)


def resized(pixels: Pixels) -> Pixels:
    height, width = (side * 9 // 10 for side in pixels.shape[:2])
    image = Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS)
    return np.array(image)


STORAGE: dict[str, Callable[[Pixels], Pixels]] = {
    "PNG": lambda pixels: pixels,
    "JPEG 95 4:4:4": lambda pixels: as_jpeg(pixels, quality=95, subsampling=0),
    "JPEG 75 4:4:4": lambda pixels: as_jpeg(pixels, quality=75, subsampling=0),
    "JPEG 75 4:2:0": lambda pixels: as_jpeg(pixels, quality=75, subsampling=2),
    "resize 0.9": resized,
}


def count_false_positives(folder: Path) -> None:
    """Every match on an unmarked real picture is a false positive."""
    seen, flagged = 0, 0
    for source, pixels in pictures(folder):
        seen += 1
        for match in find_watermarks(pixels):
            flagged += 1
            print(f"  flagged: {source} {match}")
    print(f"real pictures flagged: {flagged} of {seen} ({len(PAYLOADS)} payloads each)")


def count_detections(folder: Path, *, most: int) -> None:
    every = list(pictures(folder))
    chosen = [pixels for _, pixels in every[:: max(1, len(every) // most)]][:most]
    print(f"\nfound of {len(chosen)} marked real pictures, in % (in brackets the package's rule)")
    print(f"{'payload':20}{'embedded in':13}" + "".join(f"{name:>16}" for name in STORAGE))
    for payload in PAYLOADS:
        for in_float in (True, False):
            found = np.zeros((len(STORAGE), 2))
            for pixels in chosen:
                marked = embed_watermark(pixels, payload.bits, in_float=in_float)
                for row, store in enumerate(STORAGE.values()):
                    stored = store(marked)
                    for column, readings in enumerate((READINGS, READINGS[:1])):
                        matches = find_watermarks(stored, readings=readings)
                        named = any(match.generator == payload.generator for match in matches)
                        found[row, column] += named
            cells = [f"{a:.0f} ({b:.0f})" for a, b in found * 100 / max(1, len(chosen))]
            kind = "float" if in_float else "bytes"
            print(f"{payload.generator:20}{kind:13}" + "".join(f"{cell:>16}" for cell in cells))


def main() -> None:
    parser = argparse.ArgumentParser(description="Watermark reading on real pictures.")
    parser.add_argument("--data", type=Path, required=True, help="folder with image/real")
    parser.add_argument("--most", type=int, default=100, help="pictures to embed marks in")
    options = parser.parse_args()
    count_false_positives(options.data / "image" / "real")
    count_detections(options.data / "image" / "real", most=options.most)


if __name__ == "__main__":
    main()
