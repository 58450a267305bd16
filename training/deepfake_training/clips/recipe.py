"""The recipe of both tiers of the ``frame`` slot: what single frames of a clip say of all of it.

Clips → frames at one size, as they are and after a random history → features of the networks of
both tiers of an ``image`` bundle, which stay as they are → for each a linear layer on the features,
which begins as that of pictures and is drawn towards it, for every fold and on everything → logits
out of fold → how one frame is read, how the frames of a clip are, how the quick tier counts in the
full one, and where the quick one settles the matter.

What changes from frame to frame was measured to add nothing to what is in them (see the card).
"""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import nn

from deepfake.bundle import WEIGHTS, Bundle, Calibration, QuickShare
from deepfake.engine.scores import pool_frames

from ..assess import assess, told
from ..calibrate import fit_calibration
from ..card import write_card
from ..export import Trained, metrics_to_dict, write_bundle
from ..export_large import linear_weights, write_full_bundle
from ..files import read_times, timed
from ..fitting import prepare_process
from ..manifests import data_sha256
from ..recipes import Recipe
from ..records import FileLogits, round_logits, write_records
from ..wide.bundles import MOST_LOSS, choose_settled, cross_scores, fit_share
from .families import tabulate_families
from .features import Frame, Pooled, load_one_scale, measure, open_trunk
from .frames import BURSTS, keep_shots
from .layers import Fitted, Seen, fit_layers
from .material import Clip, read_clips

LOOKS: Mapping[str, tuple[Frame, ...]] = {
    view: tuple(Frame(burst=burst, changed=changed) for burst in range(BURSTS))
    for view, changed in (("clean", False), ("changed", True))
}
"""The frames of a clip that are learnt from and judged, by view."""


@dataclass(frozen=True, kw_only=True)
class FrameRecipe(Recipe):
    """``material`` names folders of the data that have a manifest, ``boxes`` the file of the parts
    of side-by-side clips there; ``image`` the bundle whose networks are taken, with its full tier;
    ``penalty`` that on differences from their last layers.
    """

    threads: int
    workers: int
    folds: int
    seed: int
    material: tuple[str, ...]
    boxes: str
    image: str
    penalty: float


def make_tiers(
    recipe: FrameRecipe, *, data: Path, models: Path, output: Path
) -> tuple[Bundle, Bundle]:
    """Run the recipe, or what an interrupted run left of it: from the bundles of pictures in
    ``models`` those of both tiers there, their records in ``output``.
    """
    prepare_process(recipe.threads)
    clips = read_clips(
        [data / name for name in recipe.material], boxes=data / recipe.boxes, folds=recipe.folds
    )
    quick, full = fit_tiers(recipe, clips, models=models, output=output)
    facts = {
        "seed": recipe.seed,
        "data_sha256": data_sha256(clip.item for clip in clips),
        "clips": len(clips),
        "groups": len({clip.group for clip in clips}),
        "genuine sources": len({clip.source for clip in clips if not clip.label}),
        "systems": len({clip.source for clip in clips if clip.label}),
        "penalty": recipe.penalty,
        "wall_seconds": round(sum(read_times(output).values())),
        "machine": f"{platform.machine()} CPU, {recipe.workers} workers of one thread",
        "tried": recipe.tried,
    }
    return write_tiers(recipe, clips, quick, full, facts=facts, models=models, output=output)


def fit_tiers(
    recipe: FrameRecipe, clips: Sequence[Clip], *, models: Path, output: Path
) -> tuple[Fitted, Fitted]:
    """The quick and the full tier, from the networks of pictures in ``models``, before they are
    bundles; features that an earlier run left in ``output`` are taken from there.
    """
    with timed("frames", output):
        keep_shots(clips, folder=output / "frames", workers=recipe.workers)
    tiers = []
    for name in (recipe.image, f"{recipe.image}-large"):
        source, network = load_one_scale(Bundle.read(models / name))
        seen = see_frames(recipe, clips, source, network, output=output)
        tiers.append(fit_layers(network, source, clips, seen, penalty=recipe.penalty))
    return tiers[0], tiers[1]


def see_frames(
    recipe: FrameRecipe,
    clips: Sequence[Clip],
    source: Bundle,
    network: Any,
    *,
    output: Path,
    looks: Mapping[str, Sequence[Frame]] = LOOKS,
) -> Seen:
    """The features that the ``network`` of a bundle of pictures has of the ``looks`` at what
    :func:`keep_shots` kept.
    """
    large = source.name != recipe.image
    features: nn.Module = network.trunk if large else Pooled(network)
    trunk = open_trunk(
        source,
        features,
        output / f"{source.name}.onnx",
        precision="bf16" if large else "f32",
    )
    seen: dict[str, list[dict[int, npt.NDArray[np.float16]]]] = {}
    with timed(source.name, output):
        for view, own in looks.items():
            seen[view] = [
                measure(
                    look,
                    trunk,
                    clips=len(clips),
                    shots=output / "frames",
                    folder=output / "features" / source.name / f"{view}-{look.burst}",
                    workers=recipe.workers,
                    seed=recipe.seed,
                )
                for look in own
            ]
    return seen


def read_alone(records: Sequence[FileLogits]) -> tuple[Calibration, list[FileLogits]]:
    """How one frame is read, and the records with what :func:`pool_frames` makes of all frames."""
    single = [
        replace(one, path=f"{one.path}@{place}", logits=(logit,))
        for one in records
        for place, logit in enumerate(one.logits)
    ]
    calibration = fit_calibration(single)
    pooled = [
        replace(
            one,
            logits=round_logits([pool_frames([calibration.probability(x) for x in one.logits])]),
        )
        for one in records
    ]
    return calibration, pooled


def write_tiers(
    recipe: FrameRecipe,
    clips: Sequence[Clip],
    quick: Fitted,
    full: Fitted,
    *,
    facts: dict[str, Any],
    models: Path,
    output: Path,
) -> tuple[Bundle, Bundle]:
    """Both tiers as bundles in ``models``, calibrated on their records, which ``output`` keeps."""
    each_source = recipe.calibration.each_source
    quick_frame, quick_pooled = read_alone(quick.records)
    full_frame, full_pooled = read_alone(full.records)
    by_place = {(one.path, one.view): one.logits[0] for one in quick_pooled}
    full_pooled = [one for one in full_pooled if (one.path, one.view) in by_place]
    beside = [by_place[one.path, one.view] for one in full_pooled]
    share = fit_share(full_pooled, beside)
    joined = [
        replace(one, logits=round_logits([one.logits[0] + share * other]))
        for one, other in zip(full_pooled, beside, strict=True)
    ]
    write_records(output / "out_of_fold.jsonl", quick_pooled)
    write_records(output / "out_of_fold-large.jsonl", joined)
    quick_fit, quick_sources, quick_views, _ = assess(quick_pooled, each_source=each_source)
    full_fit, full_sources, full_views, _ = assess(joined, each_source=each_source)
    kept = {(one.path, one.view) for one in joined}
    settled = choose_settled(
        cross_scores([one for one in quick_pooled if (one.path, one.view) in kept]),
        cross_scores(joined),
        np.array([one.label for one in joined]),
        points=quick_fit.points,
        loss=MOST_LOSS,
    )
    families = {clip.name: clip.family for clip in clips}
    tables = [
        (told(quick_sources), quick_views, tabulate_families(quick_pooled, families)),
        (told(full_sources), full_views, tabulate_families(joined, families)),
    ]
    first = write_bundle(
        _trained(quick, recipe, facts=facts),
        name=recipe.name,
        calibration=quick_frame,
        metrics=metrics_to_dict(sources=tables[0][0], views=tables[0][1], families=tables[0][2]),
        folder=models / recipe.name,
    )
    first = replace(first, frames_calibration=quick_fit, settled=settled)
    first.write(first.folder)
    second = write_full_bundle(
        _trained(full, recipe, facts=facts),
        name=f"{recipe.name}-large",
        calibration=full_frame,
        metrics=metrics_to_dict(sources=tables[1][0], views=tables[1][1], families=tables[1][2]),
        quantised=linear_weights(full.network),
        folder=models / f"{recipe.name}-large",
        shared=full.source.folder / WEIGHTS,
    )
    counted = QuickShare(slope=share * full_fit.slope, sha256=first.logit_sha256)
    second = replace(second, frames_calibration=replace(full_fit, quick=counted))
    second.write(second.folder)
    for bundle, (sources, views, rows) in zip((first, second), tables, strict=True):
        write_card(
            replace(bundle, calibration=bundle.frames_calibration or bundle.calibration),
            sources=sources,
            views=views,
            families=rows,
            text=asdict(recipe.card),
            command=f"deepfake recipe evaluate training/configs/{recipe.name}.toml",
            each_source=each_source,
        )
    return first, second


def _trained(tier: Fitted, recipe: FrameRecipe, *, facts: dict[str, Any]) -> Trained:
    return Trained(
        network=tier.network,
        network_name=tier.source.network,
        network_options=dict(tier.source.network_options),
        preprocess=tier.source.preprocess,
        records=tier.records,
        limits=recipe.limits,
        facts=facts | {"network": f"of {tier.source.name}, its last layer fitted anew"},
    )
