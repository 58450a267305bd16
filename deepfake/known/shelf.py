"""Many fingerprints, of which those are found that are near to another."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..types import Kind
from .fingerprints import Fingerprint
from .pictures import Hashes, distances
from .sounds import Words, error_share, find_shifts, rank_shifts

WHOLE_BITS, PART_BITS = 31, 40
"""Of 256, that may differ between two wholes, and between a whole and a part."""
SOUND_SHARE = 0.2
"""Of the bits of what two sounds have in common."""
FRAME_SHARE, LEAST_FRAMES = 0.8, 2
"""Of the frames of a clip, that lie near to some of the other's; so many at least."""


class Near(NamedTuple):
    """A fingerprint that is near: its place on the shelf, and the share of bits that differ."""

    place: int
    difference: float


class Shelf:
    """Fingerprints in their order."""

    def __init__(self, fingerprints: Sequence[Fingerprint]) -> None:
        self._all = fingerprints

    def near(self, fingerprint: Fingerprint, *, parts: bool = True) -> list[Near]:
        """Those of the same kind that are near, the nearest first; without ``parts`` crops of
        pictures are not looked for.
        """
        match fingerprint.kind:
            case Kind.IMAGE:
                found = self._near_pictures(fingerprint, parts=parts)
            case Kind.AUDIO:
                found = self._near_sounds(fingerprint)
            case Kind.VIDEO:
                found = self._near_clips(fingerprint)
        return sorted(found, key=lambda near: (near.difference, near.place))

    def _near_pictures(self, ours: Fingerprint, *, parts: bool) -> list[Near]:
        wholes, whose = self._pictures
        pairs = [(ours.whole_hashes, wholes, whose, WHOLE_BITS)]
        if parts:
            others, of = self._parts
            pairs += [(ours.whole_hashes, others, of, PART_BITS)]
            pairs += [(ours.part_hashes, wholes, whose, PART_BITS)]
        best: dict[int, int] = {}
        for left, right, places, most in pairs:
            if not len(left) or not len(right):
                continue
            bits = distances(left, right).min(axis=0)
            for at in np.flatnonzero(bits <= most):
                place = int(places[at])
                best[place] = min(best.get(place, 256), int(bits[at]))
        return [Near(place, bits / 256) for place, bits in best.items()]

    def _near_sounds(self, ours: Fingerprint) -> list[Near]:
        words, ordered, places, starts = self._sounds
        mine = ours.words
        best: dict[int, float] = {}
        for shift in rank_shifts(mine, ordered, places):
            # a shift over all sounds in a row says in which of them, and where
            for place in self._covered(starts, shift, len(mine)):
                theirs = words[starts[place] : starts[place] + self._lengths[place]]
                share, _ = error_share(mine, theirs, shift - int(starts[place]))
                best[place] = min(best.get(place, 1.0), share)
        return [
            Near(place, share)
            for place, share in best.items()
            if share <= SOUND_SHARE and self._all[place].kind is Kind.AUDIO
        ]

    @staticmethod
    def _covered(starts: npt.NDArray[np.int64], shift: int, size: int) -> range:
        first = max(0, int(np.searchsorted(starts, shift, "right")) - 1)
        return range(first, int(np.searchsorted(starts, shift + size, "left")))

    def _near_clips(self, ours: Fingerprint) -> list[Near]:
        frames, whose = self._frames
        mine, sound = ours.whole_hashes, ours.words
        found: list[Near] = []
        if len(mine) < LEAST_FRAMES or not len(frames):
            return found
        bits = distances(mine, frames)
        for place in np.unique(whose[(bits <= WHOLE_BITS).any(axis=0)]):
            theirs = bits[:, whose == place]
            shares = [(theirs.min(axis=axis) <= WHOLE_BITS).mean() for axis in (0, 1)]
            if theirs.shape[1] < LEAST_FRAMES or max(shares) < FRAME_SHARE:
                continue
            other = self._all[place].words
            if len(sound) and len(other) and not _sound_alike(sound, other):
                continue
            found.append(Near(int(place), float(np.median(theirs.min(axis=1))) / 256))
        return found

    @cached_property
    def _pictures(self) -> tuple[Hashes, npt.NDArray[np.int64]]:
        return self._gather(Kind.IMAGE, [one.whole_hashes for one in self._all])

    @cached_property
    def _parts(self) -> tuple[Hashes, npt.NDArray[np.int64]]:
        return self._gather(Kind.IMAGE, [one.part_hashes for one in self._all])

    @cached_property
    def _frames(self) -> tuple[Hashes, npt.NDArray[np.int64]]:
        return self._gather(Kind.VIDEO, [one.whole_hashes for one in self._all])

    def _gather(self, kind: Kind, hashes: Sequence[Hashes]) -> tuple[Hashes, npt.NDArray[np.int64]]:
        """All hashes of a kind of media in a row, and whose each is."""
        places = [place for place, one in enumerate(self._all) if one.kind is kind]
        rows = [hashes[place] for place in places] or [np.empty((0, 32), np.uint8)]
        return np.concatenate(rows), np.repeat(places, [len(hashes[place]) for place in places])

    @cached_property
    def _lengths(self) -> list[int]:
        return [len(one.sound) // 4 if one.kind is Kind.AUDIO else 0 for one in self._all]

    @cached_property
    def _sounds(self) -> tuple[Words, Words, npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """The words of all sounds in a row; the same in their order, with their places; and where
        each sound starts.
        """
        sounds = [one.words if one.kind is Kind.AUDIO else one.words[:0] for one in self._all]
        words = np.concatenate(sounds) if sounds else np.empty(0, np.uint32)
        starts = np.concatenate([[0], np.cumsum(self._lengths)]).astype(np.int64)[:-1]
        order = np.argsort(words, kind="stable")
        return words, words[order], order, starts


def _sound_alike(ours: Words, theirs: Words) -> bool:
    shifts = find_shifts(ours, theirs)
    return any(error_share(ours, theirs, shift)[0] <= SOUND_SHARE for shift in shifts)
