"""``deepfake models activate|history|rollback|quarantine|diff|shadow``: which bundles answer, since
when, and which might.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import SettingsError
from .audit import auditing, name_user

if TYPE_CHECKING:
    from rich.console import Console

    from ..bundle import Bundle
    from ..settings import Settings

DIGITS = 12
ACTIONS = ("activate", "history", "rollback", "quarantine", "diff", "shadow")


def manage_registry(options: argparse.Namespace, settings: Settings, console: Console) -> int:
    """One of ``ACTIONS``."""
    acts = (_activate, _history, _roll_back, _quarantine, _diff, _shadow)
    act = dict(zip(ACTIONS, acts, strict=True))[options.action]
    act(options, settings, console)
    return 0


def checker(settings: Settings) -> Callable[[Bundle], None]:
    """What raises ``ModelError`` for a bundle that may not be activated: one that is not signed by
    a trusted pair, or does not give its golden scores here.
    """
    from ..engine.engine import Engine
    from ..engine.golden import check_activation
    from ..trust.signatures import Trust, require_signed

    trust = Trust.read(settings)

    def check(bundle: Bundle) -> None:
        require_signed([bundle], trust)
        with closing(Engine(settings, active={bundle.slot: bundle})) as engine:
            check_activation(engine, bundle)

    return check


def _activate(options: argparse.Namespace, settings: Settings, console: Console) -> None:
    from ..trust.changes import activate

    if options.name is None:
        raise SettingsError("models activate: needs a bundle", hint="for example: image-3")
    with auditing(options) as log:
        bundles = activate(
            options.models,
            options.name,
            who=name_user(options),
            why=options.why or "",
            check=checker(settings),
        )
        if log:
            log.append("models_activate", bundles=bundles, about=options.name)
    _show_active(options, bundles, console)


def _roll_back(options: argparse.Namespace, settings: Settings, console: Console) -> None:
    from ..trust.changes import roll_back

    with auditing(options) as log:
        bundles = roll_back(
            options.models,
            who=name_user(options),
            why=options.why or "",
            check=checker(settings),
        )
        if log:
            log.append("models_rollback", bundles=bundles)
    _show_active(options, bundles, console)


def _quarantine(options: argparse.Namespace, settings: Settings, console: Console) -> None:
    from ..trust.changes import quarantine
    from ..trust.signatures import REVOKED, Trust

    if options.name is None or not options.why:
        raise SettingsError(
            "models quarantine: needs a bundle and --why",
            hint='for example: deepfake models quarantine image-100 --why "its keys were stolen"',
        )
    with auditing(options) as log:
        outcome = quarantine(
            options.models,
            options.name,
            who=name_user(options),
            why=options.why,
            trust=Trust.read(settings),
        )
        if log:
            log.append("models_quarantine", bundles=outcome.bundles, about=options.name)
    _show_active(options, outcome.bundles, console)
    console.out(f"{options.name} is refused from now on: {options.models / REVOKED}")
    for slot in outcome.suspended:
        console.out(
            f"{slot}: nothing answered before it, so that the slot is suspended; verdicts that "
            "would rest on it are inconclusive until a bundle is activated in it"
        )


def _history(options: argparse.Namespace, settings: Settings, console: Console) -> None:
    from ..show.console import print_table
    from ..text import printable
    from ..trust.changes import read_history

    rows, before = [], None
    for change in read_history(options.models):
        moved = []
        for slot, one in change.listed.bundles.items():
            if before is None or before.bundles.get(slot) != one:
                moved.append(f"{slot} {one.name} {one.sha256[:DIGITS]}")
        if before is not None:
            moved += [
                f"{slot} none" for slot in before.bundles if slot not in change.listed.bundles
            ]
            moved += [
                f"{slot} suspended"
                for slot in change.listed.suspended
                if slot not in before.suspended
            ]
        undid = f"to line {change.undid}" if change.undid else ""
        rows.append(
            [
                str(change.number),
                change.time,
                printable(change.who, most=30) or "–",
                change.what,
                printable("; ".join(part for part in (undid, change.why) if part), most=80),
                ", ".join(moved),
            ]
        )
        before = change.listed
    print_table(["line", "time", "who", "change", "why", "since then"], rows, console)


def _diff(options: argparse.Namespace, settings: Settings, console: Console) -> None:
    from ..bundle import Bundle
    from ..engine.engine import Engine
    from ..engine.golden import score_golden
    from ..show.console import print_table
    from ..trust.registry import locate
    from ..trust.signatures import Trust, require_signed

    if options.name is None or options.other is None:
        raise SettingsError(
            "models diff: needs two bundles",
            hint="for example: deepfake models diff image-3 image-4",
        )
    pair = [Bundle.read(locate(options.models, name)) for name in (options.name, options.other)]
    require_signed(pair, Trust.read(settings))
    one, other = pair
    heads = ["", one.name, other.name]
    facts = [list(_flatten(_facts(bundle))) for bundle in pair]
    before, after = dict(facts[0]), dict(facts[1])
    rows = [
        [key, _word(before.get(key)), _word(after.get(key))]
        for key in dict.fromkeys([*before, *after])
        if before.get(key) != after.get(key)
    ]
    print_table(heads, rows, console)
    table: dict[str, list[str]] = {}
    for bundle in pair:
        with closing(Engine(settings, active={bundle.slot: bundle})) as engine:
            engine.check([bundle.slot])
            for score in score_golden(engine, bundle, pair):
                row = table.setdefault(f"golden input of {score.media}", [])
                row.append(f"{score.score:.4f} {score.word}")
    rows = [[name, *cells] for name, cells in table.items() if len(cells) == 2]
    print_table(heads, rows, console)


def _shadow(options: argparse.Namespace, settings: Settings, console: Console) -> None:
    from ..bundle import Bundle
    from ..settings import user_data_folder
    from ..show.console import print_table
    from ..trust.registry import locate
    from ..trust.shadow import RESULTS, choose_shadow, compare, end_shadow, read_shadow

    with auditing(options) as log:
        if options.off:
            end_shadow(options.models)
        elif options.name is not None:
            checker(settings)(Bundle.read(locate(options.models, options.name)))
            choose_shadow(options.models, options.name, share=options.share)
        if log and (options.off or options.name):
            what = "shadow_end" if options.off else "shadow_begin"
            log.append(what, about=options.name or "")
    shadow = read_shadow(options.models)
    if shadow is None:
        console.out("nothing judges in the shadow")
        return
    console.out(f"{shadow.name} judges {100 * shadow.share:g} % of the files in the shadow")
    results = (options.data or user_data_folder() / "service") / RESULTS
    found = compare(results, shadow.sha256)
    if found is None:
        console.out("no file was judged by it yet")
        return
    rows = [
        ["files judged by both", str(found.files)],
        ["files that it failed on", str(found.failed)],
        ["with the same word", f"{100 * found.agreement:.1f} %"],
        ["authentic ↔ synthetic", str(found.flips)],
        ["mean difference of the scores", f"{found.drift:+.4f}"],
        ["largest difference", f"{found.gap:.4f}"],
        ["distance of the distributions", f"{found.distance:.4f}"],
        ["median seconds, active", f"{found.seconds[0]:.3f}"],
        ["median seconds, candidate", f"{found.seconds[1]:.3f}"],
    ]
    print_table(["", shadow.name], rows, console)


def _facts(bundle: Bundle) -> dict[str, Any]:
    from dataclasses import asdict

    frames, settled = bundle.frames_calibration, bundle.settled
    return {
        "slot": bundle.slot,
        "network": bundle.network,
        "sha256": bundle.sha256[:DIGITS],
        "licence": bundle.licence,
        "calibration": asdict(bundle.calibration),
        "frames_calibration": frames and asdict(frames),
        "settled": settled and asdict(settled),
        "limits": asdict(bundle.limits),
        "metrics": {key: rows for key, rows in bundle.metrics.items() if key != "sources"},
    }


def _flatten(values: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Every value with its path; a row of a table of metrics goes by its first text."""
    if isinstance(values, Mapping):
        for key, value in values.items():
            yield from _flatten(value, f"{name}.{key}" if name else str(key))
    elif isinstance(values, list | tuple) and all(isinstance(row, Mapping) for row in values):
        for place, row in enumerate(values):
            words = [str(value) for value in row.values() if isinstance(value, str)]
            rest = {key: value for key, value in row.items() if not isinstance(value, str)}
            yield from _flatten(rest, f"{name}[{' '.join(words) or place}]")
    else:
        yield name, values


def _word(value: Any) -> str:
    from ..text import printable

    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else printable(str(value), most=40)


def _show_active(
    options: argparse.Namespace, bundles: Mapping[str, Bundle], console: Console
) -> None:
    from ..show.console import print_table
    from ..trust.registry import LIST

    rows = [[slot, one.name, one.sha256[:DIGITS]] for slot, one in sorted(bundles.items())]
    print_table(["slot", "bundle", "sha256"], rows, console)
    console.out(f"recorded in {options.models / LIST}")
    print_warnings(options.models, console)


def print_warnings(folder: Path, console: Console) -> None:
    """What reports made with this folder say of its bundles, or why there can be none."""
    from ..errors import ModelError
    from ..text import printable
    from ..trust.registry import missing_tiers, read_bundles, warn_of, word_install

    try:
        texts = warn_of(folder, read_bundles(folder))
        texts += [
            f"{name} is not installed, so that the quick tier answers alone; run: "
            f"{word_install(name)}"
            for name in missing_tiers(folder).values()
        ]
    except ModelError as error:
        texts = [f"{error}."]
    for text in texts:
        console.out(f"warning: {printable(text, most=600)}")
