"""What a pass over a video may cost, and how much of it that reaches; in the decoder process.

Cost is counted in pixels × frames that are decoded, see :attr:`deepfake.settings.Limits`. It is
planned from the packets, so that the samples lie evenly over what can be reached, and counted again
while frames come out, because a file may lie about both.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import NamedTuple

from .streams import Span

KEYED_CODECS = frozenset(
    ["av1", "h264", "hevc", "mjpeg", "mpeg1video", "mpeg2video", "mpeg4", "prores", "vp8", "vp9"]
)
"""Codecs that are decoded from a later key frame as from the start; a GIF, for one, is not."""
OTHER_CODECS_COST = 8
"""How many times as much a pixel of any other codec counts: such videos are short in earnest, and
their decoders slower, of a GIF or a PNG up to eight times."""
LARGEST_USUAL_PIXELS, LARGER_COST = 4096 * 2304, 4
"""Frames larger than 4K are rare in earnest and outgrow every cache: a pixel counts as so many."""
LEAST_PIXELS = 256 * 256
"""What a smaller frame counts as, for what it costs beside its pixels."""


class Survey(NamedTuple):
    """What the packets of the picture span, the seconds that the headers claim, and the size and
    codec that they name.
    """

    span: Span
    claimed: float | None
    pixels: int
    codec: str

    @property
    def frame_cost(self) -> int:
        return frame_cost(self.codec, self.pixels)

    @property
    def frames_per_second(self) -> float:
        return self.span.packets / max(self.span.seconds, 1e-6)

    def cost(self, starts: Sequence[float], seconds: float) -> float:
        """Of decoding stretches of ``seconds`` that begin at ``starts``, each from the key frame
        before it.
        """
        keys = self.span.keys if self.codec in KEYED_CODECS else ()
        decoded, reached = 0.0, 0.0
        for start in starts:
            before = bisect_right(keys, self.span.first + start)
            begin = max(reached, keys[before - 1] - self.span.first if before else 0.0)
            decoded += max(0.0, start + seconds - begin)
            reached = max(reached, start + seconds)
        return decoded * self.frames_per_second * self.frame_cost

    def reach(self, decode_pixels: int) -> float:
        """The seconds from the start that can be decoded for so many pixels, one after another."""
        return decode_pixels / self.frame_cost / max(self.frames_per_second, 1e-6)


def frame_cost(codec: str, pixels: int) -> int:
    """Pixels that one decoded frame counts as."""
    cost = max(pixels, LEAST_PIXELS) * (1 if codec in KEYED_CODECS else OTHER_CODECS_COST)
    return cost * (LARGER_COST if pixels > LARGEST_USUAL_PIXELS else 1)
