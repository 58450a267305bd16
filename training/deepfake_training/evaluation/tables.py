"""The rows of a result as tables: for a terminal, for a page, and as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from deepfake.text import printable

from ..card import markdown
from .compare import Comparison, Pairing
from .fairness import Group, warn_of_groups
from .measures import Estimate
from .result import Evaluation
from .run import FUSED, PEER
from .tabulate import ALL, GENUINE, MEAN, OWN_NETWORK, SYNTHETIC, Row

TITLES = {SYNTHETIC: "system", GENUINE: "genuine source"}
NAMES = {"image": "pictures", "audio": "sounds", "video": "clips"}
WORDS = {
    "synthetic": "called synthetic",
    "suspicious": "suspicious",
    "inconclusive": "inconclusive",
    "authentic": "no sign found",
}


class Table(NamedTuple):
    """``cells`` are ready to be shown; what came from a file in them is printable."""

    title: str
    head: list[str]
    cells: list[list[str]]


def make_tables(
    result: Evaluation,
    *,
    each_source: bool = True,
    every_score: bool = True,
    intervals: bool = True,
) -> Iterator[Table]:
    """For each kind of file measures and verdicts by view, then each class by view and source, with
    the AUC of ``every_score`` or of the fused one, the network's own and those of peers.
    """
    for kind in dict.fromkeys(row.kind for row in result.rows):
        rows = [row for row in result.rows if row.kind == kind]
        yield _summarise(kind, rows, intervals=intervals)
        yield _list_verdicts(kind, rows, intervals=intervals)
        for label in (SYNTHETIC, GENUINE) if each_source else ():
            own = [row for row in rows if row.label == label and row.source not in (ALL, MEAN)]
            if own:
                yield _list_sources(kind, label, own, every_score=every_score, intervals=intervals)


def _summarise(kind: str, rows: Sequence[Row], *, intervals: bool) -> Table:
    """All files of a view, by score; and the mean over pairs of sources."""
    head = ["view", "score", "files", "AUC", "AUC, sources alike", "EER"]
    head += ["TPR at 1 % FPR", "TPR at 0.1 % FPR", "ECE"]
    cells = []
    for row in (row for row in rows if row.source == ALL and row.label == SYNTHETIC):
        alike = next(
            it for it in rows if it.view == row.view and it.source == MEAN and it.label == row.label
        )
        for name, found in row.scores.items():
            cells.append(
                [row.view, name_score(name), f"{found.synthetic} + {found.genuine}"]
                + [
                    show(one, intervals=intervals)
                    for one in (
                        found.auc,
                        alike.scores[name].auc,
                        found.eer,
                        found.tpr_at_1,
                        found.tpr_at_01,
                        found.calibration_error,
                    )
                ]
            )
    return Table(f"{NAMES[kind]}: how well scores tell synthetic from genuine", head, cells)


def _list_verdicts(kind: str, rows: Sequence[Row], *, intervals: bool) -> Table:
    """The shares of verdicts of each class."""
    cells = [
        [row.view, row.label, str(row.files)]
        + [show(row.verdicts.get(word), intervals=intervals) for word in WORDS]
        for row in rows
        if row.source == ALL
    ]
    title = f"{NAMES[kind]}: verdicts (a genuine file called synthetic is wrongly accused)"
    return Table(title, ["view", "class", "files", *WORDS.values()], cells)


def _list_sources(
    kind: str, label: str, rows: Sequence[Row], *, every_score: bool, intervals: bool
) -> Table:
    scores = [FUSED, OWN_NETWORK[kind]]
    others = {name for row in rows for name in row.scores if every_score or name.startswith(PEER)}
    scores += sorted(others - {*scores}, key=lambda name: (name.startswith(PEER), name))
    head = ["view", TITLES[label], "files", *(f"AUC, {name_score(name)}" for name in scores)]
    head += WORDS.values()
    if label == GENUINE:
        head[-4] = "wrongly accused"
    cells = []
    for row in rows:
        found = [row.scores[name].auc if name in row.scores else None for name in scores]
        told = [row.verdicts.get(word) for word in WORDS]
        files = str(row.files) + (f" (+{row.failed} failed)" if row.failed else "")
        cells.append(
            [row.view, printable(row.source), files]
            + [show(one, intervals=intervals) for one in (*found, *told)]
        )
    other = "all genuine files" if label == SYNTHETIC else "all synthetic files"
    return Table(f"{NAMES[kind]}: each {TITLES[label]} against {other}", head, cells)


def list_groups(groups: Sequence[Group], *, intervals: bool = True) -> Table:
    """One line for each group that the manifest states."""
    head = ["kind", "view", "group", "genuine", "wrongly accused", "synthetic or suspicious"]
    head += ["p (Holm)", "synthetic", "missed"]
    cells = [
        [
            *(it.kind, it.view, printable(f"{it.trait} {it.value}"), str(it.genuine)),
            *(show(one, intervals=intervals) for one in (it.accused, it.alarmed)),
            "–" if it.p is None else f"{it.p:.3f}" + (" !" if it.unfair else ""),
            *(str(it.synthetic), show(it.missed, intervals=intervals)),
        ]
        for it in groups
    ]
    return Table("groups: false accusations and misses", head, cells)


def list_failures(result: Evaluation) -> Table:
    """Files that were not examined, and errors of peers, by file and view."""
    cells = []
    for one in result.outcomes:
        told = [("deepfake", one.error)] if one.error else []
        told += [*one.problems.items()]
        cells += [[printable(one.name), one.view, who, printable(why)] for who, why in told]
    return Table("failures", ["file", "view", "detector", "why"], cells)


def list_comparisons(title: str, found: Sequence[Comparison]) -> Table:
    """One line for each pair of scores."""
    head = ["kind", "view", "first", "second", "files", "AUC, first", "AUC, second", "gain"]
    head += ["p (sources)", "p (files, DeLong)"]
    cells = [
        [
            *(one.kind, one.view, name_score(one.first), name_score(one.second)),
            *(f"{one.synthetic} + {one.genuine}", f"{one.first_auc:.3f}", f"{one.second_auc:.3f}"),
            *(show(one.gain), f"{one.p_sources:.3f}", f"{one.p_files:.3f}"),
        ]
        for one in found
    ]
    return Table(title, head, cells)


def list_flips(pairing: Pairing) -> Table:
    """How verdicts changed, by class."""
    head = ["kind", "view", "class", "files", "became an alarm", "no longer one", "p (McNemar)"]
    cells = [
        [
            *(one.kind, one.view, one.label, str(one.files), str(one.raised), str(one.dropped)),
            f"{one.p:.3f}",
        ]
        for one in pairing.flips
    ]
    return Table("verdicts that changed", head, cells)


def write_markdown(result: Evaluation, *, each_source: bool = True, intervals: bool = True) -> str:
    """The tables of a result for a card or the documentation, with where they come from."""
    bundles = ", ".join(facts["name"] for facts in result.bundles.values())
    plan = result.plan
    most = f"at most {plan.limit} of each source, " if plan.limit else ""
    draws = f" 95 % intervals: {plan.draws:,} draws of sources." if intervals else ""
    lines = [
        f"{result.files:,} files of `{printable(plan.material)}` ({most}seed {plan.seed}, sha256 "
        f"of the list {result.digest[:12]}…), examined by deepfake {result.versions['deepfake']} "
        f"with {bundles}.{draws}"
    ]
    tables = [*make_tables(result, each_source=each_source, intervals=intervals)]
    if result.groups:
        tables.append(list_groups(result.groups, intervals=intervals))
    for table in tables:
        cells = [[cell.replace("|", "\\|") for cell in row] for row in table.cells]
        lines += [
            f"{table.title[0].upper()}{table.title[1:]}:",
            markdown(table.head, cells).rstrip(),
        ]
    lines += [f"**Warning:** {printable(text)}." for text in warn_of_groups(result.groups)]
    return "\n\n".join(lines) + "\n"


def name_score(name: str) -> str:
    """The words for a score."""
    return name.removeprefix(PEER) if name.startswith(PEER) else name


def show(estimate: Estimate | None, *, intervals: bool = True) -> str:
    """A value with its interval, or a dash."""
    if estimate is None:
        return "–"
    value, low, high = estimate
    signed = f"{value:.2f}" if not intervals else f"{value:.2f} ({low:.2f}…{high:.2f})"
    return signed.replace("-", "−")
