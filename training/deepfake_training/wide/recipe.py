"""The recipe of both tiers of the ``image`` slot, on pictures of many repositories.

Files → cut-outs → a small network tuned end to end on augmented crops, once without either half of
the groups and, from the mean of both, once on everything (the quick tier) → tokens of CLIP for
crops of all files at two scales, a window's quarter as it is and the whole at half its size, and
linear heads on them, for every fold and on everything (the full tier) → both on whole files in
every view, by models that never saw their group → calibrations, how the quick tier counts in the
full one, and where the quick one settles the matter.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from deepfake.networks.clip import ClipPicture, ClipTokens
from deepfake.networks.pictures import MobilePicture
from deepfake.preprocess import ImagePreprocess

from ..export import Trained, export_onnx
from ..export_large import linear_weights, round_network
from ..files import read_times, timed
from ..fitting import prepare_process
from ..known import Known, choose_files
from ..manifests import data_sha256
from ..metrics import auc
from ..recipes import Recipe
from ..records import FileLogits, round_logits
from .clip import load_clip
from .cutouts import Cutouts, build_cutouts, copied_elsewhere
from .head import Head, apply_head, fit_head, join_heads, put_head
from .judging import Judged, Networks, judge_files
from .material import read_known
from .tokens import CLIP_PREPROCESS, FAR, NEAR, Tokens, measure_tokens
from .tuned import TuneSettings, tune

HALVES = 2
"""The quick tier is tuned without one half of the folds at a time: five tunings cost too much."""
ALL = "all"
"""What the network of all files is called, beside the numbers of the halves."""
TRUNK = "clip.onnx"
SCALES = (NEAR, FAR)


@dataclass(frozen=True, kw_only=True)
class HeadSettings:
    """Tokens of so many ``crops`` after the blocks ``first`` … ``last``; ``penalty`` on the squared
    weights of the regression.
    """

    crops: int
    penalty: float
    seed: int
    first: int = 5
    last: int = 8


@dataclass(frozen=True, kw_only=True)
class Judging:
    """How many files of a source are judged in every view for the calibrations; up to ``most`` of
    each are judged as they are.
    """

    genuine: int
    synthetic: int
    most: int = 0


@dataclass(frozen=True, kw_only=True)
class WideRecipe(Recipe):
    """``material`` names folders of the data that have a manifest; ``trunk`` the file with CLIP's
    weights in the weights folder; ``scales`` at how many the quick tier sees its crops.
    """

    threads: int
    workers: int
    folds: int
    material: tuple[str, ...]
    trunk: str
    judging: Judging
    preprocess: ImagePreprocess
    tuned: TuneSettings
    head: HeadSettings
    scales: int = 1


@dataclass(frozen=True)
class BothTiers:
    """``full.records`` hold the logits of its own crops alone, the quick tier not counted in."""

    quick: Trained
    full: Trained


def train(recipe: WideRecipe, *, data: Path, weights: Path, output: Path) -> BothTiers:
    """Run the recipe, or what an interrupted run left of it; everything stays in ``output``."""
    prepare_process(recipe.threads)
    pictures = read_known([data / name for name in recipe.material], folds=recipe.folds)
    with timed("cutouts", output):
        cutouts = build_cutouts(
            pictures, output / "cutouts", seed=recipe.head.seed, workers=recipe.workers
        )
    with timed("tokens", output):
        trunk, tokens = see_crops(recipe, pictures, cutouts, weights=weights, output=output)
    parts = {
        fold: {scale: _fit(tokens[scale], pictures, fold, recipe) for scale in SCALES}
        for fold in (*range(recipe.folds), -1)
    }
    heads = {fold: join_heads(own[NEAR], own[FAR]) for fold, own in parts.items()}
    with timed("tuning", output):
        networks = tune_all(recipe, pictures, cutouts, weights=weights, output=output)
    with timed("judging", output):
        judged = judge_both(recipe, pictures, cutouts, networks, output=output)
    quick = [
        _record(one, pictures, one.quick[str(pictures[one.file].fold % HALVES)]) for one in judged
    ]
    own = [
        _record(one, pictures, apply_head(one.tokens, heads[pictures[one.file].fold]).tolist())
        for one in judged
    ]
    facts = {
        "seed": recipe.tuned.seed,
        "data_sha256": data_sha256(picture.item for picture in pictures),
        "files": len(pictures),
        "groups": len({picture.group for picture in pictures}),
        "cutouts": len(cutouts.files),
        "wall_seconds": round(sum(read_times(output).values())),
        "machine": f"{platform.machine()} CPU, {recipe.threads} threads",
    }
    options: dict[str, Any] = {
        "first": recipe.head.first,
        "last": recipe.head.last,
        "scales": len(SCALES),
    }
    full = ClipPicture(**options)
    full.trunk.load_state_dict(trunk.state_dict())
    put_head(full, heads[-1])
    return BothTiers(
        quick=Trained(
            network=networks[ALL].to(memory_format=torch.contiguous_format),
            network_name="mobile_picture",
            network_options={"scales": recipe.scales} if recipe.scales > 1 else {},
            preprocess=recipe.preprocess,
            records=quick,
            limits=recipe.limits,
            facts=facts | {"crops": recipe.tuned.crops},
        ),
        full=Trained(
            network=full.eval(),
            network_name="clip_picture",
            network_options=options,
            preprocess=CLIP_PREPROCESS,
            records=own,
            limits=recipe.limits,
            facts=facts
            | {
                "crops": sum(len(one.files) for one in tokens.values()),
                "AUC of single crops": rate_scales(tokens, parts, pictures),
            },
        ),
    )


def see_crops(
    recipe: WideRecipe,
    pictures: Sequence[Known],
    cutouts: Cutouts,
    *,
    weights: Path,
    output: Path,
) -> tuple[ClipTokens, dict[str, Tokens]]:
    """CLIP's trunk as the bundle will hold it, and its tokens of crops at each scale."""
    trunk = load_clip(weights / recipe.trunk, first=recipe.head.first, last=recipe.head.last)
    trunk.load_state_dict(round_network(trunk, linear_weights(trunk)).state_dict())
    return trunk, {
        scale: measure_tokens(
            trunk,
            pictures,
            cutouts,
            graph=output / TRUNK,
            folder=output / f"tokens-{scale}",
            scale=scale,
            crops=recipe.head.crops,
            threads=recipe.threads,
            seed=recipe.head.seed,
        )
        for scale in SCALES
    }


def rate_scales(
    tokens: Mapping[str, Tokens],
    parts: Mapping[int, Mapping[str, Head]],
    pictures: Sequence[Known],
) -> dict[str, float]:
    """AUC of single crops without a random history by the ``parts`` of the head that saw nothing of
    their group: of each scale, and of crops of both together.
    """
    rows = min(len(one.files) for one in tokens.values())
    files = tokens[NEAR].files[:rows]
    homes = np.array([pictures[file].fold for file in files])
    plain = ~tokens[NEAR].changed[:rows]
    odds = {scale: np.zeros(rows) for scale in SCALES}
    for fold in set(homes.tolist()):
        for scale in SCALES:
            own = np.flatnonzero(homes == fold)
            odds[scale][own] = apply_head(tokens[scale].values[own], parts[fold][scale])
    odds["both"] = np.sum([odds[scale] for scale in SCALES], axis=0)
    labels = np.array([float(pictures[file].label) for file in files])
    return {name: round(auc(labels[plain], one[plain]), 3) for name, one in odds.items()}


def tune_all(
    recipe: WideRecipe,
    pictures: Sequence[Known],
    cutouts: Cutouts,
    *,
    weights: Path,
    output: Path,
) -> dict[str, MobilePicture]:
    """The networks without each half of the folds, by its number, and under ``ALL`` that of all
    files, which goes on from their mean.
    """
    folds = np.array([picture.fold for picture in pictures])
    networks: dict[str, MobilePicture] = {}
    for name, chosen in (
        *((str(half), folds % HALVES != half) for half in range(HALVES)),
        (ALL, folds >= 0),
    ):
        networks[name] = tune(
            pictures,
            cutouts,
            chosen=chosen,
            preprocess=recipe.preprocess,
            settings=recipe.tuned,
            weights=weights,
            path=output / f"tuned-{name}.safetensors",
            start=list(networks.values()) if name == ALL else (),
            scales=recipe.scales,
        )
    return networks


def judge_both(
    recipe: WideRecipe,
    pictures: Sequence[Known],
    cutouts: Cutouts,
    networks: Mapping[str, MobilePicture],
    *,
    output: Path,
) -> list[Judged]:
    """What the networks of the halves and CLIP see in whole files, near-copies of files of another
    fold left out.
    """
    copied = copied_elsewhere(cutouts.hashes, np.array([picture.fold for picture in pictures]))

    def choose(genuine: int, synthetic: int) -> list[int]:
        files = choose_files(pictures, most=(genuine, synthetic), seed=recipe.head.seed)
        return [file for file in files if not copied[file]]

    thorough = set(choose(recipe.judging.genuine, recipe.judging.synthetic))
    return judge_files(
        pictures,
        sorted({*thorough, *choose(recipe.judging.most, recipe.judging.most)}),
        thorough=thorough,
        nets=Networks(
            judge=recipe,
            quick={
                name: _exported(network, output / f"tuned-{name}.onnx", recipe.preprocess)
                for name, network in networks.items()
                if name != ALL
            },
            trunk=output / TRUNK,
            full=CLIP_PREPROCESS,
        ),
        folder=output / "judged",
        workers=recipe.workers,
    )


def _fit(tokens: Tokens, pictures: Sequence[Known], fold: int, recipe: WideRecipe) -> Head:
    homes = np.array([picture.fold for picture in pictures])[tokens.files]
    return fit_head(tokens, pictures, chosen=homes != fold, penalty=recipe.head.penalty)


def _record(one: Judged, pictures: Sequence[Known], logits: Sequence[float]) -> FileLogits:
    picture = pictures[one.file]
    return FileLogits(
        path=picture.item.facts["path"],
        label=picture.label,
        source=picture.source,
        group=picture.group,
        fold=picture.fold,
        view=one.view,
        logits=round_logits(logits),
    )


def _exported(network: MobilePicture, path: Path, preprocess: ImagePreprocess) -> Path:
    """The graph of a network at ``path``, or the one that is there."""
    if not path.exists():
        side = preprocess.side_pixels
        plain = network.to(memory_format=torch.contiguous_format)
        export_onnx(plain, np.zeros((2, 3, side, side), np.float32), path)
    return path
