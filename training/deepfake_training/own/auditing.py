"""The audit of training data, as a command of its own and as the gate of ``deepfake train``."""

from __future__ import annotations

import os
import sys
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from rich.console import Console
from tqdm import tqdm

from deepfake.bundle import Bundle
from deepfake.errors import Cancelled, DeepfakeError, ModelError, SettingsError
from deepfake.faults import contain_faults
from deepfake.media.opening import open_media
from deepfake.settings import Settings
from deepfake.text import display_name, printable
from deepfake.trust.registry import read_bundles
from deepfake.trust.signatures import Trust, require_signed
from deepfake.types import Kind
from deepfake.version import VERSION

from ..audit.candidates import Array, Candidate
from ..audit.decisions import read_decisions
from ..audit.facts import keep_facts
from ..audit.findings import KINDS
from ..audit.provenance import find_terms, states_terms
from ..audit.review import PAGE, TABLE, Evidence, Review, print_review, review, write_review
from ..calibrate import pool_logits
from ..evaluation.material import limit_each, read_material
from .features import Gathered, Known, gather
from .folds import Fold, Judged, judge_held_out, make_folds
from .head import Lessons, fit_head
from .material import Source, find_sources
from .network import FeatureGraph, digest
from .reading import Recorder
from .views import CLEAN, View, list_views

GATES = ("warn", "weigh", "refuse", "off")
_SLOTS = {Kind.IMAGE: "image", Kind.AUDIO: "audio", Kind.VIDEO: "video"}
_SPLITS = ("split", "fold", "partition", "subset")
_ORIGINS = ("origin", "repo", "url", "original_path", "provenance")
_LICENCES = ("licence", "license", "terms", "rights")


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a user asks to be audited: one labelled folder or manifest (``place``), or folders of
    both classes. ``threads`` 0 stands for all cores; ``limit`` is the most files of each source.
    """

    output: Path
    models: Path
    place: Path | None = None
    genuine: Sequence[Path] = ()
    synthetic: Sequence[Path] = ()
    limit: int | None = None
    threads: int = 0
    seed: int = 1
    decisions: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Stated:
    """What is said of a file before it is opened."""

    path: Path
    name: str
    label: int
    source: str
    facts: Mapping[str, str] = field(default_factory=dict)


def audit(request: Request, *, console: Console) -> Review:
    """Audit, print what was found, and write the page and the table of decisions.

    What was computed stays in ``OUTPUT.work``, from which the same command goes on after a stop.
    Raises ``SettingsError`` for what cannot be audited.
    """
    decided = read_decisions(request.decisions) if request.decisions else {}
    stated = list_stated(request)
    work = request.output.with_name(f"{request.output.name}.work")
    work.mkdir(parents=True, exist_ok=True)
    candidates, unread = read_candidates(stated, work)
    if not candidates:
        raise SettingsError("audit: none of the files can be read", hint="see what was told above")
    kinds = Counter(one.info.kind for one in candidates)
    slot = _SLOTS[kinds.most_common(1)[0][0]]
    known, folds, judged = look(request, candidates, slot, work)
    found = review(
        candidates,
        align(candidates, known, folds, judged),
        seed=request.seed,
        stated=any(one.facts for one in stated),
        decided=decided,
        unread=unread,
    )
    write_review(found, request.output, decided=decided)
    print_review(found, console)
    console.out(f"\nlook at {display_name(request.output / PAGE)}, decide in {TABLE} beside it")
    return found


def list_stated(request: Request) -> list[Stated]:
    """The files, as a manifest or folders name them."""
    if request.place is not None:
        samples = limit_each(
            read_material(request.place), most=request.limit or 0, seed=request.seed
        )
        return [
            Stated(
                path=one.path,
                name=one.name,
                label=int(one.synthetic),
                source=one.source,
                facts=one.facts,
            )
            for one in samples
        ]
    sources = find_sources(
        request.genuine,
        request.synthetic,
        split="random",
        limit=request.limit,
        seed=request.seed,
    )
    return [
        Stated(path=path, name=str(path), label=source.label, source=source.name)
        for source in sources
        for path in source.files
        if not states_terms(path)
    ]


def read_candidates(
    stated: Sequence[Stated], work: Path
) -> tuple[list[Candidate], list[tuple[str, str]]]:
    """Every file that can be opened with its facts, and of the others the name and the reason."""
    folder = work / f"facts-{digest(VERSION)}"
    folder.mkdir(parents=True, exist_ok=True)
    found: list[Candidate] = []
    unread: list[tuple[str, str]] = []
    terms: dict[Path, str] = {}
    with tqdm(stated, desc="facts", unit="file", disable=None, mininterval=1) as bar:
        for one in bar:
            try:
                with contain_faults(str(one.path)), open_media(one.path) as media:
                    facts, info = keep_facts(media, folder), media.info
            except Cancelled:
                raise
            except DeepfakeError as error:
                unread.append((one.name, printable(str(error), most=300)))
                bar.write(f"left out: {unread[-1][1]}", file=sys.stderr)
                continue
            beside = one.path.parent
            if beside not in terms:
                terms[beside] = find_terms(beside)
            licence = _first(one.facts, _LICENCES) or terms[beside]
            found.append(
                Candidate(
                    path=one.path,
                    name=one.name,
                    label=one.label,
                    source=one.source,
                    info=info,
                    facts=facts,
                    group=one.facts.get("repo", ""),
                    split=_first(one.facts, _SPLITS),
                    licence=licence,
                    origin=_first(one.facts, _ORIGINS),
                    recorded=one.facts.get("sha256", "").strip().lower(),
                )
            )
    return found, unread


def look(
    request: Request, candidates: Sequence[Candidate], slot: str, work: Path
) -> tuple[Sequence[Known], Sequence[Fold], Sequence[Judged]]:
    """What the shipped network of a slot sees of the files, as they are and after one change of
    both classes alike, and what heads that were fitted to the changed ones say of sources that they
    never saw; nothing where there are too few.
    """
    active = read_bundles(request.models)
    if slot not in active:
        raise ModelError(f"slot {slot}: no bundle in {request.models}", hint="leave --models out")
    trust = Trust.read(Settings(models_folder=request.models))
    for text in require_signed(active.values(), trust):
        print(f"warning: {text}", file=sys.stderr)
    views = list_views(slot, seed=request.seed)[:2]
    gathered = read_features(
        _make_sources(candidates),
        active[slot],
        active,
        views,
        work=work,
        threads=request.threads or len(os.sched_getaffinity(0)),
        seed=request.seed,
    )
    known = gathered.files
    sources = Counter(label for label, _ in {(one.label, one.source) for one in known})
    if not known or min(sources[0], sources[1]) < 2:
        print(
            "warning: fewer than two sources a class can be judged: labels are not looked at",
            file=sys.stderr,
        )
        return known, [], []
    folds = make_folds(known, split="source", seed=request.seed)
    fit = partial(fit_head, Lessons.read(known, views), known, shipped=None)
    return known, folds, judge_held_out(known, fit, folds, views)


def read_features(
    sources: Sequence[Source],
    base: Bundle,
    active: Mapping[str, Bundle],
    views: Sequence[View],
    *,
    work: Path,
    threads: int,
    seed: int,
) -> Gathered:
    """The files of the sources that can be judged, with their features kept in ``work``."""
    cv2.setNumThreads(threads)
    graph = FeatureGraph(base, folder=work, threads=threads)
    key = digest(VERSION, base.sha256, seed, [view.name for view in views])
    recorder = Recorder(Settings(device="cpu", threads=threads), active, base, graph)
    try:
        return gather(sources, recorder, views, folder=work / f"features-{key}")
    finally:
        recorder.close()


def align(
    candidates: Sequence[Candidate],
    known: Sequence[Known],
    folds: Sequence[Fold],
    judged: Sequence[Judged],
) -> Evidence:
    """What the network says, in the order of the candidates: of those with one content, of the
    first of its class and source.
    """
    places: dict[tuple[str, int], int] = {}
    for number, candidate in enumerate(candidates):
        places.setdefault((candidate.info.sha256, candidate.label), number)
    numbers = [places[one.info.sha256, one.label] for one in known]
    rows = [_see(one) for one in known]
    width = len(rows[0]) if rows else 1
    features = np.full((len(candidates), width), np.nan)
    features[numbers] = np.array(rows).reshape(len(rows), width)
    logits: dict[str, list[float]] = defaultdict(list)
    for each in judged:
        logits[each.record.path].append(pool_logits(each.record, top_fraction=1.0))
    odds = np.full(len(candidates), np.nan)
    for number, one in zip(numbers, known, strict=True):
        if str(one.path) in logits:
            odds[number] = np.mean(logits[str(one.path)])
    return Evidence(
        features=features,
        odds=odds,
        folds=[frozenset(numbers[n] for n in fold.files) for fold in folds],
    )


@dataclass(frozen=True)
class Gate:
    """What ``deepfake train`` does about suspicious files: ``warn``, ``weigh`` them down,
    ``refuse`` to train, or ``off``. ``decided`` is what somebody decided, by sha256.
    """

    act: str = "warn"
    decided: Mapping[str, str] = field(default_factory=dict)

    def drop(self, gathered: Gathered) -> Gathered:
        """The same without the files that are to be dropped."""
        kept = tuple(one for one in gathered.files if self.decided.get(one.info.sha256) != "drop")
        left_out = gathered.left_out.copy()
        if len(kept) < len(gathered.files):
            left_out["dropped by decision"] += len(gathered.files) - len(kept)
        return Gathered(kept, left_out)

    def judge(
        self,
        known: Sequence[Known],
        folds: Sequence[Fold],
        judged: Sequence[Judged],
        *,
        work: Path,
        seed: int,
    ) -> Array:
        """What each file counts (files,), after a review that is written to ``work``.

        Raises ``DeepfakeError`` with ``refuse`` where anything grave was found.
        """
        if self.act == "off":
            return np.ones(len(known))
        stated = [
            Stated(path=one.path, name=str(one.path), label=one.label, source=one.source)
            for one in known
        ]
        candidates, _ = read_candidates(stated, work)
        found = review(
            candidates, align(candidates, known, folds, judged), seed=seed, decided=self.decided
        )
        folder = work / "audit"
        write_review(found, folder, decided=self.decided)
        return self._conclude(found, known, folder)

    def _conclude(self, found: Review, known: Sequence[Known], folder: Path) -> Array:
        grave = {n for one in found.grave for n in one.files}
        if grave:
            counts = Counter(KINDS[one.code].title for one in found.grave if one.files)
            words = ", ".join(f"{title} {count}" for title, count in counts.most_common())
            text = f"{len(grave)} of {len(known)} files are suspicious ({words})"
            page = display_name(folder / PAGE)
            if self.act == "refuse":
                raise DeepfakeError(
                    f"training data: {text}; nothing was trained",
                    hint=f"look at {page}, decide in {TABLE} beside it, and give that with "
                    "--decisions",
                )
            does = "they count less" if self.act == "weigh" else "they count as the others"
            print(f"warning: {text}; {does}. See {page}", file=sys.stderr)
        if self.act != "weigh":
            return np.ones(len(known))
        trust = {one.info.sha256: float(found.trust[n]) for n, one in enumerate(found.candidates)}
        return np.array([trust.get(one.info.sha256, 1.0) for one in known])


def open_gate(act: str, decisions: Path | None) -> Gate:
    """The gate that a user wishes; raises ``SettingsError`` for a table that cannot be read."""
    return Gate(act, read_decisions(decisions) if decisions else {})


def _make_sources(candidates: Sequence[Candidate]) -> list[Source]:
    """Sources of files with a content of their own; what is in both classes is in neither."""
    classes: dict[str, set[int]] = defaultdict(set)
    for one in candidates:
        classes[one.info.sha256].add(one.label)
    files: dict[tuple[int, str], list[Path]] = defaultdict(list)
    for one in candidates:
        if len(classes[one.info.sha256]) == 1:
            files[one.label, one.source].append(one.path)
    return [Source(name, label, tuple(paths)) for (label, name), paths in sorted(files.items())]


def _see(one: Known) -> npt.NDArray[np.float32]:
    """Its features as it is, the mean over windows, without the logit."""
    rows = next(rows for rows in one.read() if rows.view == CLEAN)
    mean: npt.NDArray[np.float32] = rows.rows[:, :-1].mean(axis=0)
    return mean


def _first(facts: Mapping[str, str], names: Sequence[str]) -> str:
    return next((facts[name].strip() for name in names if facts.get(name, "").strip()), "")
