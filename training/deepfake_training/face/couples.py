"""Training crops in couples, drawn once, kept on disk, used by every fold.

A couple is a genuine and a forged crop that went through the same random history.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from .bank import FaceDrawer


@dataclass(frozen=True)
class Bank:
    """``crops`` (couples, 2, side, side, 3), genuine first; ``folds`` (couples, any) and
    ``sources`` (couples, 2) say where each came from (``sources`` indexes ``names``); ``masks``
    (couples, cells, cells) where they differ, in 0…255.
    """

    crops: npt.NDArray[np.uint8]
    folds: npt.NDArray[np.int64]
    sources: npt.NDArray[np.int64]
    names: tuple[str, ...]
    masks: npt.NDArray[np.uint8]

    def without(self, fold: int | None) -> npt.NDArray[np.int64]:
        """Couples of which nothing belongs to ``fold`` (None: all couples)."""
        held = [] if fold is None else [fold]
        return np.flatnonzero(~np.isin(self.folds, held).any(axis=1))


def build_bank(drawer: FaceDrawer, *, folder: Path) -> Bank:
    """Draw all couples, or go on where an interrupted run stopped; needs the disk for the crops."""
    folder.mkdir(parents=True, exist_ok=True)
    key, facts_path = drawer.key, folder / "couples.jsonl"
    lines: list[str] = []
    if facts_path.exists():
        lines = facts_path.read_text(encoding="utf-8").splitlines()
        lines = lines if lines and json.loads(lines[0]) == key else []
    mode = "r+" if lines else "w+"
    crops = _open(folder / "crops.npy", (drawer.couples, 2, drawer.side, drawer.side, 3), mode)
    masks = _open(folder / "masks.npy", (drawer.couples, drawer.cells, drawer.cells), mode)
    if not lines:
        lines = [json.dumps(key)]
        facts_path.write_text(lines[0] + "\n", encoding="utf-8")
    with facts_path.open("a", encoding="utf-8") as file:
        numbers = range(len(lines) - 1, drawer.couples)
        for number in tqdm(numbers, desc="bank", unit="couple", mininterval=5):
            drawn, sources, folds, masks[number] = drawer.draw(number)
            crops[number] = np.stack(drawn)
            lines.append(json.dumps([*sources, *folds]))
            file.write(lines[-1] + "\n")
    rows = [json.loads(line) for line in lines[1:]]
    names = tuple(sorted({name for row in rows for name in row[:2]}))
    return Bank(
        crops=crops,
        folds=np.array([row[2:] for row in rows]),
        sources=np.array([[names.index(name) for name in row[:2]] for row in rows]),
        names=names,
        masks=masks,
    )


def _open(path: Path, shape: tuple[int, ...], mode: str) -> npt.NDArray[np.uint8]:
    return np.lib.format.open_memmap(path, mode=mode, dtype=np.uint8, shape=shape)
