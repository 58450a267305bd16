"""The recipe of the ``face-finder`` slot: a teacher's labels → drawn scenes → one small network.

Whole sources are left out for testing and a few more for the choice of the least score; the network
that the numbers are about is the one that ships.
"""

from __future__ import annotations

import json
import platform
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import chain
from pathlib import Path

import torch

from deepfake.bundle import Bundle, Calibration
from deepfake.networks.finder import FaceFinder
from deepfake.preprocess import FinderPreprocess
from deepfake.types import OperatingPoints

from ..card import fill_card
from ..export import Trained, write_bundle
from ..files import read_times, timed
from ..fitting import fit_once, prepare_process
from ..manifests import data_sha256
from ..recipes import Recipe
from .evaluate import (
    choose_least,
    detect_all,
    draw_false_positives,
    measure,
    read_detections,
    write_detections,
)
from .fit import FinderFitSettings, fit_finder
from .labels import Scene, read_items, read_scenes
from .scenes import SceneDrawer, SceneSettings
from .tables import describe, print_tables

NETWORK = "face_finder"
TEACHER = "yunet_s_dynamic.onnx"


@dataclass(frozen=True, kw_only=True)
class FinderOptions:
    """The options of a :class:`FaceFinder`."""

    stem: int
    channels: tuple[int, ...]
    width: int


@dataclass(frozen=True, kw_only=True)
class Round:
    """One fit, from the weights of the one before."""

    scenes: SceneSettings
    fit: FinderFitSettings


@dataclass(frozen=True, kw_only=True)
class FinderRecipe(Recipe):
    """Sources of the material by what they are for; all others are trained on. ``weights`` multiply
    how often a source is drawn.
    """

    threads: int
    test: tuple[str, ...]
    validation: tuple[str, ...]
    unused: tuple[str, ...] = ()
    network: FinderOptions
    weights: Mapping[str, float] = field(default_factory=dict)
    rounds: tuple[Round, ...]


def make_bundle(
    recipe: FinderRecipe, *, data: Path, weights: Path, models: Path, output: Path
) -> Bundle:
    """Label, train, choose the least score, measure, and write ``models/<name>`` with its card.

    An interrupted run goes on where it stopped; everything stays in ``output``.
    """
    prepare_process(recipe.threads)
    output.mkdir(parents=True, exist_ok=True)
    items = read_items(data)
    with timed("labels", output):
        scenes = read_scenes(
            items, teacher=weights / TEACHER, data=data, folder=output / "material"
        )
    parts = split(scenes, recipe)
    with timed("training", output):
        network = train(recipe, parts["train"], output=output).fuse()
    trained = Trained(
        network=network,
        network_name=NETWORK,
        network_options=network.options,
        preprocess=FinderPreprocess(),
        records=[],
        limits=recipe.limits,
        facts={
            "seed": "; ".join(str(chosen.fit.seed) for chosen in recipe.rounds),
            "data_sha256": data_sha256(items),
            "files": len({scene.path for scene in scenes}),
            "pictures_and_frames": {name: len(part) for name, part in parts.items()},
            "teacher": f"YuNet-s ({TEACHER}), scores from 0.3, sure from 0.75 at two scales",
            "steps": "; ".join(str(chosen.fit.steps) for chosen in recipe.rounds),
            "parameters": sum(value.numel() for value in network.parameters()),
            "test": "; ".join(recipe.test),
            "validation": "; ".join(recipe.validation),
            "wall_seconds": round(sum(read_times(output).values())),
            "machine": f"{platform.machine()} CPU, {recipe.threads} thread",
            "tried": recipe.tried,
        },
    )
    bundle = write_bundle(
        trained,
        name=recipe.name,
        calibration=calibration_at(0.5),
        metrics={},
        folder=output / recipe.name,
    )
    bundle = _measure(bundle, parts, output=output)
    accuracy = describe(bundle, f"training/configs/{recipe.name}.toml")
    fill_card(bundle, text=asdict(recipe.card), middle=accuracy)
    shutil.rmtree(models / recipe.name, ignore_errors=True)
    shutil.copytree(bundle.folder, models / recipe.name)
    return replace(bundle, folder=models / recipe.name)


def evaluate(output: Path) -> None:
    """Print the tables of the run in ``output`` and store them as ``metrics.json``."""
    measured = json.loads((output / "measured.json").read_text(encoding="utf-8"))
    least = float(measured["least"])
    detections = read_detections(output / measured["detections"])
    metrics = measure([one for one in detections if one.part == "test"], least=least)
    print_tables(metrics, least=least)
    text = json.dumps(metrics, indent=2, ensure_ascii=False)
    (output / "metrics.json").write_text(text + "\n", encoding="utf-8")


def train(recipe: FinderRecipe, scenes: Sequence[Scene], *, output: Path) -> FaceFinder:
    """The network fitted to ``scenes`` round by round, each from the weights of the one before;
    rounds that were done are read.
    """
    network: FaceFinder | None = None
    for number, chosen in enumerate(recipe.rounds, start=1):
        stored = output / f"network-{number}.safetensors"
        torch.manual_seed(chosen.fit.seed)
        fresh = FaceFinder(**asdict(recipe.network))
        if network is not None:
            fresh.load_state_dict(network.state_dict())

        def tune(fresh: FaceFinder, chosen: Round = chosen, stored: Path = stored) -> FaceFinder:
            drawer = SceneDrawer(scenes, chosen.scenes, weights=recipe.weights)
            checkpoint = stored.with_suffix(".checkpoint")
            return fit_finder(fresh, drawer, chosen.fit, checkpoint=checkpoint)

        network = fit_once(fresh, stored, tune)
    assert network is not None
    return network


def split(scenes: Sequence[Scene], recipe: FinderRecipe) -> dict[str, list[Scene]]:
    """Scenes for ``train``, ``validation`` and ``test`` by their source; those of ``unused``
    sources are in none. Raises ``ValueError`` for a name in the recipe without scenes.
    """
    homes = dict.fromkeys(recipe.test, "test") | dict.fromkeys(recipe.validation, "validation")
    homes |= dict.fromkeys(recipe.unused, "unused")
    missing = set(homes) - {scene.source for scene in scenes}
    if missing:
        raise ValueError(f"sources {sorted(missing)}: not in the material")
    parts: dict[str, list[Scene]] = {"train": [], "validation": [], "test": [], "unused": []}
    for scene in scenes:
        parts[homes.get(scene.source, "train")].append(scene)
    return parts


def calibration_at(least: float) -> Calibration:
    """P(face) as the network gives it; a face of at least ``least`` is kept."""
    return Calibration(
        slope=1.0,
        intercept=0.0,
        spread=0.0,
        points=OperatingPoints(synthetic=least, suspicious=least, authentic=least),
    )


def _measure(bundle: Bundle, parts: dict[str, list[Scene]], *, output: Path) -> Bundle:
    """The bundle with its least score and metrics, both from its own exported weights; what these
    found is kept under their hash.
    """
    stored = output / f"detections-{bundle.files['model.safetensors']['sha256'][:12]}.jsonl"
    if not stored.exists():
        found = (detect_all(bundle, parts[part], part=part) for part in ("validation", "test"))
        write_detections(stored, chain.from_iterable(found))
    detections = read_detections(stored)
    least = choose_least([one for one in detections if one.part == "validation"])
    measured = json.dumps({"least": least, "detections": stored.name})
    (output / "measured.json").write_text(measured + "\n", encoding="utf-8")
    tested = [one for one in detections if one.part == "test"]
    draw_false_positives(tested, parts["test"], least=least, path=output / "false_positives.png")
    metrics = measure(tested, least=least)
    bundle = replace(bundle, calibration=calibration_at(least), metrics=metrics)
    bundle.write(bundle.folder)
    return bundle
