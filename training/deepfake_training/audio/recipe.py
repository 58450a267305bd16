"""The recipe of the ``audio`` slot: fakes, pool, one network a fold, one for all, scores."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from joblib import Parallel, delayed
from torch import nn

from deepfake.content.inputs import Judge, read_sound
from deepfake.errors import SettingsError
from deepfake.networks import create
from deepfake.networks.speech import SpeechNet
from deepfake.preprocess import AudioPreprocess, Samples

from .. import perturb
from ..calibrate import fit_calibration
from ..export import Trained
from ..files import write_arrays
from ..fitting import prepare_process
from ..imagenet import load_mobilenet
from ..manifests import data_sha256
from ..recipes import Recipe
from ..records import (
    FileLogits,
    LongLogits,
    read_records,
    round_logits,
    unheard,
    write_records,
)
from .collect import collect_speech
from .data import Clip, Pool, SpeechFold, make_pool, read_clips
from .fakes import make_copies, prepare_makers, store
from .fit import SpeechFitSettings, fit_network
from .minutes import score_long


def _trim(samples: Samples) -> Samples:
    first, last = AudioPreprocess(silence_db=25.0).active(samples)
    return samples[first:last]


Views = Mapping[str, Callable[[Samples], Samples]]

CHECKS: Views = {
    "silence trimmed": _trim,
    "gain × 0.25": lambda samples: perturb.change_gain(samples, decibels=-12.04),
    "to 8 kHz and back": lambda samples: perturb.resample_and_back(samples, sample_rate=8000),
    "to 44.1 kHz and back": lambda samples: perturb.resample_and_back(samples, sample_rate=44100),
    "band limit 7 kHz": lambda samples: perturb.limit_band(samples, low_hz=0, high_hz=7000),
    "MP3 128k": lambda samples: perturb.code_audio(samples, codec="mp3", bit_rate=128000),
}
"""Changes that say nothing about synthesis: the mean score of genuine speech should stay."""


@dataclass(frozen=True, kw_only=True)
class SpeechOptions:
    """The options of the network."""

    stages: int
    dense: int


@dataclass(frozen=True, kw_only=True)
class NetworkChoice:
    name: str
    options: SpeechOptions


@dataclass(frozen=True, kw_only=True)
class AudioRecipe(Recipe):
    """``collect``: whether to collect and make speech beside the material; ``workers`` processes
    train and score folds.
    """

    seed: int
    workers: int
    vocoder_steps: int
    pool_rounds: int
    collect: bool = False
    preprocess: AudioPreprocess
    network: NetworkChoice
    fit: SpeechFitSettings
    folds: tuple[SpeechFold, ...]


def train(recipe: AudioRecipe, *, data: Path, weights: Path, output: Path) -> Trained:
    """Train by the recipe; everything finished is kept in ``output`` and not done again.

    ``weights`` holds the ImageNet weights that the network starts from. Raises
    ``OSError`` for missing material, ``ModelError`` for missing weights and ``SettingsError`` for
    folders without a fold or an ``output`` of other settings.
    """
    started = time.monotonic()
    check_settings(recipe, output=output)
    prepare_process(1)
    preprocess = recipe.preprocess
    if recipe.collect:
        collect_speech(output / "collected", seed=recipe.seed)
    clips = read_material(recipe, data=data, output=output)
    pool = prepare_pool(recipe, clips=clips, preprocess=preprocess, output=output)
    for chosen, views in _views(clips):
        prepare_views(chosen, views, judge=recipe, output=output, workers=recipe.workers)
    numbers = [*range(len(recipe.folds)), None]
    arguments = {"data": data, "weights": weights, "output": output}
    done = Parallel(n_jobs=recipe.workers)(
        delayed(run_fold)(recipe, number=number, **arguments) for number in numbers
    )
    records, checked, recordings = (
        [one for fold in done for one in getattr(fold, name)]
        for name in ("records", "checked", "recordings")
    )
    network = train_fold(
        recipe, number=None, clips=clips, pool=pool, weights=weights, output=output
    )
    shifts = shortcut_shifts(records, checked)
    deviations = shortcut_deviations(records, checked)
    for name, shift in shifts.items():
        print(
            f"{name}: genuine speech moves by {shift:+.4f} in mean score, "
            f"{deviations[name]:.2f} standard deviations a clip"
        )
    facts = {
        "seed": recipe.seed,
        "network": asdict(recipe.network),
        "fit": asdict(recipe.fit),
        "data_sha256": data_sha256(clip.item for clip in clips),
        "clips": len(clips),
        "pool_windows": len(pool.clips),
        "folds": {fold.name: list(fold.folders) for fold in recipe.folds},
        "shortcut_shifts": shifts,
        "shortcut_deviations": deviations,
        "wall_seconds_of_the_last_run": round(time.monotonic() - started),
        "machine": f"{platform.machine()}, {recipe.workers} processes of one thread",
        "tried": recipe.tried,
    }
    return Trained(
        network=network,
        network_name=recipe.network.name,
        network_options=asdict(recipe.network.options),
        preprocess=preprocess,
        records=records,
        limits=recipe.limits,
        facts=facts,
        recordings=recordings,
    )


def check_settings(recipe: AudioRecipe, *, output: Path) -> None:
    """Note the settings in ``output``; raises ``SettingsError`` when others are there already."""
    values = asdict(recipe)
    kept = {key: value for key, value in values.items() if key not in ("card", "tried", "workers")}
    text, path = json.dumps(kept, indent=1, sort_keys=True), output / "settings.json"
    if path.exists() and path.read_text(encoding="utf-8") != text:
        raise SettingsError(
            f"run folder {output.name}: holds the work of other settings",
            hint="remove it or name another one with --runs",
        )
    path.write_text(text, encoding="utf-8")


class FoldScores(NamedTuple):
    """What one fold's network said of clips, of changed genuine clips and of long recordings."""

    records: list[FileLogits]
    checked: list[FileLogits]
    recordings: list[LongLogits]


def run_fold(
    recipe: AudioRecipe, *, number: int | None, data: Path, weights: Path, output: Path
) -> FoldScores:
    """Train and score one fold, or with None only train the network that hears everything.

    It runs in a process of its own and reads all that it needs from ``output``, because the
    material is too large to hand over.
    """
    prepare_process(1)
    preprocess = recipe.preprocess
    clips = read_material(recipe, data=data, output=output)
    pool = prepare_pool(recipe, clips=clips, preprocess=preprocess, output=output)
    network = train_fold(
        recipe, number=number, clips=clips, pool=pool, weights=weights, output=output
    )
    if number is None:
        return FoldScores([], [], [])
    scored = []
    for (chosen, views), name in zip(_views(clips), ("", "_checks"), strict=True):
        paths = prepare_views(chosen, views, judge=recipe, output=output)
        path = output / f"fold_{number}{name}.jsonl"
        scored.append(
            score_clips(network, chosen, paths, fold=number, path=path, reserved=not name)
        )
    recordings = score_long(
        network,
        clips,
        fold=number,
        preprocess=preprocess,
        path=output / f"fold_{number}_long.jsonl",
        seed=recipe.seed,
    )
    return FoldScores(scored[0], scored[1], recordings)


def read_material(recipe: AudioRecipe, *, data: Path, output: Path) -> list[Clip]:
    """The clips of the training material, and after them those that were collected."""
    folders = [data / "audio", *([output / "collected"] if recipe.collect else [])]
    return read_clips(folders, folds=recipe.folds)


def _views(clips: Sequence[Clip]) -> list[tuple[list[Clip], Views]]:
    """Which clips are scored in which views."""
    return [
        (list(clips), perturb.AUDIO_VIEWS),
        ([clip for clip in clips if not clip.label], CHECKS),
    ]


def prepare_pool(
    recipe: AudioRecipe, *, clips: Sequence[Clip], preprocess: AudioPreprocess, output: Path
) -> Pool:
    """Fakes from all genuine clips, then the pool of windows."""
    folder = output / "fakes"
    folder.mkdir(parents=True, exist_ok=True)
    genuine = [clip for clip in clips if not clip.label]
    heard = [clip.samples for clip in genuine if "collected" not in clip.item.path.parts]
    makers = prepare_makers(heard, folder=folder, steps=recipe.vocoder_steps)
    arguments: dict[str, Any] = {"seed": recipe.seed, "workers": recipe.workers}
    arguments |= {"rounds": recipe.pool_rounds, "folder": folder}
    return make_pool(
        clips,
        lambda: make_copies([clip.samples for clip in genuine], makers, **arguments),
        names=sorted(makers),
        preprocess=preprocess,
        **arguments,
    )


def train_fold(
    recipe: AudioRecipe,
    *,
    number: int | None,
    clips: Sequence[Clip],
    pool: Pool,
    weights: Path,
    output: Path,
) -> nn.Module:
    """The network that never saw fold ``number``, or with None the one that saw everything."""
    allowed = np.ones(len(pool.clips), dtype=bool)
    if number is not None:
        heard = np.array([clip.fold != number and not clip.reserved for clip in clips])
        unseen = recipe.folds[number].unseen_makers
        allowed = heard[pool.clips] & ~np.isin(pool.makers, unseen)
    rows = np.flatnonzero(allowed)
    name = "final" if number is None else f"fold_{number}"
    return fit_network(
        _new_network(recipe, weights=weights),
        pool,
        allowed=rows,
        clips=clips,
        fit=recipe.fit,
        path=output / name,
        seed=recipe.seed,
    )


def _new_network(recipe: AudioRecipe, *, weights: Path) -> SpeechNet:
    """A fresh network that starts from ImageNet weights."""
    torch.manual_seed(recipe.seed)
    options = recipe.network.options
    network = create(recipe.network.name, **asdict(options))
    assert isinstance(network, SpeechNet)
    places = {"conv_stem": "trunk.0", "bn1": "trunk.1"}
    places |= {f"blocks.{i}": f"trunk.{2 + i}" for i in range(options.stages)}
    load_mobilenet(network, weights, places=places)
    return network


def prepare_views(
    clips: Sequence[Clip],
    views: Views,
    *,
    judge: Judge,
    output: Path,
    workers: int = 1,
) -> dict[str, Path]:
    """Files in ``output/views`` with the windows of every clip in every view as int16, read as in
    use; those of clips in which nobody is heard to speak too.
    """
    folder = output / "views"
    folder.mkdir(parents=True, exist_ok=True)
    paths = {name: folder / f"{name.replace(' ', '_')}.npz" for name in views}

    def prepare(name: str) -> None:
        sounds = (read_sound(views[name](clip.samples), judge) for clip in clips)
        windows = [
            np.stack([store(window) for batch in sound.batches(judge) for window in batch])
            for sound in sounds
        ]
        counts = np.array([len(batch) for batch in windows])
        write_arrays(paths[name], windows=np.concatenate(windows), counts=counts)

    lacking = [name for name, path in paths.items() if not path.exists()]
    Parallel(n_jobs=workers, verbose=10 if lacking else 0)(map(delayed(prepare), lacking))
    return paths


def score_clips(
    network: nn.Module,
    clips: Sequence[Clip],
    views: Mapping[str, Path],
    *,
    fold: int,
    path: Path,
    reserved: bool = False,
) -> list[FileLogits]:
    """Window logits of the clips of ``fold`` in every view, or those already in ``path``.

    With ``reserved`` also those of the clips that were kept out of every fold. ``views`` are the
    files of ``prepare_views`` for the same clips.
    """
    if path.exists():
        return read_records(path)
    records = []
    for view, windows in views.items():
        with np.load(windows, allow_pickle=False) as arrays:
            batches = np.split(arrays["windows"], np.cumsum(arrays["counts"])[:-1])
        for clip, batch in zip(clips, batches, strict=True):
            if clip.fold != fold and not (reserved and clip.reserved):
                continue
            with torch.inference_mode():
                logits = network(torch.from_numpy(batch.astype(np.float32) / 32768))
            records.append(
                FileLogits(
                    path="/".join(clip.item.path.parts[-3:]),
                    label=clip.label,
                    source=clip.source,
                    group=clip.group,
                    fold=fold,
                    view=view,
                    logits=round_logits(logits),
                    heard=clip.fold != fold,
                )
            )
    write_records(path, records)
    return records


def shortcut_shifts(
    records: Sequence[FileLogits], checked: Sequence[FileLogits]
) -> dict[str, float]:
    """How far each change moves the mean calibrated score of genuine speech."""
    records = unheard(records)
    calibration = fit_calibration(records)

    def mean_score(chosen: Sequence[FileLogits]) -> float:
        pooled = [calibration.pool(np.array(r.logits, dtype=np.float32)) for r in chosen]
        return float(np.mean([calibration.probability(value) for value in pooled]))

    before = mean_score([r for r in records if r.view == "clean" and not r.label])
    return {
        name: round(mean_score([r for r in checked if r.view == name]) - before, 4)
        for name in CHECKS
    }


def shortcut_deviations(
    records: Sequence[FileLogits], checked: Sequence[FileLogits]
) -> dict[str, float]:
    """Root mean square move of a genuine clip's logit, in standard deviations between the genuine
    clips of its fold. Unlike a score it does not look small because a calibration is flat.
    """
    before = {r.path: r for r in unheard(records) if r.view == "clean" and not r.label}
    mean = {path: float(np.mean(r.logits)) for path, r in before.items()}
    spread = {
        fold: float(np.std([mean[r.path] for r in before.values() if r.fold == fold]))
        for fold in {r.fold for r in before.values()}
    }
    moves: dict[str, list[float]] = {name: [] for name in CHECKS}
    for record in checked:
        move = float(np.mean(record.logits)) - mean[record.path]
        moves[record.view].append(move / max(spread[record.fold], 1e-6))
    return {name: round(float(np.sqrt(np.mean(np.square(m)))), 3) for name, m in moves.items()}
