"""Features of all files, each computed once and kept, so that an interrupted run goes on."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from deepfake.errors import Cancelled, DeepfakeError, SettingsError
from deepfake.faults import contain_faults
from deepfake.media.opening import open_media
from deepfake.text import printable
from deepfake.types import MediaInfo

from ..files import write_arrays
from ..manifests import CLASSES
from .material import Source
from .reading import Recorder, Rows, read_views
from .views import View

_LARGEST = 6e4
"""Features are kept in 16 bits."""


class Known(NamedTuple):
    """A file whose features are known: what it is, and where they are."""

    path: Path
    source: str
    label: int
    info: MediaInfo
    cache: Path

    def read(self) -> list[Rows]:
        """Its rows in every view that could be judged."""
        with np.load(self.cache, allow_pickle=False) as stored:
            parts = np.split(stored["rows"].astype(np.float32), np.cumsum(stored["counts"])[:-1])
            names, frames = stored["views"].tolist(), stored["frames"].tolist()
        return [Rows(*some) for some in zip(names, parts, frames, strict=True)]


@dataclass(frozen=True)
class Gathered:
    """The files that could be read, and of those that could not how many for each reason."""

    files: tuple[Known, ...]
    left_out: Counter[str]


def gather(
    sources: Sequence[Source], recorder: Recorder, views: Sequence[View], *, folder: Path
) -> Gathered:
    """Read every file of the sources, or what ``folder`` holds of it by its content.

    A file that cannot be read is told on standard error and left out, and so is one whose content
    was met before. Raises ``SettingsError`` for a content that is in both classes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    known: dict[str, Known] = {}
    left_out: Counter[str] = Counter()
    files = [(source, path) for source in sources for path in source.files]
    with tqdm(files, desc="features", unit="file", disable=None, mininterval=1) as bar:
        for source, path in bar:
            try:
                with contain_faults(str(path)):
                    one = _read(source, path, recorder, views, folder)
            except Cancelled:
                raise
            except DeepfakeError as error:
                left_out[str(error.code)] += 1
                bar.write(f"left out: {printable(str(error), most=300)}", file=sys.stderr)
                continue
            before = known.setdefault(one.info.sha256, one)
            if before.label != one.label:
                raise SettingsError(
                    f"file {printable(str(path), most=200)}: is both a genuine and a "
                    f"synthetic one (also as {printable(str(before.path), most=200)})",
                    hint="take it out of one of them",
                )
            if before is not one:
                left_out["copy of another file"] += 1
    return Gathered(tuple(known.values()), left_out)


def _read(
    source: Source, path: Path, recorder: Recorder, views: Sequence[View], folder: Path
) -> Known:
    with open_media(path, limits=recorder.settings.limits) as media:
        cache = folder / f"{media.info.sha256}.npz"
        if not cache.exists():
            rows = list(read_views(media, views, recorder))
            write_arrays(
                cache,
                rows=np.concatenate([one.rows for one in rows])
                .clip(-_LARGEST, _LARGEST)
                .astype(np.float16),
                counts=np.array([len(one.rows) for one in rows]),
                views=np.array([one.view for one in rows]),
                frames=np.array([one.frames for one in rows]),
            )
        return Known(path, source.name, source.label, media.info, cache)


def drop_small_sources(gathered: Gathered, *, least: int) -> tuple[Gathered, list[str]]:
    """The same without sources of which fewer than ``least`` files could be read, and a sentence
    about each of those.
    """
    counts = Counter((one.label, one.source) for one in gathered.files)
    small = {place for place, count in counts.items() if count < least}
    told = [
        f"source {name} ({CLASSES[label]}): only {counts[label, name]} files can be used, and "
        f"{least} are the least; it was left out"
        for label, name in sorted(small)
    ]
    kept = tuple(one for one in gathered.files if (one.label, one.source) not in small)
    left_out = gathered.left_out.copy()
    if small:
        left_out["source too small"] += len(gathered.files) - len(kept)
    return Gathered(kept, left_out), told


def learnt_rows(files: Sequence[Known], views: Sequence[View]) -> Iterator[tuple[int, Rows]]:
    """The number of a file and its rows, for every view that the head learns from."""
    learnt = {view.name for view in views if view.learnt}
    for number, one in enumerate(files):
        for rows in one.read():
            if rows.view in learnt:
                yield number, rows
