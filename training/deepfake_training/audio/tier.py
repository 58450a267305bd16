"""The recipe of the full tier of the ``audio`` slot: CLIP, which is not tuned, on spectra.

Files → their active parts at 16 kHz → features of the trunk of a bundle of pictures for pieces of
all files, half of them through a random channel → one linear layer on them, for every fold and on
everything → whole files in several views, by the layer that saw neither the page nor its corpus →
how the quick tier counts in it, where its run is there → the calibration.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from threading import get_ident
from typing import Any

import numpy as np
import numpy.typing as npt

from deepfake.bundle import SIGNATURE, WEIGHTS, Bundle, QuickShare
from deepfake.content.inputs import Judge, Sound
from deepfake.engine.torch_backend import load_network
from deepfake.networks.clip_speech import SIDE, ClipSpeech
from deepfake.preprocess import AudioPreprocess, Samples

from ..assess import assess, told
from ..calibrate import pool_logits
from ..card import write_card
from ..export import Trained, compile_graph, export_onnx, metrics_to_dict
from ..export_large import linear_weights, write_full_bundle
from ..files import read_times, timed
from ..fitting import prepare_process
from ..known import Known, choose_files
from ..manifests import data_sha256
from ..metrics import auc
from ..recipes import Recipe
from ..records import FileLogits, read_records, round_logits, write_records
from ..wide.bundles import MOST_LOSS, add_quick, choose_settled, cross_scores, fit_share
from ..wide.head import Head, apply_head, fit_head, put_head
from ..wide.tokens import Tokens, plan_crops, write_rows
from .families import tabulate_families
from .judging import judge_files
from .material import heard_genuine, read_recordings
from .recipe import Judging, known_files, record_of
from .recordings import Recordings, build_recordings
from .tuned import Batches

PICTURE, TRUNK = "picture.onnx", "trunk.onnx"
PRECISION = "bf16"
"""Of the trunk."""
_BATCH = 32


@dataclass(frozen=True, kw_only=True)
class SpeechTierRecipe(Recipe):
    """``material`` names folders of the data that have a manifest; ``image`` the bundle whose trunk
    is taken, up to its block ``last``, and read from ``first`` on, with the ``spread`` of patches
    or without, of pictures by ``ffts`` (see :mod:`deepfake.networks.clip_speech`); ``quick`` the
    bundle of the quick tier, whose run lies beside this one; ``pieces`` how many of them are learnt
    from, with a ``penalty`` on the squared weights; ``views`` those in which whole files are
    judged, in all but the first only one of ``thin`` files.
    """

    threads: int
    workers: int
    folds: int
    seed: int
    material: tuple[str, ...]
    image: str
    first: int
    last: int
    spread: bool
    ffts: tuple[int, ...]
    quick: str
    pieces: int
    penalty: float
    preprocess: AudioPreprocess
    judging: Judging
    views: tuple[str, ...]
    thin: int


@dataclass(frozen=True)
class Pieces:
    """The ``tokens`` of pieces by the graphs in a folder, which are those of the ``network``, with
    the trunk of the bundle ``source`` and no layer on it yet.
    """

    source: Bundle
    network: ClipSpeech
    graphs: Path
    tokens: Tokens


def make_tier(recipe: SpeechTierRecipe, *, data: Path, models: Path, output: Path) -> Bundle:
    """Run the recipe, or what an interrupted run left of it: the bundle in ``models``, from that of
    pictures there, its records in ``output``.
    """
    prepare_process(recipe.threads)
    files = read_recordings([data / name for name in recipe.material], folds=recipe.folds)
    pieces = make_pieces(recipe, files, models=models, output=output)
    tokens, network = pieces.tokens, pieces.network
    heads: dict[int, Head] = {}
    for fold in (*range(recipe.folds), -1):
        chosen = known_files(files, without=fold)[tokens.files]
        heads[fold] = fit_head(tokens, files, chosen=chosen, penalty=recipe.penalty)
    put_head(network, heads[-1])
    heard = heard_genuine(files, folds=recipe.folds)
    most = (recipe.judging.genuine, recipe.judging.synthetic)
    whole = choose_files(files, most=most, seed=recipe.judging.seed)
    first, others = recipe.views[:1], recipe.views[1:]
    with timed("judging", output):
        judged = [
            one
            for views, some in ((first, whole), (others, whole[:: recipe.thin]))
            if views
            for one in judge_files(
                files,
                some,
                networks=TierNetworks(recipe, pieces.graphs, heads),
                folder=output / "judged" / views[0],
                workers=recipe.workers,
                views=views,
            )
        ]
    own = [record_of(one, files[one.file], heard=heard[one.file]) for one in judged]
    quick = Bundle.read(models / recipe.quick)
    records, beside, share = count_quick(own, quick, run=output.with_name(recipe.quick))
    write_records(output / "out_of_fold.jsonl", records)
    quick = settle(quick, beside, records)
    by_key = {(one.path, one.view): one.logits for one in records}
    keys = [(files[one.file].item.facts["path"], one.view) for one in judged]
    families = tabulate_families(
        files,
        [
            replace(one, logits=by_key[key])
            for one, key in zip(judged, keys, strict=True)
            if key in by_key
        ],
        heard=heard,
    )
    trained = Trained(
        network=network,
        network_name="clip_speech",
        network_options=_network_options(recipe),
        preprocess=recipe.preprocess,
        records=records,
        limits=recipe.limits,
        facts={
            **_facts(recipe, files, tokens, share=share, output=output),
            **({"AUC by view": compare(own, beside, records)} if beside else {}),
        },
        families=families,
    )
    shared = pieces.source.folder / WEIGHTS
    return write_tier(recipe, trained, quick=quick, share=share, models=models, shared=shared)


def make_pieces(
    recipe: SpeechTierRecipe, files: Sequence[Known], *, models: Path, output: Path
) -> Pieces:
    """The features of the pieces of ``files`` by the trunk of the bundle of pictures in ``models``;
    what an earlier run left in ``output`` is taken from there.
    """
    with timed("recordings", output):
        recordings = build_recordings(files, output / "recordings", workers=recipe.workers)
    source = Bundle.read(models / recipe.image)
    network = ClipSpeech(**_network_options(recipe)).eval()
    pictures: Any = load_network(source)
    deeper = pictures.trunk.state_dict()
    network.trunk.load_state_dict({name: deeper[name] for name in network.trunk.state_dict()})
    if not (output / PICTURE).exists():
        window = np.zeros((2, recipe.preprocess.window_samples), np.float32)
        export_onnx(network.picture, window, output / PICTURE)
    if not (output / TRUNK).exists():
        export_onnx(network.trunk, np.zeros((2, 3, SIDE, SIDE), np.float32), output / TRUNK)
    with timed("features", output):
        tokens = measure_pieces(recipe, files, recordings, graphs=output, folder=output / "tokens")
    return Pieces(source, network, output, tokens)


def _network_options(recipe: SpeechTierRecipe) -> dict[str, Any]:
    """Those of the :class:`ClipSpeech` that the recipe makes, as a bundle stores them."""
    return {
        "samples": recipe.preprocess.window_samples,
        "first": recipe.first,
        "last": recipe.last,
        "spread": recipe.spread,
        "ffts": list(recipe.ffts),
    }


def write_tier(
    recipe: SpeechTierRecipe,
    trained: Trained,
    *,
    quick: Bundle,
    share: float,
    models: Path,
    shared: Path,
) -> Bundle:
    """The bundle in ``models`` with its card, calibrated on the records of ``trained``, in which so
    much of the ``quick`` tier's logit was counted; ``shared`` is the weights file that it is of.
    """
    each_source = recipe.calibration.each_source
    calibration, sources, views, _ = assess(trained.records, each_source=each_source)
    if share:  # each record is one logit then
        counted = QuickShare(slope=share * calibration.slope, sha256=quick.logit_sha256)
        calibration = replace(calibration, top_fraction=1.0, quick=counted)
    bundle = write_full_bundle(
        trained,
        name=recipe.name,
        calibration=calibration,
        metrics=metrics_to_dict(sources=told(sources), views=views, families=trained.families),
        quantised=linear_weights(trained.network),
        folder=models / recipe.name,
        shared=shared,
    )
    write_card(
        bundle,
        sources=told(sources),
        views=views,
        families=trained.families,
        text=asdict(recipe.card),
        command=f"deepfake recipe evaluate training/configs/{recipe.name}.toml",
        each_source=each_source,
    )
    return bundle


def measure_pieces(
    recipe: SpeechTierRecipe,
    files: Sequence[Known],
    recordings: Recordings,
    *,
    graphs: Path,
    folder: Path,
) -> Tokens:
    """Features of the pieces: every file once, then once more, and so on, half of them through a
    random channel, so that a stopped run leaves a balanced part; goes on where one stopped.
    """
    folder.mkdir(parents=True, exist_ok=True)
    batches = Batches(
        files,
        recordings,
        chosen=np.ones(len(files), np.bool_),
        preprocess=recipe.preprocess,
        seed=recipe.seed,
    )
    window = np.zeros((1, recipe.preprocess.window_samples), np.float32)
    features = _open(graphs, 0)(window).shape[1]
    plan = [
        (file, changed)
        for file, changed in plan_crops(files, crops=recipe.pieces, seed=recipe.seed)
        if recordings.readable[file]
    ]

    def see(number: int) -> npt.NDArray[np.float16]:
        file, changed = plan[number]
        rng = np.random.default_rng([recipe.seed, number])
        window = batches.window(file, rng, changed=changed)
        return np.asarray(_open(graphs, get_ident())(window[None])[0])

    with ThreadPoolExecutor(recipe.workers) as pool:
        write_rows(
            folder / "tokens.bin",
            lambda numbers: np.stack(list(pool.map(see, numbers))),
            count=len(plan),
            features=features,
            batch=_BATCH,
        )
    return Tokens(
        values=np.fromfile(folder / "tokens.bin", np.float16).reshape(-1, features),
        files=np.array([file for file, _ in plan], np.int64),
        changed=np.array([changed for _, changed in plan], np.bool_),
    )


@dataclass(frozen=True)
class TierNetworks:
    """``judge`` reads a recording for the trunk and the head of its fold."""

    judge: Judge
    graphs: Path
    heads: Mapping[int, Head]

    def logits(self, sound: Sound, *, fold: int) -> tuple[float, ...]:
        preprocess = self.judge.preprocess
        assert isinstance(preprocess, AudioPreprocess)
        heard = sound.heard_by(self.judge, most=preprocess.max_windows)
        see, head = _open(self.graphs, 0), self.heads[fold]
        return round_logits(
            float(one)
            for batch in heard.batches(self.judge)
            for one in apply_head(see(batch), head)
        )


def count_quick(
    own: Sequence[FileLogits], quick: Bundle, *, run: Path
) -> tuple[list[FileLogits], list[FileLogits], float]:
    """The records with the quick tier's logits out of fold counted in, those of the quick tier, and
    by how much they count, where its ``run`` judged the same files in the same views; the ``own``
    ones, none and 0 where it is not there. What either had heard is heard.
    """
    path = run / "out_of_fold.jsonl"
    if not path.exists():
        return list(own), [], 0.0
    found = {(one.path, one.view): one for one in read_records(path)}
    pairs = [(one, found.get((one.path, one.view))) for one in own]
    beside = [other for _, other in pairs if other is not None]
    both = [
        replace(one, heard=one.heard or other.heard) for one, other in pairs if other is not None
    ]
    pooled = [pool_logits(one, top_fraction=quick.calibration.top_fraction) for one in beside]
    unheard = [number for number, one in enumerate(both) if not one.heard]
    share = fit_share([both[n] for n in unheard], [pooled[n] for n in unheard])
    return add_quick(both, pooled, share=share), beside, share


def compare(
    own: Sequence[FileLogits], beside: Sequence[FileLogits], joined: Sequence[FileLogits]
) -> dict[str, dict[str, float]]:
    """AUC over all unheard recordings that ``joined`` tells of, by view, as the mean logit of the
    layer alone, that of the quick tier ``beside`` it, and both have it.
    """
    alone = {(one.path, one.view): one for one in own}
    told: dict[str, dict[str, float]] = {}
    for view in dict.fromkeys(one.view for one in joined):
        rows = [n for n, one in enumerate(joined) if one.view == view and not one.heard]
        labels = np.array([joined[n].label for n in rows])
        parts = {
            "alone": [alone[joined[n].path, view] for n in rows],
            "quick": [beside[n] for n in rows],
            "both": [joined[n] for n in rows],
        }
        told[view] = {
            name: round(auc(labels, np.array([np.mean(one.logits) for one in some])), 3)
            for name, some in parts.items()
        }
    return told


def settle(quick: Bundle, beside: Sequence[FileLogits], full: Sequence[FileLogits]) -> Bundle:
    """The quick bundle, changed in its folder, with the limits beyond which the full tier is not
    asked; chosen on the logits of both on the same recordings, out of fold; it settles nothing
    where there are none ``beside``, because its limits were chosen beside another full tier. Its
    signature, which would not hold any more, goes.
    """
    unheard = [number for number, one in enumerate(full) if not one.heard] if beside else []
    settled = None
    if unheard:
        settled = choose_settled(
            cross_scores([beside[n] for n in unheard], top_fraction=quick.calibration.top_fraction),
            cross_scores([full[n] for n in unheard]),
            np.array([full[n].label for n in unheard]),
            points=quick.calibration.points,
            loss=MOST_LOSS,
        )
    if settled == quick.settled:
        return quick
    quick = replace(quick, settled=settled)
    quick.write(quick.folder)
    (quick.folder / SIGNATURE).unlink(missing_ok=True)
    return quick


@lru_cache
def _open(graphs: Path, thread: int) -> Callable[[Samples], npt.NDArray[np.float16]]:
    """Windows (windows, samples) to features (windows, features), for the thread of this number,
    because one runs one batch at a time. Spectra are computed in fp32: rounded to bf16, samples
    bring noise at some -50 dB into every band.
    """
    picture = compile_graph(graphs / PICTURE, threads=1)
    trunk = compile_graph(graphs / TRUNK, threads=1, precision=PRECISION)
    return lambda windows: np.asarray(trunk(picture(windows)[0])[0], np.float16)


def _facts(
    recipe: SpeechTierRecipe,
    files: Sequence[Known],
    tokens: Tokens,
    *,
    share: float,
    output: Path,
) -> dict[str, object]:
    return {
        "seed": recipe.seed,
        "data_sha256": data_sha256(file.item for file in files),
        "files": len(files),
        "groups": len({file.group for file in files}),
        "genuine sources": len({file.source for file in files if not file.label}),
        "synthetic sources": len({file.source for file in files if file.label}),
        "pieces": len(tokens.files),
        "penalty": recipe.penalty,
        "share of the quick tier": round(share, 3),
        "network": f"of {recipe.image}, with a last layer for spectra of speech",
        "wall_seconds": round(sum(read_times(output).values())),
        "machine": f"{platform.machine()} CPU, {recipe.workers} workers of one thread",
        "tried": recipe.tried,
    }
