"""What an exported graph is tried with: files as its input, and what the bundle says of them."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..analyzers.face import highest
from ..bundle import Bundle, Logits
from ..content.faces import MOST_FACES, open_finder
from ..content.footage import read_bursts
from ..content.inputs import (
    FRAMES_PER_BURST,
    read_face,
    read_motion,
    read_sound,
    read_still,
)
from ..engine.engine import Engine
from ..engine.scores import Scored
from ..errors import MediaError, SettingsError
from ..media.opening import Media, open_media
from ..preprocess import (
    AudioPreprocess,
    Batch,
    ClipPreprocess,
    FacePreprocess,
    FinderPreprocess,
    ImagePreprocess,
    Pixels,
    Samples,
)
from ..reasons import Code
from ..types import Kind

MOST_SECONDS = 60.0
MOST_BURSTS = 8
EVERY_WINDOW = 1_000_000


class Labelled(NamedTuple):
    """A file to be tried; ``label`` is 1 for synthetic, 0 for genuine, None where nobody knows."""

    path: Path
    label: int | None


@dataclass(frozen=True)
class Sample:
    """One file as the exported graph takes it (``array``) and as the bundle does (``batch``)."""

    name: str
    sha256: str
    array: npt.NDArray[Any]
    batch: Batch
    label: int | None = None


class Expected(NamedTuple):
    """What the engine gives for a sample: logits (windows, …) and the score of the whole file."""

    logits: Logits
    score: float | None


class SampleReader:
    """Reads files the way that the detector does, up to the input of the network.

    ``single``: as windows of one fixed shape. ``unread`` counts, by reason, the files of which
    nothing could be made.
    """

    def __init__(self, bundle: Bundle, engine: Engine, *, single: bool = False) -> None:
        self._bundle, self._engine, self._single = bundle, engine, single
        self.unread: dict[Code, int] = {}

    def read(self, files: Iterable[Labelled]) -> Iterator[Sample]:
        """A sample for each file that can be judged, in turn."""
        for file in files:
            try:
                with open_media(file.path) as media:
                    made = self._make(media)
                    sha256 = media.info.sha256
            except MediaError as error:
                made, sha256 = error.code, ""
            if isinstance(made, Code):
                self.unread[made] = self.unread.get(made, 0) + 1
                continue
            yield Sample(file.path.name, sha256, *made, label=file.label)

    def golden(self) -> Iterator[Sample]:
        """The golden picture or sound as it is, turned round, and with half its contrast."""
        content = self._bundle.file_bytes("golden.npz")
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            source = np.asarray(arrays["input"])
        middle = np.float32(source.mean())
        faint = (middle + (source.astype(np.float32) - middle) / 2).astype(source.dtype)
        for view in (source, np.ascontiguousarray(source[::-1]), faint):
            yield Sample("golden", "", *self._golden(view))

    def _golden(self, source: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], Batch]:
        match self._bundle.preprocess:
            case AudioPreprocess() as sound:
                return self._windows(source.astype(np.float32) / np.float32(32768), sound)
            case FacePreprocess(side_pixels=side):
                crops = np.stack([source[:side, :side], source[-side:, -side:]])
                return crops, crops
            case ClipPreprocess(side_pixels=side) as clip:
                steps = [source[2 * i : 2 * i + side, :side] for i in range(clip.frames)]
                bursts = np.stack([steps, steps[::-1]])
                return bursts, bursts
            case FinderPreprocess() as finder:
                return self._canvas(source, finder)
            case ImagePreprocess() as crops_of:
                crops = crops_of(source).batch
                return crops, crops

    def _make(self, media: Media) -> tuple[npt.NDArray[Any], Batch] | Code:
        """The array and the batch of an opened file, or the reason why there is none."""
        kind = media.info.kind
        match self._bundle.preprocess:
            case AudioPreprocess() as sound:
                return self._sound(media, sound) if media.info.has_audio else Code.NO_SOUND
            case ClipPreprocess():
                return self._bursts(media) if kind is Kind.VIDEO else Code.NOT_A_VIDEO
            case _ if kind is not Kind.IMAGE:
                return Code.NOT_A_PICTURE
            case _:
                return self.look(media.image())

    def look(self, pixels: Pixels) -> tuple[Pixels, Batch] | Code:
        """The array and the batch of RGB ``pixels`` (height, width, 3), or why there is none."""
        bundle = self._bundle
        match bundle.preprocess:
            case FacePreprocess():
                return self._faces(pixels)
            case FinderPreprocess() as finder:
                return self._canvas(pixels, finder)
            case ImagePreprocess():
                batch = read_still(pixels, bundle)
                return batch if isinstance(batch, Code) else (batch, batch)
            case _:
                return Code.NOT_A_PICTURE

    def _sound(self, media: Media, sound: AudioPreprocess) -> tuple[Samples, Batch] | Code:
        """The whole sound: an export judges all windows, as it does not know who speaks."""
        samples = media.audio(sample_rate=sound.sample_rate, max_seconds=MOST_SECONDS)
        reason = read_sound(samples, self._bundle).why_not(self._bundle)
        return reason or self._windows(samples, sound)

    def _bursts(self, media: Media) -> tuple[Pixels, Batch] | Code:
        """The whole pictures of a clip, burst by burst; those cut short by its end are left out."""
        read = [
            read_motion([frame.pixels for frame in burst], self._bundle)
            for burst in read_bursts(media, most=MOST_BURSTS)
            if len(burst) == FRAMES_PER_BURST
        ]
        bursts = [burst for burst in read if not isinstance(burst, Code)]
        if not bursts:
            return Code.TOO_FEW_FRAMES
        batch = np.concatenate(bursts)
        return batch, batch

    def _windows(self, samples: Samples, sound: AudioPreprocess) -> tuple[Samples, Batch]:
        batch = sound(samples, max_windows=EVERY_WINDOW).batch
        return (cut_sound(samples, sound) if self._single else samples), batch

    def _canvas(self, pixels: Pixels, finder: FinderPreprocess) -> tuple[Pixels, Batch]:
        if self._single:
            finder = replace(finder, canvases=finder.canvases[:1])
        canvas = finder(pixels).batch
        return canvas, canvas

    def _faces(self, pixels: Pixels) -> tuple[Pixels, Batch] | Code:
        found = open_finder(self._engine).find(pixels)[:MOST_FACES]
        faces = [read_face(pixels, face, self._bundle) for face in found]
        crops = [face.crop for face in faces if face.reason is None]
        if not crops:
            return next((face.reason for face in faces if face.reason), Code.NO_FACE)
        batch = np.stack(crops)
        return batch, batch


def expect(bundle: Bundle, engine: Engine, batch: Batch) -> Expected:
    """What the engine gives for a batch (windows, …) that belongs together."""
    if bundle.slot == "face-finder":
        return Expected(engine.logits(bundle, batch), None)
    logits = engine.logits(bundle, batch)
    if bundle.slot != "face":
        return Expected(logits, Scored.read(logits, bundle.calibration).score)
    faces = [engine.score(bundle, batch[index : index + 1]) for index in range(len(batch))]
    return Expected(logits, highest([("face", face) for face in faces])[1])


def cut_sound(samples: Samples, preprocess: AudioPreprocess) -> Samples:
    """The windows (n, samples) of a sound at the level that they have."""
    first, last = preprocess.active(samples)
    return np.stack(
        [
            preprocess.fit(samples[start : min(last, start + preprocess.window_samples)])
            for start in preprocess.starts(first, last)
        ]
    )


def list_files(folder: Path) -> list[Labelled]:
    """Every file below ``folder`` that is not hidden, sorted; those in its folders ``genuine`` and
    ``synthetic`` with a label. Raises ``SettingsError`` when there is none.
    """
    labels = {"genuine": 0, "synthetic": 1}
    found = []
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        if path.is_file() and not any(part.startswith(".") for part in parts):
            found.append(Labelled(path, labels.get(parts[0])))
    if not found:
        raise SettingsError(f"folder {folder}: holds no file", hint="give a folder with media")
    return found


def read_labels(path: Path) -> list[Labelled]:
    """Files and labels of a table with tabs: a path, from the table's folder, and 0 (genuine) or 1
    (synthetic) in each line. Raises ``SettingsError`` naming the line that is something else.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise SettingsError(f"labels {path}: cannot be read ({error})") from error
    found = []
    for number, line in enumerate(lines, start=1):
        cells = line.split("\t")
        if number == 1 and cells[:2] == ["path", "label"]:
            continue
        if len(cells) < 2 or cells[1] not in ("0", "1"):
            raise SettingsError(
                f"labels {path}: line {number} is not a path, a tab and 0 or 1",
                hint="write 0 for genuine, 1 for synthetic",
            )
        found.append(Labelled(path.parent / cells[0], int(cells[1])))
    return found
