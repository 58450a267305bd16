"""Parts of side-by-side clips as files of their own, about which the product can be asked."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import av.error
import numpy as np
from joblib import Parallel, delayed
from tqdm import tqdm

from deepfake.errors import SettingsError
from deepfake.files import replaced

from ..recipes import Recipe
from .faces import FaceTierRecipe
from .frames import crop_part
from .material import WHOLE, Clip, read_clips
from .recipe import FrameRecipe

CRF = 14
"""Of parts, which are coded once more than clips that are whole; both classes have such."""
_COLUMNS = ("path", "sha256", "label", "source", "repo", "family", "fold")


def write_all(recipe: Recipe, *, data: Path, folder: Path) -> int:
    """The clips of a recipe as :func:`write_parts` writes them; how many it wrote. Raises
    ``SettingsError`` for a recipe of anything else.
    """
    if not isinstance(recipe, FrameRecipe | FaceTierRecipe):
        raise SettingsError(
            f"recipe {recipe.name}: is not one of frames or faces of clips",
            hint="take training/configs/frame-2.toml",
        )
    folders = [data / name for name in recipe.material]
    clips = read_clips(folders, boxes=data / recipe.boxes, folds=recipe.folds)
    return write_parts(clips, folder, workers=recipe.workers)


def write_parts(clips: Sequence[Clip], folder: Path, *, workers: int) -> int:
    """A labelled folder of ``clips``: parts as new files, whole clips as links, and a manifest with
    their families and folds; how many there are. Parts that cannot be read are left out.
    """
    folder.mkdir(parents=True, exist_ok=True)
    running = Parallel(n_jobs=workers, return_as="generator")(
        delayed(_write)(clip, folder) for clip in clips
    )
    rows = []
    for clip, path in zip(clips, tqdm(running, total=len(clips), desc="parts"), strict=True):
        if path is not None:
            label = "fake" if clip.label else "real"
            facts = (clip.item.facts["sha256"], label, clip.source, clip.group)
            rows.append((path, *facts, clip.family, str(clip.fold)))
    with replaced(folder / "manifest.tsv") as partial, partial.open("w", encoding="utf-8") as file:
        table = csv.writer(file, delimiter="\t", quoting=csv.QUOTE_NONE, lineterminator="\n")
        table.writerows([_COLUMNS, *rows])
    return len(rows)


def _write(clip: Clip, folder: Path) -> str | None:
    place = Path("clips") / clip.name.replace("#", "_").replace(",", "_")
    if clip.part != WHOLE:
        place = place.with_name(f"{place.name}.mp4")
    path = folder / place
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        return place.as_posix()
    if clip.part == WHOLE:
        path.symlink_to(os.path.relpath(clip.item.path.resolve(), path.parent.resolve()))
        return place.as_posix()
    try:
        with replaced(path) as partial:
            cut_part(clip, partial)
    except (av.error.FFmpegError, OSError, ValueError):
        return None
    return place.as_posix()


def cut_part(clip: Clip, path: Path) -> None:
    """Write the pictures of a part of a clip as H.264 in MP4; raises as PyAV does."""
    with av.open(clip.item.path) as source, av.open(path, "w", format="mp4") as sink:
        stream = source.streams.video[0]
        coded, last = None, None
        for frame in source.decode(stream):
            if frame.pts is None or frame.pts == last:
                continue
            last = frame.pts
            pixels = crop_part(np.asarray(frame.to_ndarray(format="rgb24")), clip.part)
            if coded is None:
                coded = sink.add_stream("libx264", rate=stream.average_rate or Fraction(25))
                coded.height, coded.width = pixels.shape[:2]
                coded.codec_context.time_base = stream.time_base or Fraction(1, 1000)
                coded.pix_fmt, coded.options = "yuv420p", {"crf": str(CRF), "preset": "veryfast"}
            new = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            new.pts, new.time_base = frame.pts, frame.time_base
            sink.mux(coded.encode(new))
        if coded is None:
            raise ValueError("no picture")
        sink.mux(coded.encode(None))
