"""What the quick network of the ``image`` slot owes to the variety of its material and to the way
it is tuned: the same short tuning again and again with one thing changed, judged on repositories
that none of them saw.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, astuple, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from tqdm import tqdm

from deepfake.files import replaced
from deepfake.networks.pictures import MobilePicture
from deepfake.preprocess import ImagePreprocess

from ..card import markdown
from ..fitting import prepare_process
from ..known import Known, choose_files
from ..metrics import auc, eer, separation, tpr_at_fpr
from ..tuning import tune_network
from ..wide.crops import Cropper, make_cropper
from ..wide.cutouts import SIDE, build_cutouts
from ..wide.material import TWINS, read_known
from ..wide.recipe import WideRecipe
from ..wide.tuned import Batches

GENUINE = (7, 20, 40)
"""Numbers of genuine sources beside all of them."""
LEAST_FILES = 5
"""Files of a system from which it has an AUC of its own."""
MOST_FILES = 12
"""Files of a source that are judged."""
_MOST_CROPS = 3
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
    """``chosen`` (files,) are what is learnt from."""

    name: str
    chosen: Mask
    make: Callable[[], MobilePicture] = MobilePicture
    side_pixels: int | None = None


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
        told = path.with_suffix(".json")
        if not told.exists():
            preprocess = _preprocess(recipe, variant)
            batches = Batches(
                pictures,
                cutouts,
                chosen=variant.chosen,
                preprocess=preprocess,
                seed=recipe.tuned.seed,
            )
            network = tune_network(
                variant.make,
                batches.draw,
                examples=crops,
                settings=recipe.tuned,
                weights=weights,
                path=path,
            )
            cropper = make_cropper(cutouts, pictures, preprocess)
            row = _judge(variant, network, cropper, pictures, out=folds == fold)
            with replaced(told) as partial:
                partial.write_text(json.dumps(asdict(row)))
        rows.append(Row(**json.loads(told.read_text())))
    return rows


def list_variants(
    pictures: Sequence[Known], *, seen: Mask, old: Path, recipe: WideRecipe
) -> list[Variant]:
    """All of the material that is ``seen``; fewer genuine sources, the same ones and more each
    time; only the folder ``old``; no aligned pairs; a fixed trunk; shrunk pictures.
    """
    labels = np.array([picture.label for picture in pictures])
    sources = np.array([picture.source for picture in pictures])
    inside = np.array([picture.item.path.resolve().is_relative_to(old) for picture in pictures])
    names = np.unique(sources[seen & (labels == 0)])
    order = np.random.default_rng(recipe.tuned.seed).permutation(names)
    return [
        Variant("all", seen),
        *(
            Variant(f"{count} genuine sources", seen & ((labels == 1) | np.isin(sources, some)))
            for count in GENUINE
            if count < len(names) and len(some := order[:count])
        ),
        Variant("older material alone", seen & inside),
        Variant("without pairs", seen & (sources != TWINS)),
        Variant("fixed trunk", seen, make=FrozenPicture),
        Variant("shrunk", seen, make=ShrunkPicture, side_pixels=SIDE),
    ]


def table(rows: Sequence[Row]) -> str:
    """The rows for a person."""
    heads = ["variant", "genuine", "systems", "AUC", "after changes", "EER", "TPR at 1 %"]
    return markdown([*heads, "mean over systems", "worst"], [[*astuple(row)] for row in rows])


def _preprocess(recipe: WideRecipe, variant: Variant) -> ImagePreprocess:
    side = variant.side_pixels or recipe.preprocess.side_pixels
    return ImagePreprocess(side_pixels=side, max_windows=recipe.preprocess.max_windows)


def _judge(
    variant: Variant,
    network: MobilePicture,
    cropper: Cropper,
    pictures: Sequence[Known],
    *,
    out: Mask,
) -> Row:
    places = cropper.cutouts.places()
    drawn = choose_files(pictures, most=(MOST_FILES, MOST_FILES), seed=0)
    files = [file for file in drawn if out[file] and file in places]
    labels = np.array([float(pictures[file].label) for file in files])
    plain, changed = np.zeros(len(files)), np.zeros(len(files))
    for number, file in enumerate(tqdm(files, desc=f"judging {variant.name}", mininterval=5)):
        rng = np.random.default_rng(file)
        own = places[file][:_MOST_CROPS]
        for scores, draw in ((plain, cropper.plain), (changed, cropper.augmented)):
            batch = cropper.preprocess.scale(np.stack([draw(int(place), rng) for place in own]))
            with torch.inference_mode():
                scores[number] = float(network(torch.from_numpy(batch)).mean())
    sources = np.array([pictures[file].source for file in files])
    genuine = plain[labels == 0]
    single = [
        separation(plain[sources == name].tolist(), genuine.tolist())
        for name in np.unique(sources[labels == 1])
        if (sources == name).sum() >= LEAST_FILES
    ]
    learnt = [pictures[file] for file in np.flatnonzero(variant.chosen).tolist()]
    return Row(
        variant=variant.name,
        genuine_sources=len({picture.source for picture in learnt if not picture.label}),
        systems=len({picture.source for picture in learnt if picture.label}),
        auc_plain=auc(labels, plain),
        auc_changed=auc(labels, changed),
        eer_plain=eer(labels, plain),
        tpr_at_1_plain=tpr_at_fpr(labels, plain, fpr=0.01),
        mean_auc_plain=float(np.mean(single)),
        worst_auc_plain=float(np.min(single)),
    )
