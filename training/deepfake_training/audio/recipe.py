"""The recipe of the ``audio`` slot, on recordings of many pages.

Files → their active parts at 16 kHz → a network tuned end to end on augmented pieces, once without
either half of the pages and, going on from the first, once on everything → whole files in every
view and minutes with an insert, by the network that saw neither the page nor its corpus → the
calibration.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from deepfake.networks.speech import MobileSpeech
from deepfake.preprocess import AudioPreprocess

from ..export import Trained, export_onnx
from ..files import read_times, timed
from ..fitting import prepare_process
from ..known import Known, choose_files
from ..manifests import data_sha256
from ..recipes import Recipe
from ..records import FileLogits
from .families import tabulate_families
from .judging import Judged, Networks, judge_files
from .material import corpus_of, heard_corpora, heard_genuine, page_of, read_recordings
from .minutes import judge_minutes
from .recordings import Recordings, build_recordings
from .shortcuts import measure_shortcuts
from .tuned import TuneSettings, tune

HALVES = 2
ALL = -1


@dataclass(frozen=True, kw_only=True)
class Judging:
    """How many files of a source are judged in every view for the calibration."""

    genuine: int
    synthetic: int
    seed: int


@dataclass(frozen=True, kw_only=True)
class AudioRecipe(Recipe):
    """``material`` names folders of the data that have a manifest; ``tuned`` are the rounds in
    which the network of a half is trained, ``final`` the one in which the network without the first
    half goes on with all files; ``by_band`` is that of
    :class:`deepfake.networks.speech.SpectralPlanes`.
    """

    threads: int
    workers: int
    material: tuple[str, ...]
    preprocess: AudioPreprocess
    tuned: tuple[TuneSettings, ...]
    final: TuneSettings
    judging: Judging
    by_band: bool


def train(recipe: AudioRecipe, *, data: Path, weights: Path, output: Path) -> Trained:
    """Run the recipe, or what an interrupted run left of it; everything stays in ``output``.

    ``weights`` holds the ImageNet weights that the networks start from. Raises ``OSError`` for
    missing material and ``ModelError`` for missing weights.
    """
    prepare_process(recipe.threads)
    files = read_recordings([data / name for name in recipe.material], folds=HALVES)
    with timed("recordings", output):
        recordings = build_recordings(files, output / "recordings", workers=recipe.workers)
    with timed("tuning", output):
        networks = _tune_all(recipe, files, recordings, weights=weights, output=output)
    graphs = {
        half: _exported(networks[half], output / f"tuned-{half}.onnx", recipe.preprocess)
        for half in range(HALVES)
    }
    heard = heard_genuine(files, folds=HALVES)
    with timed("judging", output):
        judged = judge_files(
            files,
            choose_files(
                files,
                most=(recipe.judging.genuine, recipe.judging.synthetic),
                seed=recipe.judging.seed,
            ),
            networks=Networks(recipe, graphs),
            folder=output / "judged",
            workers=recipe.workers,
        )
        minutes = [
            one
            for half, graph in graphs.items()
            for one in judge_minutes(
                files,
                recordings,
                fold=half,
                graph=graph,
                preprocess=recipe.preprocess,
                path=output / f"minutes-{half}.jsonl",
                seed=recipe.judging.seed,
                unheard=[not (file.label or one) for file, one in zip(files, heard, strict=True)],
            )
        ]
    shortcuts = measure_shortcuts(
        files,
        recordings,
        preprocess=recipe.preprocess,
        path=output / "shortcuts.jsonl",
        seed=recipe.judging.seed,
    )
    return Trained(
        network=networks[ALL],
        network_name="mobile_speech",
        network_options={"by_band": recipe.by_band},
        preprocess=recipe.preprocess,
        records=[record_of(one, files[one.file], heard=heard[one.file]) for one in judged],
        limits=recipe.limits,
        facts={
            **_facts(recipe, files, output=output),
            "AUC of shortcuts alone, by half of the pages": shortcuts,
        },
        recordings=minutes,
        families=tabulate_families(files, judged, heard=heard),
    )


def _tune_all(
    recipe: AudioRecipe,
    files: Sequence[Known],
    recordings: Recordings,
    *,
    weights: Path,
    output: Path,
) -> dict[int, MobileSpeech]:
    """The network without each half, by its number, and the one of ``ALL``."""
    networks: dict[int, MobileSpeech] = {}
    for half in (*range(HALVES), ALL):
        rounds = [recipe.final] if half == ALL else recipe.tuned
        network = networks[0] if half == ALL else None
        for number, settings in enumerate(rounds):
            name = "all" if half == ALL else f"{half}-{number}"
            network = tune(
                files,
                recordings,
                chosen=known_files(files, without=half),
                preprocess=recipe.preprocess,
                settings=settings,
                weights=weights,
                path=output / f"tuned-{name}.safetensors",
                by_band=recipe.by_band,
                start=network,
            )
        assert network is not None
        networks[half] = network
    return networks


def known_files(
    files: Sequence[Known], *, without: int
) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Which files (files,) the network that leaves a half out may see: none of its pages, and no
    genuine recording of a corpus that is mostly there. That of ``ALL`` sees everything.
    """
    if without == ALL:
        return np.ones(len(files), np.bool_)
    heard = {"", *heard_corpora(files, without=without)}
    return np.array(
        [f.fold != without and (bool(f.label) or corpus_of(f.source) in heard) for f in files]
    )


def record_of(one: Judged, file: Known, *, heard: bool) -> FileLogits:
    """The systems of a page are told together, because most have one or two files, and so are the
    genuine recordings of a corpus, whichever page repeats them.
    """
    return FileLogits(
        path=file.item.facts["path"],
        label=file.label,
        source=page_of(file.item) if file.label else corpus_of(file.source) or file.source,
        group=file.group,
        fold=file.fold,
        view=one.view,
        logits=one.logits,
        heard=heard,
    )


def _facts(recipe: AudioRecipe, files: Sequence[Known], *, output: Path) -> Mapping[str, object]:
    return {
        "seed": recipe.final.seed,
        "tuned": [asdict(one) for one in recipe.tuned],
        "final": asdict(recipe.final),
        "data_sha256": data_sha256(file.item for file in files),
        "files": len(files),
        "groups": len({file.group for file in files}),
        "genuine sources": len({file.source for file in files if not file.label}),
        "synthetic sources": len({file.source for file in files if file.label}),
        "wall_seconds": round(sum(read_times(output).values())),
        "machine": f"{platform.machine()} CPU, {recipe.threads} thread",
        "tried": recipe.tried,
    }


def _exported(network: MobileSpeech, path: Path, preprocess: AudioPreprocess) -> Path:
    """The graph of a network at ``path``, or the one that is there."""
    if not path.exists():
        plain = network.to(memory_format=torch.contiguous_format)
        export_onnx(plain, np.zeros((2, preprocess.window_samples), np.float32), path)
    return path
