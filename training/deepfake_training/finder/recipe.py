"""The recipe of the ``face-finder`` slot: a teacher's labels → drawn scenes → one small network.

Whole sources are left out for testing and a few more for the choice of the least score; the network
that the numbers are about is the one that ships.
"""

from __future__ import annotations

import json
import platform
import shutil
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from deepfake.bundle import Applicability, Bundle, Calibration
from deepfake.networks.finder import FaceFinder
from deepfake.preprocess import FinderPreprocess
from deepfake.types import OperatingPoints

from ..export import Trained, write_bundle
from ..fitting import fit_once, prepare_process
from ..manifests import data_sha256
from ..timing import read_times, timed
from .card import print_tables, write_card
from .evaluate import (
    choose_least,
    detect_all,
    draw_false_positives,
    measure,
    read_detections,
    write_detections,
)
from .fit import FinderFit, FinderFitSettings
from .labels import Scene, read_items, read_scenes
from .scenes import SceneDrawer, SceneSettings

NETWORK = "face_finder"
TEACHER = "yunet_s_dynamic.onnx"


def make_bundle(
    config: dict[str, Any], *, data: Path, weights: Path, models: Path, output: Path
) -> Bundle:
    """Label, train, choose the least score, measure, and write ``models/<name>`` with its card.

    An interrupted run goes on where it stopped; everything stays in ``output``.
    """
    prepare_process(int(config["threads"]))
    output.mkdir(parents=True, exist_ok=True)
    items = read_items(data)
    with timed("labels", output):
        scenes = read_scenes(
            items, teacher=weights / TEACHER, data=data, folder=output / "material"
        )
    parts = split(scenes, config)
    with timed("training", output):
        network = train(config, parts["train"], output=output).fuse()
    trained = Trained(
        network=network,
        network_name=NETWORK,
        network_options=network.options,
        preprocess=FinderPreprocess(),
        records=[],
        limits=Applicability(min_side_pixels=32),
        facts={
            "seed": "; ".join(str(chosen["fit"]["seed"]) for chosen in config["rounds"]),
            "data_sha256": data_sha256(items),
            "files": len({scene.path for scene in scenes}),
            "pictures_and_frames": {name: len(part) for name, part in parts.items()},
            "teacher": f"YuNet-s ({TEACHER}), scores from 0.3, sure from 0.75 at two scales",
            "steps": "; ".join(str(chosen["fit"]["steps"]) for chosen in config["rounds"]),
            "parameters": sum(value.numel() for value in network.parameters()),
            "test": "; ".join(config["test"]),
            "validation": "; ".join(config["validation"]),
            "wall_seconds": round(sum(read_times(output).values())),
            "machine": f"{platform.machine()} CPU, {config['threads']} thread",
            "tried": config.get("tried", []),
        },
    )
    bundle = write_bundle(
        trained,
        name=config["name"],
        calibration=calibration_at(0.5),
        metrics={},
        folder=output / config["name"],
    )
    bundle = _measure(bundle, parts, output=output)
    write_card(bundle, text=config["card"], config=f"training/configs/{config['name']}.toml")
    shutil.rmtree(models / config["name"], ignore_errors=True)
    shutil.copytree(bundle.folder, models / config["name"])
    return replace(bundle, folder=models / config["name"])


def evaluate(output: Path) -> None:
    """Print the tables of the run in ``output`` and store them as ``metrics.json``."""
    measured = json.loads((output / "measured.json").read_text(encoding="utf-8"))
    least = float(measured["least"])
    detections = read_detections(output / measured["detections"])
    metrics = measure([one for one in detections if one.part == "test"], least=least)
    print_tables(metrics, least=least)
    text = json.dumps(metrics, indent=2, ensure_ascii=False)
    (output / "metrics.json").write_text(text + "\n", encoding="utf-8")


def train(config: dict[str, Any], scenes: Sequence[Scene], *, output: Path) -> FaceFinder:
    """The network fitted to ``scenes`` round by round, each from the weights of the one before;
    rounds that were done are read.
    """
    network: FaceFinder | None = None
    for number, chosen in enumerate(config["rounds"], start=1):
        stored = output / f"network-{number}.safetensors"
        fit = partial(
            _fit_round, config, chosen, scenes, network, stored.with_suffix(".checkpoint")
        )
        network = fit_once(FaceFinder(**config["network"]), stored, fit)
    assert network is not None
    return network


def _fit_round(
    config: dict[str, Any],
    chosen: dict[str, Any],
    scenes: Sequence[Scene],
    start: FaceFinder | None,
    checkpoint: Path,
    _: FaceFinder,
) -> FaceFinder:
    drawer = SceneDrawer(scenes, SceneSettings(weights=config["weights"], **chosen["scenes"]))
    settings = FinderFitSettings(**chosen["fit"])
    return FinderFit(config["network"], drawer, settings, start=start).run(checkpoint)


def split(scenes: Sequence[Scene], config: dict[str, Any]) -> dict[str, list[Scene]]:
    """Scenes for ``train``, ``validation`` and ``test`` by their source; those of ``unused``
    sources are in none. Raises ``ValueError`` for a name in the configuration without scenes.
    """
    homes = {
        source: part for part in ("test", "validation", "unused") for source in config.get(part, [])
    }
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
