"""The bank: perturbed training crops in couples, drawn once, kept on disk, used by every fold.

A couple is a genuine and a synthetic crop that went through the same random history. Either they
are aligned (a photo and its own reconstruction) or they come from two files.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont
from tqdm import tqdm

from deepfake.preprocess import ImagePreprocess, Pixels

from ..manifests import balance
from ..perturb import draw_picture_chain, jpeg
from .data import Picture
from .fakes import Pair, mix_frequencies, mix_pixels

LEAST_SIDE = 100
RESERVED = -2
"""In the place of a fold: held out by every fold's model, but not by the final one."""
MADE_BY = {"taef2": "taef2_recon"}
WORDS = tuple("the light of a new day over old stones and quiet water – 2024 SALE № 7".split())  # noqa: SIM905


@dataclass(frozen=True)
class BankSettings:
    """``aligned`` is the share of aligned couples, ``captioned`` that of genuine crops with panels
    and text drawn over them, ``resized`` (by ``smallest`` … ``largest``) and ``compressed`` those
    of couples whose history has such a step, ``matched`` the share of synthetic files that are
    first compressed like a genuine one. A source's size to the power of ``balance`` weighs it (0:
    all sources alike, 1: all files alike).
    """

    couples: int
    seed: int
    aligned: float = 0.35
    captioned: float = 0.1
    balance: float = 0.5
    smallest: float = 0.4
    largest: float = 1.5
    resized: float = 0.6
    compressed: float = 0.75
    matched: float = 0.7


@dataclass(frozen=True)
class Bank:
    """``crops`` (couples, 2, side, side, 3), genuine first; ``folds`` (couples, any) and
    ``sources`` (couples, 2) say where each came from (``sources`` indexes ``names``), ``aligned``
    (couples,) which kind; ``masks`` (couples, cells, cells) where they differ, in 0…255; ``key``
    what all this depends on.
    """

    crops: npt.NDArray[np.uint8]
    folds: npt.NDArray[np.int64]
    sources: npt.NDArray[np.int64]
    aligned: npt.NDArray[np.bool_]
    names: tuple[str, ...]
    masks: npt.NDArray[np.uint8] | None = None
    key: dict[str, Any] = field(default_factory=dict)

    def without(self, fold: int | None) -> npt.NDArray[np.int64]:
        """Couples of which nothing belongs to ``fold`` nor is reserved (None: all couples)."""
        held = [] if fold is None else [fold, RESERVED]
        return np.flatnonzero(~np.isin(self.folds, held).any(axis=1))


class CoupleDrawer(Protocol):
    """What a bank is built from. ``key`` holds all that the couples depend on; ``cells`` is the
    side of the masks, 0 for none.
    """

    couples: int
    side: int
    cells: int

    @property
    def key(self) -> dict[str, Any]: ...

    def draw(self, number: int) -> tuple[Any, ...]:
        """Both crops, both sources, the folds that they belong to, whether they are aligned, and
        the mask when there is one.
        """


class Drawer:
    """Draws couple number ``i`` from pictures and pairs, the same for the same settings."""

    def __init__(
        self,
        pictures: Sequence[Picture],
        pairs: Sequence[Pair],
        *,
        preprocess: ImagePreprocess,
        settings: BankSettings,
    ) -> None:
        self.pairs, self.preprocess, self.settings = pairs, preprocess, settings
        self.classes = [[p for p in pictures if p.label == label] for label in (0, 1)]
        self.weights = [self._balance([p.source for p in c]) for c in self.classes]
        self.pair_weights = self._balance([pair.source for pair in pairs])
        self.qualities = [p.quality for p in self.classes[0] if p.quality]
        self.homes = {picture.source: picture.fold for picture in pictures}
        self.couples, self.side, self.cells = settings.couples, preprocess.side_pixels, 0

    def _balance(self, sources: Sequence[str]) -> npt.NDArray[np.float64]:
        """Probabilities of files of these sources."""
        places = [(source, str(number)) for number, source in enumerate(sources)]
        return balance(places, power=self.settings.balance)

    @property
    def key(self) -> dict[str, Any]:
        """What the couples depend on."""
        return {**asdict(self.settings), "side": self.side, "pairs": len(self.pairs)}

    def draw(self, number: int) -> tuple[list[Pixels], tuple[str, str], tuple[int, ...], bool]:
        """Both crops, their sources, the folds that must not see them, and whether they are
        aligned. Copies by a published autoencoder leave together with the files that it made.
        """
        rng = np.random.default_rng([self.settings.seed, number])
        if self.pairs and rng.random() < self.settings.aligned:
            pair = self.pairs[int(rng.choice(len(self.pairs), p=self.pair_weights))]
            crops = self._crop([pair.photo, _vary(pair, rng)], rng, together=True)
            home = self.homes.get(MADE_BY.get(pair.maker, ""), pair.fold)
            held = RESERVED if pair.reserved else pair.fold
            return crops, (pair.source, pair.maker), (pair.fold, home, held), True
        photo, fake = (
            chosen[int(rng.choice(len(chosen), p=weights))]
            for chosen, weights in zip(self.classes, self.weights, strict=True)
        )
        genuine, synthetic = photo.pixels, fake.pixels
        if rng.random() < self.settings.matched:
            quality = int(rng.choice(self.qualities))
            synthetic = jpeg(synthetic, quality=quality, subsampling="4:2:0")
        if rng.random() < self.settings.captioned:
            genuine = add_caption(genuine, rng)
        crops = self._crop([genuine, synthetic], rng, together=False)
        held = RESERVED if photo.reserved else photo.fold
        return crops, (photo.source, fake.source), (photo.fold, fake.fold, held), False

    def _crop(
        self, pictures: list[Pixels], rng: np.random.Generator, *, together: bool
    ) -> list[Pixels]:
        least = min(min(p.shape[:2]) for p in pictures)
        smallest = min(1.0, max(self.settings.smallest, LEAST_SIDE / least))
        chain = draw_picture_chain(
            rng,
            smallest=smallest,
            largest=self.settings.largest,
            resized=self.settings.resized,
            compressed=self.settings.compressed,
        )
        side = self.preprocess.side_pixels
        region = int(np.ceil((side + 8) / chain.factor / 0.95))
        places = rng.random((2, 4))
        crops = []
        for pixels, place in zip(pictures, places[[0, 0]] if together else places, strict=True):
            perturbed = chain(_cut(pixels, region, place[:2]))
            crops.append(self.preprocess.pad(_cut(perturbed, side, place[2:])))
        return crops


def build_bank(drawer: CoupleDrawer, *, folder: Path) -> Bank:
    """Draw all couples, or go on where an interrupted run stopped; needs the disk for the crops."""
    folder.mkdir(parents=True, exist_ok=True)
    key, facts_path = drawer.key, folder / "facts.jsonl"
    lines: list[str] = []
    if facts_path.exists():
        lines = facts_path.read_text(encoding="utf-8").splitlines()
        lines = lines if lines and json.loads(lines[0]) == key else []
    mode = "r+" if lines else "w+"
    crops = _open(folder / "crops.npy", (drawer.couples, 2, drawer.side, drawer.side, 3), mode)
    masks = None
    if drawer.cells:
        masks = _open(folder / "masks.npy", (drawer.couples, drawer.cells, drawer.cells), mode)
    if not lines:
        lines = [json.dumps(key)]
        facts_path.write_text(lines[0] + "\n", encoding="utf-8")
    with facts_path.open("a", encoding="utf-8") as file:
        numbers = range(len(lines) - 1, drawer.couples)
        for number in tqdm(numbers, desc="bank", unit="couple", mininterval=5):
            drawn, sources, folds, aligned, *mask = drawer.draw(number)
            crops[number] = np.stack(drawn)
            if masks is not None:
                masks[number] = mask[0]
            lines.append(json.dumps([*sources, *folds, aligned]))
            file.write(lines[-1] + "\n")
    rows = [json.loads(line) for line in lines[1:]]
    names = tuple(sorted({name for row in rows for name in row[:2]}))
    return Bank(
        crops=crops,
        folds=np.array([row[2:-1] for row in rows]),
        sources=np.array([[names.index(name) for name in row[:2]] for row in rows]),
        aligned=np.array([row[-1] for row in rows]),
        names=names,
        masks=masks,
        key=key,
    )


def add_caption(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """A photo with a flat panel and lines of text, as posters and screenshots have: genuine pixels
    must not be told from synthetic ones by their layout.
    """
    picture = Image.fromarray(pixels)
    canvas = ImageDraw.Draw(picture)
    width, height = picture.size

    def paint() -> tuple[int, ...]:
        return tuple(int(value) for value in rng.integers(0, 256, 3))

    for _ in range(int(rng.integers(1, 4))):
        left, top = int(rng.integers(width)), int(rng.integers(height))
        if rng.random() < 0.6:
            box = (left, top, left + int(rng.integers(20, width)), top + int(rng.integers(10, 120)))
            canvas.rounded_rectangle(box, radius=int(rng.integers(0, 16)), fill=paint())
        font = ImageFont.load_default(size=float(rng.uniform(10, 60)))
        text = "\n".join(
            " ".join(rng.choice(WORDS, int(rng.integers(1, 6)))) for _ in range(rng.integers(1, 5))
        )
        canvas.text((left - width // 4, top), text, font=font, fill=paint())
    return np.asarray(picture)


def _open(path: Path, shape: tuple[int, ...], mode: str) -> npt.NDArray[np.uint8]:
    return np.lib.format.open_memmap(path, mode=mode, dtype=np.uint8, shape=shape)


def _vary(pair: Pair, rng: np.random.Generator) -> Pixels:
    """The fake of a pair with the photo's own JPEG round and, at times, mixed with the photo."""
    fake = pair.fake
    if pair.quality and rng.random() < 0.8:
        fake = jpeg(fake, quality=pair.quality, subsampling="4:2:0")
    kind = rng.random()
    if kind < 0.15:
        return mix_pixels(pair.photo, fake, share=float(rng.uniform(0.3, 1.0)))
    if kind < 0.25:
        return mix_frequencies(pair.photo, fake, share=float(rng.uniform(0.3, 1.0)))
    return fake


def _cut(pixels: Pixels, side: int, place: npt.NDArray[np.float64]) -> Pixels:
    """A square of ``side`` or what there is of it, at a place in 0…1 of the room left."""
    top, left = (
        int(where * (max(0, have - side) + 1))
        for where, have in zip(place, pixels.shape[:2], strict=True)
    )
    return np.ascontiguousarray(pixels[top : top + side, left : left + side])
