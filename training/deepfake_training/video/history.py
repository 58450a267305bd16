"""What a burst went through before it is judged; one history serves both bursts of a couple."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import av
import cv2
import numpy as np
import numpy.typing as npt

from deepfake.preprocess import ClipPreprocess, Pixels, warp

from ..perturb import blur, colour, jpeg, noise, rescale
from .footage import TAKE_MARGIN, TAKE_SIDE

Stack = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class History:
    """Retouching, a change of size, a round of JPEG or H.264, overlays, and the network's crop,
    the same for all frames (but for the grain of noise).
    """

    look: tuple[float, float, float]
    factor: float
    softness: float
    crf: int
    quality: int
    grain: float
    overlays: tuple[tuple[int, int, int, int, int], ...]
    matrix: npt.NDArray[np.float64]
    side: int
    mirrored: bool
    seed: int

    @classmethod
    def draw(cls, rng: np.random.Generator, *, face: bool, preprocess: ClipPreprocess) -> History:
        """A random history; a third of them compress nothing."""
        coded = rng.random()
        look = (0.0, 1.0, 1.0)
        if rng.random() < 0.5:
            brightness, (contrast, saturation) = rng.normal(0, 12), rng.uniform(0.8, 1.2, 2)
            look = (float(brightness), float(contrast), float(saturation))
        return cls(
            look=look,
            factor=float(np.exp(rng.uniform(np.log(0.55), 0))) if rng.random() < 0.5 else 1.0,
            softness=float(rng.uniform(0.3, 1.2)) if rng.random() < 0.2 else 0.0,
            crf=int(rng.integers(20, 41)) if coded < 0.45 else 0,
            quality=int(rng.integers(35, 96)) if 0.45 <= coded < 0.65 else 0,
            grain=float(np.exp(rng.uniform(0, np.log(5)))) if rng.random() < 0.25 else 0.0,
            overlays=draw_overlays(rng),
            matrix=draw_crop(rng, face=face, side=preprocess.side_pixels),
            side=preprocess.side_pixels,
            mirrored=bool(rng.random() < 0.5),
            seed=int(rng.integers(2**31)),
        )

    def __call__(self, burst: Stack) -> Stack:
        """A burst of takes' frames as a burst (frames, side, side, 3) for the network."""
        brightness, contrast, saturation = self.look
        frames: Sequence[Pixels] = [
            colour(p, brightness=brightness, contrast=contrast, saturation=saturation)
            for p in burst
        ]
        if self.softness:
            frames = [blur(pixels, sigma=self.softness) for pixels in frames]
        if self.factor < 1:
            frames = [rescale(pixels, factor=self.factor) for pixels in frames]
        if self.grain:
            frames = [
                noise(pixels, sigma=self.grain, seed=self.seed + index)
                for index, pixels in enumerate(frames)
            ]
        frames = [cover(pixels, self.overlays) for pixels in frames]
        if self.crf:
            frames = code_burst(frames, crf=self.crf)
        elif self.quality:
            frames = [jpeg(pixels, quality=self.quality) for pixels in frames]
        scale = len(frames[0]) / TAKE_SIDE
        matrix = self.matrix @ np.diag([1 / scale, 1 / scale, 1.0])
        crops = np.stack([warp(pixels, matrix, self.side) for pixels in frames])
        return np.ascontiguousarray(crops[:, :, ::-1] if self.mirrored else crops)


def draw_crop(rng: np.random.Generator, *, face: bool, side: int) -> npt.NDArray[np.float64]:
    """The matrix (2, 3) from a take to the network's square: the middle, or near it."""
    share = 1 / TAKE_MARGIN if face else 1.0
    share *= float(rng.uniform(0.92, 1.08) if face else rng.uniform(0.75, 1.0))
    length = min(share, 1.0) * TAKE_SIDE
    room = TAKE_SIDE - length
    corner = np.full(2, room / 2) + rng.uniform(-0.5, 0.5, 2) * (0.5 if face else 1.0) * room
    scale = side / length
    return np.array([[scale, 0.0, -scale * corner[0]], [0.0, scale, -scale * corner[1]]])


def draw_overlays(rng: np.random.Generator) -> tuple[tuple[int, int, int, int, int], ...]:
    """Captions and marks: left, top, width, height in thousandths of the side, and a grey level."""
    if rng.random() < 0.7:
        return ()
    made = []
    for _ in range(int(rng.integers(1, 4))):
        width, height = int(rng.integers(60, 500)), int(rng.integers(30, 140))
        left, top = int(rng.integers(0, 1000 - width)), int(rng.integers(0, 1000 - height))
        made.append((left, top, width, height, int(rng.integers(256))))
    return tuple(made)


def cover(pixels: Pixels, overlays: Sequence[tuple[int, int, int, int, int]]) -> Pixels:
    """``pixels`` with the overlays drawn on them."""
    if not overlays:
        return pixels
    drawn, side = pixels.copy(), len(pixels) / 1000
    for left, top, width, height, level in overlays:
        corner = (round(left * side), round(top * side))
        end = (round((left + width) * side), round((top + height) * side))
        cv2.rectangle(drawn, corner, end, (level, level, level), thickness=cv2.FILLED)
        low = (corner[0] + 2, end[1] - 3)
        paint = (255 - level,) * 3
        cv2.putText(drawn, "news 24", low, cv2.FONT_HERSHEY_SIMPLEX, 0.4, paint, 1, cv2.LINE_AA)
    return drawn


def code_burst(frames: Sequence[Pixels], *, crf: int) -> list[Pixels]:
    """Frames through one round of H.264 at a constant rate factor, a mirrored row or column added
    and taken off again where a side is odd.
    """
    height, width = frames[0].shape[:2]
    even = [np.pad(f, ((0, height % 2), (0, width % 2), (0, 0)), mode="symmetric") for f in frames]
    target = io.BytesIO()
    with av.open(target, "w", format="mp4") as sink:
        stream = sink.add_stream("libx264", rate=Fraction(8))
        stream.height, stream.width = even[0].shape[:2]
        stream.pix_fmt, stream.thread_count = "yuv420p", 1
        stream.options = {"crf": str(crf), "preset": "veryfast"}
        for pixels in even:
            sink.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        sink.mux(stream.encode(None))
    with av.open(io.BytesIO(target.getvalue()), "r") as source:
        decoded = [frame.to_ndarray(format="rgb24") for frame in source.decode(video=0)]
    return [np.ascontiguousarray(pixels[:height, :width]) for pixels in decoded]
