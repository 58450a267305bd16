"""Recordings of several manifests, grouped by the pages and corpora that are held out together."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ..known import Known, assign_folds
from ..manifests import Item, read_manifest

CORPORA: Mapping[str, re.Pattern[str]] = {
    "ljspeech": re.compile(r"lj.?speech|\blj\b", re.I),
    "vctk": re.compile("vctk", re.I),
    "librispeech": re.compile(r"libri|\bmls\b", re.I),
    "esd": re.compile(r"\besd\b", re.I),
}
"""Corpora whose speakers are on many pages, as their names are written in sources."""

PLACES: Mapping[str, str] = {
    "fake/world-copy": "librispeech",
    "fake/griffinlim-copy": "librispeech",
    "fake/espeak-ng": "espeak-ng",
    "fake/flite": "flite",
    "fake/festival": "festival",
}
"""The group of what was generated for the material and so has no repository."""


def read_recordings(folders: Sequence[Path], *, folds: int) -> list[Known]:
    """The speech of ``folder/manifest.tsv`` for every folder, without a second file of the same
    bytes and without singing; every group in one of ``folds`` folds.
    """
    items: dict[str, Item] = {}
    for folder in folders:
        header = (folder / "manifest.tsv").read_text(encoding="utf-8").partition("\n")[0]
        column = "system" if "system" in header.split("\t") else "source"
        for item in read_manifest(folder, source_column=column):
            if not is_singing(item):
                items.setdefault(item.facts["sha256"], _named(item))
    pages = _pages(list(items.values()))
    groups = {key: pages[page_of(item)] for key, item in items.items()}
    homes = assign_folds([(groups[key], item.label) for key, item in items.items()], folds=folds)
    return [Known(item, groups[key], homes[groups[key]]) for key, item in items.items()]


def is_singing(item: Item) -> bool:
    return item.source.startswith("singing")


def corpus_of(source: str) -> str:
    """The corpus of :data:`CORPORA` that a source's name tells, or ""."""
    return next((name for name, form in CORPORA.items() if form.search(source)), "")


def system_of(source: str) -> str:
    """The system of a source ``system@page``, as pages write its name."""
    return re.sub(r"[^a-z0-9]", "", source.partition("@")[0].lower())


def page_of(item: Item) -> str:
    """The repository of a recording, or the folder of one that was generated for the material."""
    repository = item.facts.get("repo", "")
    return repository if "/" in repository else "/".join(item.facts["path"].split("/")[:2])


def is_own_copy(item: Item) -> bool:
    """Whether a recording is a genuine one that was analysed and synthesised anew for the material,
    and so no system's of a page.
    """
    page = page_of(item)
    return page in PLACES and page.endswith("-copy")


def _named(item: Item) -> Item:
    """The ground truth of a page is told from that of others."""
    if item.label or "@" in item.source:
        return item
    return replace(item, source=f"{item.source}@{page_of(item)}")


def _pages(items: Sequence[Item]) -> dict[str, str]:
    """The group of every page: the corpus that most of its genuine recordings are of, or itself."""
    corpora: dict[str, Counter[str]] = defaultdict(Counter)
    for item in items:
        if not item.label:
            corpora[page_of(item)][corpus_of(item.source)] += 1
    groups = {}
    for item in items:
        page = page_of(item)
        common = corpora[page].most_common(1)
        groups[page] = PLACES.get(page) or (common[0][0] if common else "") or page
    return groups


def heard_corpora(files: Sequence[Known], *, without: int) -> set[str]:
    """The corpora of :data:`CORPORA` whose genuine recordings are mostly outside fold ``without``,
    so that a network which never saw that fold may know their speakers.
    """
    inside: Counter[str] = Counter()
    for file in files:
        name = "" if file.label else corpus_of(file.source)
        if name:
            inside[name] += 1 if file.fold == without else -1
    return {name for name, balance in inside.items() if balance < 0}


def heard_genuine(files: Sequence[Known], *, folds: int) -> list[bool]:
    """Which files (files,) are genuine recordings of a corpus of :data:`CORPORA` whose speakers the
    network that left their fold out may know.
    """
    inside = {fold: heard_corpora(files, without=fold) for fold in range(folds)}
    return [not file.label and corpus_of(file.source) in inside[file.fold] for file in files]
