"""What the quick network of the ``image`` slot owes to the variety of its material and to the way
it is tuned: the same short tuning again and again with one thing changed, judged on repositories
that none of them saw.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, astuple, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from tqdm import tqdm

from deepfake.networks.pictures import MobilePicture
from deepfake.preprocess import ImagePreprocess

from ..card import markdown
from ..files import write_arrays
from ..fitting import prepare_process
from ..known import Known, choose_files
from ..metrics import auc, eer, separation, tpr_at_fpr
from ..tuning import tune_network
from ..wide.crops import Cropper, make_cropper
from ..wide.cutouts import build_cutouts
from ..wide.material import TWINS, read_known
from ..wide.recipe import WideRecipe
from ..wide.tuned import Batches

GENUINE = (7, 20, 40)
"""Numbers of genuine sources beside all of them."""
LEAST_FILES = 5
"""Files of a system from which it has an AUC of its own."""
MOST_FILES = 12
"""Files of a source that are judged."""
ALL, SHRUNK = "all", "shrunk"
_MOST_CROPS = 3
_KINDS = ("plain", "changed")
Mask = npt.NDArray[np.bool_]


class FrozenPicture(MobilePicture):
    """Only the last layer is tuned."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk.requires_grad_(False)
        self.trunk.classifier.requires_grad_(True)


class ShrunkPicture(MobilePicture):
    """Sees crops (n, 3, 2 * side, 2 * side) at half their size."""

    def forward(self, crops: torch.Tensor) -> torch.Tensor:
        return super().forward(nn.functional.avg_pool2d(crops, 2))


@dataclass(frozen=True)
class Variant:
    """``chosen`` (files,) are what is learnt from, at so many ``scales``."""

    name: str
    chosen: Mask
    make: Callable[[], MobilePicture] = MobilePicture
    scales: int = 1


@dataclass(frozen=True)
class Row:
    """A variant on at most ``MOST_FILES`` of each source of the fold left out: ``plain`` crops, and
    ``changed`` ones after a random history; the mean and worst AUC over systems with
    ``LEAST_FILES``.
    """

    variant: str
    genuine_sources: int
    systems: int
    auc_plain: float
    auc_changed: float
    eer_plain: float
    tpr_at_1_plain: float
    mean_auc_plain: float
    worst_auc_plain: float


@dataclass(frozen=True)
class Said:
    """The logits (files,) of the ``files`` (files,) that a variant judged, ``plain`` and
    ``changed``.
    """

    files: npt.NDArray[np.int64]
    plain: npt.NDArray[np.float64]
    changed: npt.NDArray[np.float64]


def compare(
    recipe: WideRecipe, *, data: Path, weights: Path, runs: Path, crops: int, fold: int
) -> list[Row]:
    """Tune every variant on ``crops`` crops without the groups of ``fold``; what is done stays in
    the folder of the run and is not done again.
    """
    prepare_process(recipe.threads)
    output = runs / recipe.name
    pictures = read_known([data / name for name in recipe.material], folds=recipe.folds)
    cutouts = build_cutouts(
        pictures, output / "cutouts", seed=recipe.head.seed, workers=recipe.workers
    )
    folds = np.array([picture.fold for picture in pictures])
    old = (data / recipe.material[-1]).resolve()
    variants = list_variants(pictures, seen=folds != fold, old=old, recipe=recipe)
    folder = output / f"variety-{fold}-{crops}"
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for variant in variants:
        path = folder / f"{variant.name.replace(' ', '-')}.safetensors"
        heard = path.with_suffix(".npz")
        if not heard.exists():
            preprocess = _preprocess(recipe, variant)
            batches = Batches(
                pictures,
                cutouts,
                chosen=variant.chosen,
                preprocess=preprocess,
                seed=recipe.tuned.seed,
                scales=variant.scales,
            )
            network = tune_network(
                variant.make,
                batches.draw,
                examples=crops,
                settings=recipe.tuned,
                weights=weights,
                path=path,
            )
            network.scales = variant.scales
            cropper = make_cropper(cutouts, pictures, preprocess)
            said = _judge(variant.name, network, cropper, pictures, out=folds == fold)
            write_arrays(heard, **asdict(said))
        rows.append(_rate(variant.name, variant.chosen, read_said(heard), pictures))
    both = _mean([read_said(folder / f"{name}.npz") for name in (ALL, SHRUNK)])
    return [*rows, _rate(f"{ALL} and {SHRUNK}", folds != fold, both, pictures)]


def list_variants(
    pictures: Sequence[Known], *, seen: Mask, old: Path, recipe: WideRecipe
) -> list[Variant]:
    """All of the material that is ``seen``; fewer genuine sources, the same ones and more each
    time; only the folder ``old``; no aligned pairs; a fixed trunk; crops of about twice the side,
    shrunk to the usual one; those and the usual ones by one network.
    """
    labels = np.array([picture.label for picture in pictures])
    sources = np.array([picture.source for picture in pictures])
    inside = np.array([picture.item.path.resolve().is_relative_to(old) for picture in pictures])
    names = np.unique(sources[seen & (labels == 0)])
    order = np.random.default_rng(recipe.tuned.seed).permutation(names)
    return [
        Variant(ALL, seen),
        *(
            Variant(f"{count} genuine sources", seen & ((labels == 1) | np.isin(sources, some)))
            for count in GENUINE
            if count < len(names) and len(some := order[:count])
        ),
        Variant("older material alone", seen & inside),
        Variant("without pairs", seen & (sources != TWINS)),
        Variant("fixed trunk", seen, make=FrozenPicture),
        Variant(SHRUNK, seen, make=ShrunkPicture),
        Variant("both by one network", seen, scales=2),
    ]


def table(rows: Sequence[Row]) -> str:
    """The rows for a person."""
    heads = ["variant", "genuine", "systems", "AUC", "after changes", "EER", "TPR at 1 %"]
    return markdown([*heads, "mean over systems", "worst"], [[*astuple(row)] for row in rows])


def _preprocess(recipe: WideRecipe, variant: Variant) -> ImagePreprocess:
    side = recipe.preprocess.side_pixels // recipe.scales
    twice = variant.make is ShrunkPicture or variant.scales > 1
    return ImagePreprocess(side_pixels=2 * side if twice else side)


def _judge(
    name: str,
    network: MobilePicture,
    cropper: Cropper,
    pictures: Sequence[Known],
    *,
    out: Mask,
) -> Said:
    places = cropper.cutouts.places()
    drawn = choose_files(pictures, most=(MOST_FILES, MOST_FILES), seed=0)
    files = [file for file in drawn if out[file] and file in places]
    plain, changed = np.zeros(len(files)), np.zeros(len(files))
    for number, file in enumerate(tqdm(files, desc=f"judging {name}", mininterval=5)):
        rng = np.random.default_rng(file)
        own = places[file][:_MOST_CROPS]
        for scores, draw in ((plain, cropper.plain), (changed, cropper.augmented)):
            batch = cropper.preprocess.scale(np.stack([draw(int(place), rng) for place in own]))
            with torch.inference_mode():
                scores[number] = float(network(torch.from_numpy(batch)).mean())
    return Said(np.array(files), plain, changed)


def read_said(path: Path) -> Said:
    """What a variant said, as a run left it."""
    with np.load(path) as stored:
        return Said(**stored)


def _mean(said: Sequence[Said]) -> Said:
    """Of the same files the mean logit of several variants."""
    plain, changed = (np.mean([getattr(one, kind) for one in said], axis=0) for kind in _KINDS)
    return Said(said[0].files, plain, changed)


def _rate(name: str, chosen: Mask, said: Said, pictures: Sequence[Known]) -> Row:
    labels = np.array([float(pictures[file].label) for file in said.files])
    sources = np.array([pictures[file].source for file in said.files])
    plain, genuine = said.plain, said.plain[labels == 0]
    single = [
        separation(plain[sources == name].tolist(), genuine.tolist())
        for name in np.unique(sources[labels == 1])
        if (sources == name).sum() >= LEAST_FILES
    ]
    learnt = [pictures[file] for file in np.flatnonzero(chosen).tolist()]
    return Row(
        variant=name,
        genuine_sources=len({picture.source for picture in learnt if not picture.label}),
        systems=len({picture.source for picture in learnt if picture.label}),
        auc_plain=auc(labels, plain),
        auc_changed=auc(labels, said.changed),
        eer_plain=eer(labels, plain),
        tpr_at_1_plain=tpr_at_fpr(labels, plain, fpr=0.01),
        mean_auc_plain=float(np.mean(single)),
        worst_auc_plain=float(np.min(single)),
    )
