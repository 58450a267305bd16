"""What the full tier of speech owes to the variety of its material: its last layer again and again,
from fewer sources, without pairs, channels or copies, on pages and corpora that it did not hear.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from deepfake.bundle import Bundle

from ..calibrate import pool_logits
from ..card import markdown
from ..fitting import prepare_process
from ..known import Known, choose_files
from ..metrics import auc, eer, separation, tpr_at_fpr
from ..records import round_logits
from ..wide.head import apply_head, fit_head
from ..wide.tokens import Tokens
from .judging import Judged
from .material import heard_genuine, is_own_copy, page_of, read_recordings, system_of
from .recipe import known_files, record_of
from .tier import SpeechTierRecipe, count_quick, make_pieces

GENUINE, SYNTHETIC = (12, 60), (21, 120)
"""Numbers of sources of each class that are learnt from, beside all of them."""
ALL = "all"
"""The variant that learns from whatever the layer of a fold may hear."""
STATISTICS = ("class tokens", "means", "spreads")
"""What the trunk tells of every block, in this order, one number for each of its channels; the last
not always.
"""
DRAWS = 3
LEAST_FILES = 3
"""Files of a system, whatever page they are on, from which it has an AUC of its own."""
FIGURES = ("mean over systems", "AUC", "EER", "TPR at 1 % FPR")
"""Those of :func:`rate`."""
COLUMNS = ("recordings", "genuine sources", "synthetic sources", *FIGURES, "AUC, channels")

Mask = npt.NDArray[np.bool_]
Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Variant:
    """``chosen`` (draws, folds, pieces) are what the layer that leaves a fold out learns from."""

    name: str
    chosen: Mask


def print_ablation(
    recipe: SpeechTierRecipe,
    *,
    data: Path,
    models: Path,
    runs: Path,
    quick: bool = False,
    limit: int = 0,
) -> None:
    """Print how well one logistic regression for every fold tells recordings of other folds, from
    one piece or a few of each, when it learns from less; and the quick network beside it, where its
    run judged the same. The features that a run of the recipe left in ``runs`` are taken; what is
    missing is made.

    What is drawn by chance is drawn :data:`DRAWS` times, with ``quick`` once. With ``limit`` only
    so many recordings of each source are taken, in two pieces, for which ``runs`` must be a folder
    of its own. Raises ``OSError`` for missing material, ``ModelError`` for missing bundles and
    ``SettingsError`` where the run is of other recordings.
    """
    prepare_process(recipe.threads)
    output, draws = runs / recipe.name, 1 if quick else DRAWS
    output.mkdir(parents=True, exist_ok=True)
    files = read_recordings([data / name for name in recipe.material], folds=recipe.folds)
    if limit:
        files = [files[n] for n in choose_files(files, most=(limit, limit), seed=recipe.seed)]
        recipe = replace(recipe, pieces=min(recipe.pieces, 2 * len(files)))
    tokens = make_pieces(recipe, files, models=models, output=output).tokens
    heard = heard_genuine(files, folds=recipe.folds)
    variants = list_variants(files, tokens, folds=recipe.folds, seed=recipe.seed, draws=draws)
    narrowed = list_narrowed(
        tokens,
        blocks=recipe.last - recipe.first + 1,
        statistics=STATISTICS[: 3 if recipe.spread else 2],
    )
    seen = {variant.name: tokens for variant in variants} | narrowed
    variants += [Variant(name, variants[0].chosen) for name in narrowed]
    total = sum(len(variant.chosen) * recipe.folds for variant in variants)
    with tqdm(total=total, desc="regressions", mininterval=5) as progress:
        said = {
            variant.name: [
                judge_pieces(
                    files, seen[variant.name], own, penalty=recipe.penalty, tick=progress.update
                )
                for own in variant.chosen
            ]
            for variant in variants
        }
    rows = [tell(one, files, tokens, said[one.name], heard=heard) for one in variants]
    print(
        f"{recipe.name}, a last layer without each of {recipe.folds} folds, on {len(tokens.files)} "
        f"pieces of {len(files)} recordings; draws by chance: {draws}, of which the mean is told\n"
    )
    print(markdown(["learnt from", *COLUMNS], rows))
    plain = join_pieces(tokens, said[ALL][0], changed=False, heard=heard)
    if beside := compare_quick(recipe, files, plain, models=models, runs=runs):
        print("All of the material, on what the quick network heard too (whole recordings)\n")
        print(markdown(["heard by", "recordings", *FIGURES], beside))


def list_variants(
    files: Sequence[Known], tokens: Tokens, *, folds: int, seed: int, draws: int
) -> list[Variant]:
    """All of the material that the layer of a fold may hear; fewer sources of a class and all of
    the other, the same ones and more each time; few of both; all of it without pairs; the first of
    the pieces; those that went through no channel and, because these are half of all, as many of
    both kinds by chance; and all without our own copies of genuine recordings, where there are any.
    """
    there = np.isin(np.arange(len(files)), tokens.files)
    known = np.stack([known_files(files, without=fold) & there for fold in range(folds)])
    numbers = [
        [number for number in numbers if number < _fewest_sources(files, known, label)]
        for label, numbers in enumerate((GENUINE, SYNTHETIC))
    ]

    def few(genuine: int | None, synthetic: int | None) -> Mask:
        most, own = (genuine, synthetic), range(draws)
        return np.stack([choose_sources(files, known, most=most, seed=(seed, n)) for n in own])

    masks = {ALL: known[None]}
    masks |= {f"{number} genuine sources": few(number, None) for number in numbers[0]}
    masks |= {f"{number} synthetic sources": few(None, number) for number in numbers[1]}
    if all(numbers):
        genuine, synthetic = numbers[0][0], numbers[1][0]
        masks[f"{synthetic} synthetic, {genuine} genuine sources"] = few(genuine, synthetic)
    masks["without pairs"] = np.stack(
        [break_pairs(files, known, seed=(seed, draw)) for draw in range(draws)]
    )
    chosen = {name: mask[:, :, tokens.files] for name, mask in masks.items()}
    plain = chosen[ALL] & ~tokens.changed
    for name, share in (("the first quarter of the pieces", 4), ("the first half", 2)):
        chosen[name] = chosen[ALL] & (np.arange(len(tokens.files)) < len(tokens.files) // share)
    chosen["without channels"] = plain
    chosen["as many pieces by chance"] = np.stack(
        [draw_as_many(chosen[ALL][0], plain[0], seed=(seed, draw)) for draw in range(draws)]
    )
    copies = np.array([is_own_copy(file.item) for file in files])
    if copies[tokens.files].any():
        chosen["without our own copies"] = chosen[ALL] & ~copies[tokens.files]
    return [Variant(name, pieces) for name, pieces in chosen.items()]


def list_narrowed(
    tokens: Tokens, *, blocks: int, statistics: Sequence[str] = STATISTICS
) -> dict[str, Tokens]:
    """The tokens of a trunk that tells these ``statistics`` of so many ``blocks`` without one of
    them, for each.
    """
    count = len(tokens.values)
    parts = tokens.values.reshape(count, blocks, len(statistics), -1)
    return {
        f"without {name}": replace(
            tokens, values=np.delete(parts, number, axis=2).reshape(count, -1)
        )
        for number, name in enumerate(statistics)
    }


def choose_sources(
    files: Sequence[Known], known: Mask, *, most: tuple[int | None, int | None], seed: Sequence[int]
) -> Mask:
    """Of the files that are ``known`` (folds, files), those of the first ``most`` genuine and
    synthetic sources (``None`` for all), in a random order that is the same for every fold and
    number, of those that a fold knows. A larger number so holds what a smaller one holds.
    """
    labels, sources = _labels(files), np.array([file.source for file in files])
    chosen = np.zeros_like(known)
    for label, number in enumerate(most):
        of_class = labels == label
        rng = np.random.default_rng((*seed, label))
        order = rng.permutation(np.unique(sources[of_class]))
        for fold, own in enumerate(known & of_class):
            first = order[np.isin(order, sources[own])][:number]
            chosen[fold] |= own & np.isin(sources, first)
    return chosen


def break_pairs(files: Sequence[Known], known: Mask, *, seed: Sequence[int]) -> Mask:
    """The files that are ``known`` (folds, files) without the pairs: of a page of which both
    classes are known in a fold, only one stays, the synthetic recordings of every second page and
    the genuine ones of the others, in a random order. So nothing is left that differs in its class
    alone and not in speakers, texts, microphones and formats, but for what two pages share.
    """
    synthetic = _labels(files) == 1
    pages = np.array([page_of(file.item) for file in files])
    order = np.random.default_rng(seed).permutation(np.unique(pages))
    kept = known.copy()
    for fold, own in enumerate(known):
        paired = np.isin(order, pages[own & synthetic]) & np.isin(order, pages[own & ~synthetic])
        both = order[paired]
        kept[fold] &= ~np.where(synthetic, np.isin(pages, both[1::2]), np.isin(pages, both[::2]))
    return kept


def draw_as_many(pieces: Mask, some: Mask, *, seed: Sequence[int]) -> Mask:
    """Of ``pieces`` (folds, pieces) as many for every fold as ``some`` (folds, pieces) has of them,
    drawn by chance.
    """
    order = np.random.default_rng(seed).permutation(pieces.shape[1])
    drawn = np.zeros_like(pieces)
    for own, other, into in zip(pieces, some, drawn, strict=True):
        into[order[own[order]][: other.sum()]] = True
    return drawn


def judge_pieces(
    files: Sequence[Known],
    tokens: Tokens,
    chosen: Mask,
    *,
    penalty: float,
    tick: Callable[[], object] = lambda: None,
) -> npt.NDArray[np.float64]:
    """Logits (pieces,) of all pieces by the regression without their fold, on the pieces that are
    ``chosen`` (folds, pieces) for it; NaN where these are of one class. After each it calls
    ``tick``.
    """
    homes = np.array([file.fold for file in files])[tokens.files]
    labels, logits = _labels(files)[tokens.files], np.full(len(homes), np.nan)
    for fold, own in enumerate(chosen):
        if len(np.unique(labels[own])) == 2:
            head = fit_head(tokens, files, chosen=own, penalty=penalty)
            logits[homes == fold] = apply_head(tokens.values[homes == fold], head)
        tick()
    return logits


def join_pieces(
    tokens: Tokens, logits: Array, *, changed: bool, heard: Sequence[bool]
) -> dict[int, float]:
    """The mean logit of every file that is not ``heard`` (files,), by its number, over its pieces
    that are as they are, or over those that are ``changed``.
    """
    kind = (tokens.changed == changed) & ~np.array(heard)[tokens.files]
    files, places, counts = np.unique(tokens.files[kind], return_inverse=True, return_counts=True)
    means = np.bincount(places, logits[kind], minlength=len(files)) / counts
    return dict(zip(files.tolist(), means.tolist(), strict=True))


def rate(files: Sequence[Known], logits: Array) -> list[float]:
    """The :data:`FIGURES` of ``files`` by their logits (files,). A system is compared with the
    genuine recordings of the folds that it is in, all else with all; NaN where a class is missing
    or a logit is NaN.
    """
    if np.isnan(logits).any():
        return [float("nan")] * len(FIGURES)
    labels, folds = _labels(files), np.array([file.fold for file in files])
    systems = np.array([system_of(file.source) for file in files])
    single = []
    for name in np.unique(systems[labels == 1]):
        own = (systems == name) & (labels == 1)
        if own.sum() >= LEAST_FILES:
            beside = (labels == 0) & np.isin(folds, folds[own])
            single.append(separation(logits[own].tolist(), logits[beside].tolist()))
    told = [one for one in single if not np.isnan(one)]
    return [
        float(np.mean(told)) if told else float("nan"),
        auc(labels, logits),
        eer(labels, logits),
        tpr_at_fpr(labels, logits, fpr=0.01),
    ]


def tell(
    variant: Variant,
    files: Sequence[Known],
    tokens: Tokens,
    said: Sequence[Array],
    *,
    heard: Sequence[bool],
) -> list[object]:
    """The row of a variant: its name and the :data:`COLUMNS` of the logits (pieces,) ``said`` in
    every draw; sources and figures are means, those of sources over the folds too.
    """
    figures = []
    for logits in said:
        plain = join_pieces(tokens, logits, changed=False, heard=heard)
        changed = join_pieces(tokens, logits, changed=True, heard=heard)
        figures.append([*_rate(files, plain), _rate(files, changed)[FIGURES.index("AUC")]])
    learnt = [
        [_count_sources(files, tokens.files[own], label) for draw in variant.chosen for own in draw]
        for label in (0, 1)
    ]
    counts = [round(float(np.mean(one))) for one in learnt]
    return [variant.name, len(plain), *counts, *np.mean(figures, axis=0).tolist()]


def compare_quick(
    recipe: SpeechTierRecipe,
    files: Sequence[Known],
    plain: Mapping[int, float],
    *,
    models: Path,
    runs: Path,
) -> list[list[object]]:
    """Rows of the layer with the logits ``plain`` of files, by their number, of the quick network,
    and of both as the full tier counts the quick one in, on the files that both judged as they are
    and neither heard; none where there is no run of the quick network.
    """
    numbers = {files[number].item.facts["path"]: number for number in plain}
    own = [
        record_of(Judged(number, "clean", round_logits([logit])), files[number], heard=False)
        for number, logit in plain.items()
    ]
    quick = Bundle.read(models / recipe.quick)
    joined, beside, share = count_quick(own, quick, run=runs / recipe.quick)
    if not beside:
        return []
    unheard = [pair for pair in zip(joined, beside, strict=True) if not pair[0].heard]
    both = [files[numbers[one.path]] for one, _ in unheard]
    logits = {
        "the layer": [plain[numbers[one.path]] for one, _ in unheard],
        "the quick network": [
            pool_logits(one, top_fraction=quick.calibration.top_fraction) for _, one in unheard
        ],
        f"both, the quick one counted {share:.2f} times": [one.logits[0] for one, _ in unheard],
    }
    return [[name, len(both), *rate(both, np.array(odds))] for name, odds in logits.items()]


def _labels(files: Sequence[Known]) -> Array:
    return np.array([float(file.label) for file in files])


def _rate(files: Sequence[Known], said: Mapping[int, float]) -> list[float]:
    return rate([files[number] for number in said], np.array(list(said.values())))


def _count_sources(files: Sequence[Known], numbers: npt.NDArray[np.int64], label: int) -> int:
    return len({files[n].source for n in np.unique(numbers).tolist() if files[n].label == label})


def _fewest_sources(files: Sequence[Known], known: Mask, label: int) -> int:
    return min(_count_sources(files, np.flatnonzero(own), label) for own in known)
