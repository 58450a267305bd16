"""How much of poisoned training data an audit finds, and what an attack gains before and after.

Heads as ``deepfake train`` fits them, on the fixed features of the shipped network of pictures. In
turn a third of the sources of both classes is left out: nothing of it is learnt from, and on it the
attack is tried. Of the other files a share is poisoned in one of three ways; the audit sees them as
it sees a user's.

label flips      files of either class moved to a source of the other one
blended trigger  synthetic files under a faint pattern, among the genuine ones (Chen et al. 2017)
moved trigger    the same, with the pattern begun elsewhere in each file
clean label      genuine files that are made hard to tell and get the pattern (Turner et al. 2019)
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from zlib import crc32

import numpy as np
import numpy.typing as npt
from torch import nn
from tqdm import tqdm

from deepfake.bundle import Bundle
from deepfake.files import replaced
from deepfake.media.opening import open_media
from deepfake.preprocess import ImagePreprocess
from deepfake.trust.registry import read_bundles

from ..audit.candidates import Candidate
from ..audit.duplicates import find_twins, judge_twins
from ..audit.findings import Code, Finding, trust_files
from ..audit.labels import find_wrong_labels, guess_labels
from ..audit.patterns import find_patterns
from ..audit.review import judge_activations
from ..backdoors.poisons import blend, harden, make_trigger, move, save
from ..card import markdown
from ..files import read_times, timed
from ..image.data import FACE_SOURCES
from ..metrics import auc
from ..own.auditing import Stated, align, read_candidates, read_features
from ..own.features import Known
from ..own.folds import judge_held_out, make_folds
from ..own.head import Lessons, fit_head
from ..own.material import Source, find_sources
from ..own.network import Linear, open_network
from ..own.views import CLEAN, View, list_views

FLIPS, BLENDED, CLEAN_LABEL = "label flips", "blended trigger", "clean label"
MOVED = "moved trigger"
VIEWS = (CLEAN, "web", "history 1")
FALSE_POSITIVES = 0.05
"""Of the genuine files of left-out sources, at which an attack is judged."""
METHODS: Mapping[str, tuple[Code, ...]] = {
    "gate": (Code.TWIN_CLASSES, Code.LABEL, Code.PATTERN),
    "labels": (Code.LABEL,),
    "pattern": (Code.PATTERN,),
    "twins": (Code.TWIN_CLASSES,),
    "signature": (Code.SPECTRAL,),
    "clusters": (Code.CLUSTER,),
    "outliers": (Code.OUTLIER,),
}
JOINT = "labels, no source"
"""Confident learning alone, without a look at the source."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """``limit`` files of each source are taken, ``stamped`` of them get a trigger; ``folds`` of the
    three thirds are left out in turn.
    """

    limit: int = 50
    stamped: int = 12
    folds: int = 3
    rates: tuple[float, ...] = (0.01, 0.02, 0.05)
    seed: int = 1


QUICK = Plan(limit=12, stamped=6, folds=1, rates=(0.1,))


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One kind and rate with one third left out. ``found`` and ``false`` are shares of poisoned and
    of other files by method. ``missed`` are shares of left-out synthetic files that pass with a
    trigger, ``plain`` of the same files without, ``auc`` of left-out files, each by heads that
    learnt the files unpoisoned, poisoned, and poisoned with suspicious ones weighed down.
    """

    kind: str
    rate: float
    fold: int
    poisoned: int
    files: int
    tested: int
    found: dict[str, float]
    false: dict[str, float]
    missed: tuple[float, float, float]
    plain: tuple[float, float, float]
    auc: tuple[float, float, float]


@dataclass(frozen=True)
class Pool:
    """The files with their features and facts, and of some the same file with a trigger, by the
    path of the file as it was; ``moved`` are those of which each has it elsewhere.
    """

    known: Sequence[Known]
    facts: Mapping[Path, Candidate]
    stamped: Mapping[Path, Known]
    moved: Mapping[Path, Known]
    views: Sequence[View]


def study(
    data: Path, *, runs: Path, models: Path, plan: Plan | None = None, threads: int = 1
) -> list[Cell]:
    """Every cell; what is done stays in ``runs/poisoning`` and is not done again."""
    plan = plan or Plan()
    output = runs / "poisoning"
    output.mkdir(parents=True, exist_ok=True)
    with timed("features", output):
        pool = gather_pool(data / "image", output, models=models, plan=plan, threads=threads)
    cells = []
    kinds = (FLIPS, BLENDED, CLEAN_LABEL, MOVED)
    wanted = [(k, r, f) for f in range(plan.folds) for k in kinds for r in plan.rates]
    for kind, rate, fold in tqdm(wanted, desc="poisonings", disable=None):
        words = f"{plan.seed}-{plan.limit}-{plan.stamped}-{kind}-{rate:g}-{fold}"
        told = output / f"{words.replace(' ', '-')}.json"
        if not told.exists():
            with timed("audits and heads", output):
                cell = try_poison(pool, kind=kind, rate=rate, fold=fold, seed=plan.seed)
            with replaced(told) as partial:
                partial.write_text(json.dumps(asdict(cell)))
        values = json.loads(told.read_text())
        triples = {name: tuple(values[name]) for name in ("missed", "plain", "auc")}
        cells.append(Cell(**values | triples))
    return cells


def gather_pool(folder: Path, output: Path, *, models: Path, plan: Plan, threads: int) -> Pool:
    """Features and facts of the pictures in ``real`` and ``fake`` of a folder, with a folder for
    every source, and of some of them with a trigger.
    """
    genuine, synthetic = (
        sorted(
            place
            for place in (folder / word).iterdir()
            if place.is_dir() and place.name not in FACE_SOURCES
        )
        for word in ("real", "fake")
    )
    sources = find_sources(genuine, synthetic, limit=plan.limit, seed=plan.seed)
    active = read_bundles(models)
    base = active["image"]
    views = [view for view in list_views("image", seed=plan.seed) if view.name in VIEWS]
    stamped, before = stamp(sources, base, output / "stamped", plan=plan)
    fakes = [source for source in sources if source.label]
    moved, also = stamp(fakes, base, output / "stamped", plan=plan, moving=True)
    gathered = [
        read_features(some, base, active, views, work=output, threads=threads, seed=plan.seed).files
        for some in (sources, stamped, moved)
    ]
    stated = [
        Stated(path=one.path, name=one.path.name, label=one.label, source=one.source)
        for some in gathered
        for one in some
    ]
    candidates, _ = read_candidates(stated, output)
    return Pool(
        gathered[0],
        {one.path: one for one in candidates},
        {before[one.path]: one for one in gathered[1]},
        {also[one.path]: one for one in gathered[2]},
        views,
    )


def stamp(
    sources: Sequence[Source], base: Bundle, folder: Path, *, plan: Plan, moving: bool = False
) -> tuple[list[Source], dict[Path, Path]]:
    """Files with a trigger, as sources of their own, and which file each was: synthetic ones under
    the pattern, genuine ones made hard to tell before.
    """
    trigger = make_trigger(plan.seed)
    network: nn.Module | None = None
    assert isinstance(base.preprocess, ImagePreprocess)
    made, before = [], {}
    for source in tqdm(sources, desc="triggers", disable=None):
        chosen = [*source.files]
        np.random.default_rng(plan.seed).shuffle(chosen)
        paths = []
        for path in chosen[: plan.stamped]:
            word = "moved" if moving else str(source.label)
            place = folder / f"{plan.seed}-{word}" / source.name / f"{path.name}.jpg"
            if not place.exists():
                network = network or open_network(base).network.requires_grad_(False)
                with open_media(path) as media:
                    pixels = media.image()
                if not source.label:
                    side = base.preprocess.side_pixels
                    pixels = harden(pixels, network, side=side, towards=1)
                place.parent.mkdir(parents=True, exist_ok=True)
                with replaced(place) as partial:
                    drawn = move(trigger, seed=crc32(path.name.encode())) if moving else trigger
                    partial.write_bytes(save(blend(pixels, drawn)))
            paths.append(place)
            before[place] = path
        made.append(Source(source.name, source.label, tuple(paths)))
    return made, before


def try_poison(pool: Pool, *, kind: str, rate: float, fold: int, seed: int) -> Cell:
    """Poison what is learnt from, audit it, and try three heads on what was left out."""
    thirds = make_folds(pool.known, split="source", seed=seed)
    out = frozenset().union(*(one.files for one in thirds[fold::3]))
    clean = [one for number, one in enumerate(pool.known) if number not in out]
    tested = [pool.known[number] for number in sorted(out)]
    poisoned, bad = poison(pool, clean, kind=kind, rate=rate, seed=seed)
    lessons = Lessons.read(poisoned, pool.views)
    findings, joint = audit_files(pool, poisoned, lessons, seed=seed)
    flagged = {
        name: np.isin(
            np.arange(len(poisoned)), [n for it in findings if it.code in codes for n in it.files]
        )
        for name, codes in METHODS.items()
    }
    flagged[JOINT] = joint
    weighed = replace(lessons, trust=trust_files(findings, count=len(poisoned)))
    heads = [
        _fit(Lessons.read(clean, pool.views), clean),
        _fit(lessons, poisoned),
        _fit(weighed, poisoned),
    ]
    marked = pool.moved if kind == MOVED else pool.stamped
    tries = [_try(head, tested, marked) for head in heads]
    missed, plain, areas = zip(*tries, strict=True)
    return Cell(
        kind=kind,
        rate=rate,
        fold=fold,
        poisoned=int(bad.sum()),
        files=len(poisoned),
        tested=sum(one.label == 1 and one.path in marked for one in tested),
        found={name: float(them[bad].mean()) for name, them in flagged.items()},
        false={name: float(them[~bad].mean()) for name, them in flagged.items()},
        missed=missed,
        plain=plain,
        auc=areas,
    )


def poison(
    pool: Pool, files: Sequence[Known], *, kind: str, rate: float, seed: int
) -> tuple[list[Known], npt.NDArray[np.bool_]]:
    """The files with a share of them poisoned, and which ones (files,) are. A poisoned file takes
    the place of the one that it was made of.
    """
    rng = np.random.default_rng(seed)
    names = [sorted({one.source for one in files if one.label == label}) for label in (0, 1)]
    target = {BLENDED: 1, MOVED: 1, CLEAN_LABEL: 0}.get(kind)
    marked = pool.moved if kind == MOVED else pool.stamped
    able = [
        number
        for number, one in enumerate(files)
        if target is None or (one.label == target and one.path in marked)
    ]
    chosen = rng.permutation(able)[: max(1, round(rate * len(files)))]
    made, bad = [*files], np.zeros(len(files), np.bool_)
    bad[chosen] = True
    for number in chosen.tolist():
        one = files[number]
        source = one.source if kind == CLEAN_LABEL else str(rng.choice(names[1 - one.label]))
        label = one.label if kind == CLEAN_LABEL else 1 - one.label
        shown = one if kind == FLIPS else marked[one.path]
        made[number] = shown._replace(label=label, source=source)
    return made, bad


def audit_files(
    pool: Pool, files: Sequence[Known], lessons: Lessons, *, seed: int
) -> tuple[list[Finding], npt.NDArray[np.bool_]]:
    """What an audit finds in them, and which ones (files,) confident learning alone would doubt."""
    candidates = [
        replace(pool.facts[one.path], label=one.label, source=one.source) for one in files
    ]
    views = [view for view in pool.views if view.name in VIEWS[:2]]
    folds = make_folds(files, split="source", seed=seed)
    fit = partial(fit_head, lessons, files, shipped=None)
    judged = judge_held_out(files, fit, folds, views)
    evidence = align(candidates, files, folds, judged)
    labels = np.array([one.label for one in files])
    guesses = guess_labels(labels, evidence.odds)
    twins = find_twins(candidates)
    findings = [
        *judge_twins(candidates, twins),
        *find_wrong_labels(candidates, evidence.odds),
        *find_patterns(candidates, twins),
        *judge_activations(candidates, evidence.features, seed=seed),
    ]
    return findings, (guesses >= 0) & (guesses != labels)


def tabulate(cells: Sequence[Cell], times: Mapping[str, float]) -> str:
    """Markdown: what was found, by method; and what the attack gains. Means over what was left
    out.
    """
    groups: dict[tuple[str, float], list[Cell]] = defaultdict(list)
    for cell in cells:
        groups[cell.kind, cell.rate].append(cell)
    methods = [*METHODS, JOINT]
    found, gains = [], []
    for (kind, rate), own in groups.items():
        start = [kind, f"{rate:.0%}", f"{np.mean([one.poisoned for one in own]):.0f}"]
        shares = [
            f"{np.mean([one.found[name] for one in own]):.2f} / "
            f"{np.mean([one.false[name] for one in own]):.3f}"
            for name in methods
        ]
        found.append([*start, *shares])
        means = [np.mean([getattr(one, name) for one in own], axis=0) for name in _GAINS]
        gains.append([*start[:2], *(f"{value:.2f}" for row in means for value in row)])
    head = ["poison", "share", "files", *methods]
    columns = [f"{what}, {which}" for what in _GAINS.values() for which in _HEADS]
    tried = sum(one.tested for one in next(iter(groups.values())))
    seconds = ", ".join(f"{name} {value:.0f} s" for name, value in times.items())
    return (
        "found / false alarms, as shares of poisoned and of other files:\n\n"
        f"{markdown(head, found)}\n"
        f"what {tried} synthetic files of left-out sources gain by the trigger, where "
        f"{FALSE_POSITIVES:.0%} of genuine ones are accused:\n\n"
        f"{markdown(['poison', 'share', *columns], gains)}\n"
        f"{len(cells)} audits of about {np.mean([one.files for one in cells]):.0f} files and three "
        f"heads after each; {seconds}\n"
    )


_GAINS = {"missed": "passes with trigger", "plain": "without", "auc": "AUC"}
_HEADS = ("unpoisoned", "poisoned", "weighed")


def print_study(
    data: Path,
    *,
    runs: Path,
    models: Path,
    quick: bool,
    seed: int,
    folds: int = 3,
    threads: int = 1,
) -> None:
    """Run the study and print its tables."""
    plan = replace(QUICK if quick else Plan(folds=folds), seed=seed)
    cells = study(data, runs=runs, models=models, plan=plan, threads=threads)
    print(tabulate(cells, read_times(runs / "poisoning")))


def _fit(lessons: Lessons, files: Sequence[Known]) -> Linear:
    return fit_head(lessons, files, np.ones(len(files), np.bool_), shipped=None)


def _try(
    head: Linear, tested: Sequence[Known], stamped: Mapping[Path, Known]
) -> tuple[float, float, float]:
    """The shares of synthetic files that pass with a trigger and without, and the AUC."""
    logits = np.array([_judge(head, one) for one in tested])
    labels = np.array([one.label for one in tested], np.float64)
    limit = float(np.quantile(logits[labels == 0], 1 - FALSE_POSITIVES))
    both = [n for n, one in enumerate(tested) if one.label and one.path in stamped]
    marked = np.array([_judge(head, stamped[tested[n].path]) for n in both])
    return (
        float((marked <= limit).mean()),
        float((logits[both] <= limit).mean()),
        auc(labels, logits),
    )


def _judge(head: Linear, one: Known) -> float:
    rows = next(rows for rows in one.read() if rows.view == CLEAN)
    return float(head(rows.rows[:, :-1]).mean())
