"""The whole audit of files whose facts are known: every check, and what came of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console

from deepfake.show.console import print_table
from deepfake.text import printable

from .activations import Spread, find_clusters, find_outliers, find_signatures
from .candidates import Array, Candidate
from .decisions import apply_decisions, write_decisions
from .duplicates import find_twins, judge_twins
from .findings import KINDS, Code, Finding, trust_files
from .labels import find_wrong_labels
from .page import show_number, sort_findings, write_page
from .patterns import find_patterns
from .provenance import judge_claims, judge_terms
from .shortcuts import DOUBTFUL, Shortcut, measure_shortcuts

PAGE, TABLE = "audit.html", "decisions.csv"
LEAST_WIDTH = 110
"""Columns of the tables, which wrap in a narrower terminal."""
_MOST_TRAITS = 8


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What a network says of the files: ``features`` (files, features) as they are, the mean over
    windows, and ``odds`` (files,), log-odds by heads that never saw a file's source; NaN for files
    of which nothing is known. ``folds`` are the files (numbers) that were left out together.
    """

    features: Array
    odds: Array
    folds: Sequence[frozenset[int]]


@dataclass(frozen=True, kw_only=True)
class Review:
    """``trust`` (files,) is what each file counts when suspicious ones are weighed down; ``unread``
    are names of files that could not be used, with the reason.
    """

    candidates: Sequence[Candidate]
    findings: Sequence[Finding]
    shortcuts: Sequence[Shortcut]
    trust: Array
    unread: Sequence[tuple[str, str]]

    @property
    def grave(self) -> list[Finding]:
        """Findings for which data is refused."""
        return [one for one in self.findings if KINDS[one.code].grave]


def review(
    candidates: Sequence[Candidate],
    evidence: Evidence,
    *,
    seed: int,
    stated: bool = False,
    decided: Mapping[str, str] | None = None,
    unread: Sequence[tuple[str, str]] = (),
) -> Review:
    """Make every check. ``stated``: a manifest tells of the files. ``decided``: what was decided of
    some before, by sha256.
    """
    twins = find_twins(candidates)
    findings = [
        *judge_twins(candidates, twins),
        *judge_claims(candidates),
        *find_wrong_labels(candidates, evidence.odds),
        *find_patterns(candidates, twins),
        *judge_activations(candidates, evidence.features, seed=seed),
    ]
    shortcuts = measure_shortcuts(candidates, evidence.folds, seed=seed)
    findings += [
        Finding(Code.SHORTCUT, (), abs(one.sources - 0.5), _word_shortcut(one))
        for one in shortcuts
        if abs(one.sources - 0.5) >= DOUBTFUL - 0.5
    ]
    findings += judge_terms(candidates, stated=stated)
    findings = apply_decisions(candidates, findings, decided or {})
    return Review(
        candidates=candidates,
        findings=findings,
        shortcuts=shortcuts,
        trust=trust_files(findings, count=len(candidates)),
        unread=unread,
    )


def judge_activations(
    candidates: Sequence[Candidate], features: Array, *, seed: int
) -> list[Finding]:
    """Spectral signatures, clusters and outliers among the files whose features are known."""
    known = np.flatnonzero(~np.isnan(features).any(axis=1)).tolist()
    if len(known) < 2:
        return []
    spread = Spread(candidates, features[known], known)
    return [
        *find_signatures(spread),
        *find_clusters(spread, seed=seed),
        *find_outliers(spread),
    ]


def write_review(found: Review, folder: Path, *, decided: Mapping[str, str] | None = None) -> None:
    """Write the page and the table of decisions."""
    folder.mkdir(parents=True, exist_ok=True)
    write_decisions(found.candidates, found.findings, folder / TABLE, decided=decided or {})
    write_page(
        found.candidates,
        found.findings,
        folder / PAGE,
        shortcuts=found.shortcuts,
        unread=found.unread,
        table=TABLE,
    )


def print_review(found: Review, console: Console) -> None:
    """The findings by kind, and the traits that tell most."""
    console.width = max(console.width, LEAST_WIDTH)
    files = Counter({code: len({n for it in own for n in it.files}) for code, own in _sort(found)})
    rows = [
        [KINDS[code].title, str(len(own)), str(files[code] or "–"), _word(code)]
        for code, own in _sort(found)
    ]
    console.out(f"{len(found.candidates):,} files, {int((found.trust < 1).sum()):,} suspicious")
    if rows:
        print_table(["finding", "times", "files", "when weighed"], rows, console)
    if found.shortcuts:
        console.out("\ntraits alone, how well they rank the classes (AUC; 0.5 is chance):")
        print_table(
            ["trait", "files left out", "sources left out", "genuine", "synthetic"],
            [
                [
                    one.trait,
                    show_number(one.files),
                    show_number(one.sources),
                    *(printable(usual, most=30) for usual in one.usual),
                ]
                for one in found.shortcuts[:_MOST_TRAITS]
            ],
            console,
        )


def _sort(found: Review) -> list[tuple[Code, list[Finding]]]:
    return sort_findings(found.findings)


def _word(code: Code) -> str:
    return f"counts {KINDS[code].trust:g}" if KINDS[code].trust < 1 else "as it is"


def _word_shortcut(one: Shortcut) -> str:
    usual = f" (genuine {one.usual[0]}, synthetic {one.usual[1]})" if one.usual[0] else ""
    return (
        f"{one.trait} alone has AUC {one.sources:.2f} on sources that were left out{usual}: a "
        "detector that can see it will use it"
    )
