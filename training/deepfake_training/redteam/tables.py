"""A red team's result as tables: for a terminal, for a page, and as Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from deepfake.bundle import QUICK_TIERS
from deepfake.text import printable
from deepfake.types import Kind

from ..card import markdown
from ..evaluation.run import FUSED, PEER
from ..evaluation.tables import NAMES, Table, name_score, show
from ..evaluation.tabulate import OWN_NETWORK
from .result import AttackRow, Siege

_DISTORTION = {Kind.IMAGE: ("psnr", "ssim"), Kind.AUDIO: ("snr",), Kind.VIDEO: ()}
_TITLES = {"psnr": "PSNR", "ssim": "SSIM", "snr": "SNR"}


def list_rows(result: Siege, *, intervals: bool = False, short: bool = False) -> Table:
    """One line for each attack, the files as they are first; ``short`` heads fit a terminal."""
    kind = result.plan.kind
    own = OWN_NETWORK[kind.value]
    peers = sorted({name for row in result.rows for name in row.scores if name.startswith(PEER)})
    measures = list(_DISTORTION[kind])
    head = ["attack", "files", "AUC", f"AUC, {own}", "TPR at 1 % FPR"]
    head += ["alarms lost", "alarms raised", "genuine called synthetic", "median queries"]
    if short:
        head = ["attack", "files", "AUC", own, "TPR", "lost", "raised", "accused", "asked"]
    head += [_TITLES[name] for name in measures]
    head += [name_score(name) if short else f"AUC, {name_score(name)}" for name in peers]
    cells = []
    for row in result.rows:
        cells.append(
            [
                row.attack,
                f"{row.synthetic} + {row.genuine}" + (f" (+{row.failed})" if row.failed else ""),
                _area(row, FUSED, intervals=intervals),
                _area(row, own, intervals=intervals),
                _show_found(row, intervals=intervals),
                _share(row, "evaded", row.alarms, intervals=intervals),
                _share(row, "raised", row.quiet, intervals=intervals),
                _share(row, "accused", row.genuine, intervals=intervals),
                "–" if row.median_queries is None else f"{row.median_queries:g}",
                *(_number(row, name) for name in measures),
                *(_area(row, name, intervals=intervals) for name in peers),
            ]
        )
    if short:  # the network's own number is left to the page
        head.pop(3)
        cells = [[row[0], *map(_shorten, (*row[1:3], *row[4:]))] for row in cells]
    return Table(f"{NAMES[kind.value]} under attack", head, cells)


def list_suite(result: Siege) -> Table:
    """What each attack is, its family, where it is from, and how long it took."""
    cells = [
        [row.attack, row.family, row.says, row.source, f"{row.seconds:,.0f} s"]
        for row in result.rows
    ]
    return Table("the attacks", ["attack", "family", "what it does", "source", "time"], cells)


def list_failures(result: Siege) -> Table:
    """Files that could not be examined, and errors of peers."""
    cells = []
    for one in result.trials:
        told = [("deepfake", one.error)] if one.error else []
        told += [*one.problems.items()]
        cells += [[printable(one.name), one.attack, who, printable(why)] for who, why in told]
    return Table("failures", ["file", "attack", "detector", "why"], cells)


def say_how(result: Siege) -> str:
    """What was measured, in a sentence or two."""
    plan, strength = result.plan, result.plan.strength
    bundles = ", ".join(
        facts["name"]
        for slot, facts in result.bundles.items()
        if (slot.startswith(plan.kind.value) or plan.kind is Kind.VIDEO)
        and not (slot in QUICK_TIERS and plan.effort == "quick")
    )
    most = f"at most {plan.limit} of each source, " if plan.limit else ""
    bound = f"{strength.epsilon:g} grey levels"
    if plan.kind is Kind.AUDIO:
        bound = f"{strength.snr:g} dB below the sound"
    families = {row.family for row in result.rows}
    how = []
    if "black-box" in families:
        how.append(f"At most {strength.budget:,} queries, answered with `{strength.answers}`.")
    if "white-box" in families:
        how.append(f"{strength.steps} steps of gradients.")
    if how:
        how.append(f"Changes of at most {bound}.")
    how.append(f"It took {result.seconds / 60:.1f} minutes of a processor.")
    return (
        f"{result.files:,} files of `{printable(plan.material)}` ({most}seed {strength.seed}, "
        f"sha256 of the list {result.digest[:12]}…) against deepfake {result.versions['deepfake']} "
        f"with {bundles} (effort {plan.effort}, backend {result.versions['backend']}). "
        + " ".join(how)
    )


def write_markdown(result: Siege, *, intervals: bool = False) -> str:
    """The table of a result for the documentation, with where it comes from."""
    table = list_rows(result, intervals=intervals)
    cells = [[cell.replace("|", "\\|") for cell in row] for row in table.cells]
    return f"{say_how(result)}\n\n{markdown(table.head, cells)}"


def list_known(attacks: Sequence[tuple[str, str, str, str, str]]) -> Table:
    """The attacks that there are: kind, name, family, what it does, source."""
    head = ["slot", "attack", "family", "what it does", "source"]
    return Table("attacks", head, [[*one] for one in attacks])


def _shorten(cell: str) -> str:
    return cell.replace(" of ", "/").replace(" dB", "").replace(" ", "")


def _area(row: AttackRow, name: str, *, intervals: bool) -> str:
    found = row.scores.get(name)
    return show(found.auc if found else None, intervals=intervals)


def _show_found(row: AttackRow, *, intervals: bool) -> str:
    found = row.scores.get(FUSED)
    return show(found.tpr_at_1 if found else None, intervals=intervals)


def _share(row: AttackRow, name: str, files: int, *, intervals: bool) -> str:
    estimate = getattr(row, name)
    if estimate is None:
        return "–"
    if intervals:
        return f"{show(estimate)} of {files}"
    return f"{round(estimate[0] * files)} of {files}"


def _number(row: AttackRow, name: str) -> str:
    value = getattr(row, name)
    if value is None:
        return "–"
    return f"{value:.3f}" if name == "ssim" else f"{value:.1f} dB"
