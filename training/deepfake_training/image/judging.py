"""What a network says of whole files, read as in use, and the records of those it never saw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from deepfake.content.inputs import Judge, read_still
from deepfake.preprocess import ImagePreprocess
from deepfake.reasons import Code

from ..export import compile_graph
from ..perturb import PICTURE_VIEWS
from ..records import FileLogits, round_logits
from .data import Picture

Logits = npt.NDArray[np.float32]


@dataclass(frozen=True)
class PictureLogits:
    """Logits of windows (windows,); ``files`` and ``views`` (windows,) say of which picture, by its
    place in the list, and of which view, by its place in ``names``.
    """

    logits: Logits
    files: npt.NDArray[np.int64]
    views: npt.NDArray[np.int64]
    names: tuple[str, ...]


def judge_pictures(
    graph: Path, pictures: Sequence[Picture], *, views: Sequence[str], judge: Judge
) -> PictureLogits:
    """What ``graph`` says about the windows of every picture in every view in which the detector
    would judge it.
    """
    assert isinstance(judge.preprocess, ImagePreprocess)
    compiled, scale = compile_graph(graph, threads=1), judge.preprocess.scale
    values, places = [], []
    for number, picture in enumerate(tqdm(pictures, desc="files in all views", mininterval=5)):
        for view, name in enumerate(views):
            batch = read_still(PICTURE_VIEWS[name](picture.pixels), judge)
            if not isinstance(batch, Code):
                values.append(np.array(compiled(scale(batch))["logits"]))
                places += [(number, view)] * len(batch)
    found = np.array(places)
    return PictureLogits(np.concatenate(values), found[:, 0], found[:, 1], tuple(views))


def to_records(
    judged: PictureLogits, pictures: Sequence[Picture], *, fold: int
) -> list[FileLogits]:
    """Window logits, in every view, of the pictures that fold's network never saw: those of its own
    sources and the reserved ones of the others.
    """
    places = judged.files * len(judged.names) + judged.views
    first = np.flatnonzero(np.diff(places, prepend=-1))
    records = []
    for start, end in pairwise([*first, len(judged.logits)]):
        picture = pictures[judged.files[start]]
        if picture.fold != fold and not picture.reserved:
            continue
        records.append(
            FileLogits(
                path=picture.item.facts["path"],
                label=picture.label,
                source=picture.source,
                group=picture.group,
                fold=fold,
                view=judged.names[judged.views[start]],
                logits=round_logits(judged.logits[start:end]),
                heard=picture.fold != fold,
            )
        )
    return records
