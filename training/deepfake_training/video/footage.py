"""Clips as bursts of small frames, decoded once and kept: takes to train on, bursts to judge.

A *take* is a second of frames, 24 a second, a little wider than what the network sees, so that a
training burst can be drawn from it with other moments, another crop and another place. The bursts
to judge are those that the detector looks at.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import av
import av.error
import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from deepfake.content.faces import MIN_SIDE_PIXELS, Finder, overlaps
from deepfake.content.footage import FACE_EVERY, Crowd, most_bursts, read_bursts
from deepfake.content.inputs import Judge, read_motion
from deepfake.media.opening import open_media
from deepfake.media.video import to_pixels
from deepfake.preprocess import ClipPreprocess, Pixels
from deepfake.reasons import Code
from deepfake.settings import DetectOptions

from ..files import write_arrays
from ..manifests import OfItem, read_manifest
from .views import view_clip

KINDS = ("frame", "face")
TAKE_RATE = 24
TAKE_FRAMES = 27
TAKE_SIDE = 160
TAKE_MARGIN = 1.12
HOP_SECONDS = 1.0
MOST_SECONDS = 12.0
MOST_BURSTS = 12
CUT_LEVELS = 30.0

Stack = npt.NDArray[np.uint8]
Read = tuple[float, Stack | Code]


@dataclass(frozen=True)
class Clip(OfItem):
    """One clip of the material; ``fold`` is the one that it is held out in, ``group`` names the
    sources that are held out together there.
    """

    fold: int
    group: str = ""

    @property
    def path(self) -> str:
        return self.item.facts["path"]


class Bursts(NamedTuple):
    """Bursts of one clip: ``frames`` (bursts, frames, side, side, 3), the ``seconds`` at which they
    begin, and for each its index in ``KINDS``.
    """

    frames: Stack
    seconds: npt.NDArray[np.float64]
    kinds: npt.NDArray[np.int64]


def read_clips(folder: Path, *, folds: Sequence[Sequence[str]]) -> list[Clip]:
    """The clips of ``folder``; raises ``ValueError`` for one whose source is in no fold."""
    places = {source: fold for fold, sources in enumerate(folds) for source in sources}
    clips = []
    for item in read_manifest(folder, source_column="system"):
        if item.source not in places:
            raise ValueError(f"source {item.source!r}: in no fold; add it to the configuration")
        fold = places[item.source]
        clips.append(Clip(item, fold, "+".join(folds[fold])))
    return clips


def read_moments(content: bytes, *, step_seconds: float, most_seconds: float) -> list[Pixels]:
    """Upright RGB frames ``step_seconds`` apart: at each moment the first that is shown then or
    later. A damaged end is left out; one sequential pass.
    """
    frames: list[Pixels] = []
    try:
        for seconds, frame in _timed(content):
            if seconds + 1e-6 >= step_seconds * len(frames):
                pixels = to_pixels(frame)
                while seconds + 1e-6 >= step_seconds * len(frames):
                    frames.append(pixels)
            if len(frames) * step_seconds > most_seconds:
                break
    except av.error.InvalidDataError:
        pass
    return frames


def _timed(content: bytes) -> Iterator[tuple[float, Any]]:
    """Frames with their seconds from the first one."""
    with av.open(io.BytesIO(content), "r") as container:
        stream = container.streams.video[0]
        start, last = None, 0.0
        for frame in container.decode(stream):
            if frame.pts is not None and frame.time_base:
                time = float(frame.pts * frame.time_base)
            else:
                time = last + 1.0 / float(stream.average_rate or 25)
            start, last = time if start is None else start, time
            yield max(0.0, time - start), frame


def follow_face(finder: Finder, burst: Sequence[Pixels]) -> npt.NDArray[np.float64] | None:
    """Landmarks (found, 5, 2) of the largest face of the first frame through a burst, or None where
    it is small or lost in more than a third of the frames.
    """
    box, landmarks = None, []
    for pixels in burst:
        faces = [face for face in finder.find(pixels) if face.width >= MIN_SIDE_PIXELS]
        if not faces:
            continue
        shared = [1.0] * len(faces) if box is None else overlaps(box, [f.box for f in faces])
        nearest = int(np.argmax(shared))
        if shared[nearest] >= 0.3:
            box = faces[nearest].box
            landmarks.append(faces[nearest].points)
    return np.stack(landmarks) if 3 * len(landmarks) >= 2 * len(burst) else None


def has_cut(burst: Stack) -> bool:
    """Whether two neighbouring frames (frames, side, side, 3) differ all over, as at a shot
    boundary.
    """
    small = burst.reshape(len(burst), 8, burst.shape[1] // 8, 8, -1).mean(axis=(2, 4))
    return bool(np.abs(np.diff(small, axis=0)).mean(axis=(1, 2)).max() > CUT_LEVELS)


def read_clip(content: bytes, finder: Finder, judge: Judge) -> Bursts:
    """The bursts of a clip that the detector looks at first: of the whole picture, and of the most
    prominent person wherever that face is seen throughout. Raises ``MediaError`` for a clip that
    cannot be read.
    """
    whole: list[Read] = []
    people: dict[int, list[Read]] = {}
    crowd = Crowd(finder)
    with open_media(content) as media:
        for burst in read_bursts(media, most=most_bursts(media, DetectOptions())):
            second, pictures = burst[0].seconds, [frame.pixels for frame in burst]
            whole.append((second, read_motion(pictures, judge)))
            for number, sightings in crowd.look(burst).items():
                faces = [one.face for one in sightings if one.face.width >= MIN_SIDE_PIXELS]
                if len(faces) == len(burst[::FACE_EVERY]):
                    read = read_motion(pictures, judge, faces=faces)
                    people.setdefault(number, []).append((second, read))
    seen_often = [people[track.number] for track in crowd.tracks if track.number in people]
    person = seen_often[0] if seen_often else []
    seen = [
        (second, kind, read)
        for kind, part in enumerate((whole, person))
        for second, read in part
        if not isinstance(read, Code)
    ]
    seen.sort(key=lambda one: one[:2])
    preprocess = judge.preprocess
    assert isinstance(preprocess, ClipPreprocess)
    return _gather(
        [read[0] for _, _, read in seen],
        [second for second, _, _ in seen],
        [kind for _, kind, _ in seen],
        shape=(preprocess.frames, preprocess.side_pixels),
    )


def cut_takes(frames: Sequence[Pixels], finder: Finder, *, preprocess: ClipPreprocess) -> Bursts:
    """Takes of ``frames`` (24 a second), as :class:`Bursts` of more and larger frames."""
    wide = replace(preprocess, side_pixels=TAKE_SIDE, span=preprocess.span * TAKE_MARGIN)
    sparse = slice(None, None, 3)
    stacks, seconds, kinds = [], [], []
    for start in starts(len(frames), TAKE_FRAMES, TAKE_RATE) if frames else []:
        take = frames[start : start + TAKE_FRAMES]
        take = [*take, *[take[-1]] * (TAKE_FRAMES - len(take))]
        square = np.stack([wide.square(pixels) for pixels in take])
        if has_cut(square[sparse]):
            continue
        landmarks = follow_face(finder, take[sparse])
        faces = [] if landmarks is None else [np.stack(wide.faces(take, landmarks))]
        for kind, stack in enumerate([square, *faces]):
            stacks.append(stack)
            seconds.append(start / TAKE_RATE)
            kinds.append(kind)
    return _gather(stacks, seconds, kinds, shape=(TAKE_FRAMES, TAKE_SIDE))


def starts(count: int, length: int, hop: int) -> list[int]:
    """Where bursts of ``length`` begin among ``count`` frames: every ``hop``, the last one moved
    back to end with the clip, at most twelve spread evenly.
    """
    last = max(0, count - length)
    places = list(range(0, last + 1, hop))
    if last - places[-1] >= hop / 2:
        places.append(last)
    if len(places) <= MOST_BURSTS:
        return places
    return [places[i] for i in np.linspace(0, len(places) - 1, MOST_BURSTS).round().astype(int)]


def _gather(
    stacks: list[Stack], seconds: list[float], kinds: list[int], *, shape: tuple[int, int]
) -> Bursts:
    empty = np.zeros((0, shape[0], shape[1], shape[1], 3), np.uint8)
    return Bursts(np.stack(stacks) if stacks else empty, np.array(seconds), np.array(kinds, int))


class Footage:
    """Bursts and takes of clips, made on first use and kept in ``cache``."""

    def __init__(self, finder: Finder, judge: Judge, *, cache: Path) -> None:
        self.finder, self.judge, self.cache = finder, judge, cache
        cache.mkdir(parents=True, exist_ok=True)

    def bursts(self, clip: Clip, *, view: str) -> Bursts:
        """The bursts to judge in a view."""
        return self._kept(clip, view)

    def takes(self, clip: Clip) -> Bursts:
        """The takes to train on, from the original file."""
        return self._kept(clip, "takes")

    def prepare(self, clips: Sequence[Clip], *, views: Sequence[str]) -> None:
        """Make whatever lacks, clip by clip."""
        for clip in tqdm(clips, desc="footage", unit="clip", mininterval=5):
            for name in ("takes", *views):
                if not self._path(clip, name).exists():
                    self._make(clip, name)

    def _path(self, clip: Clip, name: str) -> Path:
        return self.cache / f"{clip.item.facts['sha256'][:20]}-{name}.npz"

    def _kept(self, clip: Clip, name: str) -> Bursts:
        path = self._path(clip, name)
        if not path.exists():
            self._make(clip, name)
        with np.load(path, allow_pickle=False) as stored:
            return Bursts(stored["frames"], stored["seconds"], stored["kinds"])

    def _make(self, clip: Clip, name: str) -> None:
        content = clip.item.path.read_bytes()
        if name == "takes":
            preprocess = self.judge.preprocess
            assert isinstance(preprocess, ClipPreprocess)
            step = 1 / TAKE_RATE
            frames = read_moments(content, step_seconds=step, most_seconds=MOST_SECONDS)
            bursts = cut_takes(frames, self.finder, preprocess=preprocess)
        else:
            bursts = read_clip(view_clip(content, view=name), self.finder, self.judge)
        write_arrays(self._path(clip, name), **bursts._asdict())
