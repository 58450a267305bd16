"""What the recipes of pictures that learn from couples share: a bank of perturbed couples, aligned
fakes among them on request.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from deepfake.preprocess import ImagePreprocess

from ..recipes import Folds, Recipe
from .autoencoder import load_autoencoder
from .bank import Bank, BankSettings, Drawer, build_bank
from .data import Picture
from .decoders import UPSAMPLERS, train_adversarial, train_decoders
from .fakes import Pair, reconstruct


@dataclass(frozen=True, kw_only=True)
class CopySettings:
    """For how many steps the decoders of our own are trained that make copies of photos."""

    seed: int
    decoder_steps: int
    adversarial_steps: int


@dataclass(frozen=True, kw_only=True)
class CoupleRecipe(Recipe):
    """What the recipes of pictures share: a bank of perturbed couples."""

    threads: int
    folds: Folds
    preprocess: ImagePreprocess
    fakes: CopySettings
    bank: BankSettings


def make_bank(
    recipe: CoupleRecipe,
    pictures: Sequence[Picture],
    *,
    weights: Path,
    output: Path,
    folder: Path,
) -> Bank:
    """The couples of the recipe in ``folder``; copies of photos, which they need where it asks for
    aligned ones, in ``output``.
    """
    pairs: list[Pair] = []
    if recipe.bank.aligned:
        pairs = make_pairs(pictures, recipe.fakes, weights=weights, output=output)
    drawer = Drawer(pictures, pairs, preprocess=recipe.preprocess, settings=recipe.bank)
    return build_bank(drawer, folder=folder)


def make_pairs(
    pictures: Sequence[Picture], settings: CopySettings, *, weights: Path, output: Path
) -> list[Pair]:
    """Reconstructions of all genuine photos: by the published autoencoder, and each also by half of
    our own decoders.
    """
    photos = [picture for picture in pictures if picture.label == 0]
    cache, seed = output / "pairs", settings.seed
    autoencoder = load_autoencoder(weights / "taef2.safetensors")
    pairs = reconstruct(photos, autoencoder.reconstruct, maker="taef2", cache=cache, seed=seed)
    contents = [photo.pixels for photo in photos]
    family = train_decoders(
        contents,
        path=output / "decoders.safetensors",
        steps=settings.decoder_steps,
        seed=seed,
    )
    for index, upsampler in enumerate(UPSAMPLERS):
        pairs += reconstruct(
            photos[index % 2 :: 2],
            partial(family.reconstruct, upsampler=upsampler),
            maker=upsampler,
            cache=cache,
            seed=seed + 1 + index,
        )
    adversarial = train_adversarial(
        contents,
        path=output / "adversarial.safetensors",
        steps=settings.adversarial_steps,
        seed=seed,
    )
    pairs += reconstruct(
        photos[::2], adversarial.reconstruct, maker="adversarial", cache=cache, seed=seed + 9
    )
    return pairs
