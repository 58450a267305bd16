"""The model card, and the tables and figures that stand in it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deepfake.bundle import Bundle, Calibration

from .calibrate import cross_calibrate
from .inserts import InsertRow
from .metrics import FamilyRow, SourceRow, ViewRow
from .records import FileLogits


def source_table(rows: Sequence[SourceRow], *, label: int) -> str:
    """Markdown: one line for each source and view; synthetic sources or bona fide ones."""
    chosen = [row for row in rows if row.label == label]
    if label:
        head = ["view", "system", "files", "AUC", "EER", "TPR at 1 % FPR", "TPR at 5 % FPR"]
        head += ["balanced accuracy", "calibration error", "called synthetic"]
        cells = [
            [
                *(r.view, r.source, r.files, r.auc, r.eer, r.tpr_at_1, r.tpr_at_5),
                *(r.balanced_accuracy, r.calibration_error, r.flagged_synthetic),
            ]
            for r in chosen
        ]
        if not all(math.isnan(r.system_auc) for r in chosen):
            head += ["AUC, system out", "EER, system out", "TPR, system out"]
            for row, cell in zip(chosen, cells, strict=True):
                cell += [row.system_auc, row.system_eer, row.system_tpr_at_1]
    else:
        head = ["view", "bona fide source", "files", "called synthetic", "suspicious or more"]
        cells = [
            [r.view, r.source, r.files, r.flagged_synthetic, r.flagged_suspicious] for r in chosen
        ]
    return markdown(head, cells)


def view_table(rows: Sequence[ViewRow]) -> str:
    """Markdown: one line for each view, with the means over left-out systems."""
    head = ["view", "files", "mean AUC", "worst AUC", "mean EER", "pooled AUC", "TPR at 1 % FPR"]
    head += ["TPR at 5 % FPR", "balanced accuracy", "calibration error", "worst source FPR"]
    cells = [
        [
            *(r.view, r.files, r.mean_auc, r.worst_auc, r.mean_eer, r.auc, r.tpr_at_1),
            *(r.tpr_at_5, r.balanced_accuracy, r.calibration_error, r.worst_false_positives),
        ]
        for r in rows
    ]
    if not all(math.isnan(r.system_auc) for r in rows):
        head += ["mean AUC, system out", "mean EER, system out"]
        for row, cell in zip(rows, cells, strict=True):
            cell += [row.system_auc, row.system_eer]
    return markdown(head, cells)


def insert_table(rows: Sequence[InsertRow]) -> str:
    """Markdown: one line for each kind of minute."""
    head = ["recording of a minute", "files", "called synthetic", "suspicious or more"]
    cells = [
        [r.kind, r.recordings, r.flagged_synthetic, r.flagged_suspicious, r.located] for r in rows
    ]
    return markdown([*head, "located within 1 s"], cells)


def family_table(rows: Sequence[FamilyRow]) -> str:
    """Markdown: one line for each family of synthesis."""
    head = ["family, as it is", "files", "AUC", "EER", "TPR at 1 % FPR"]
    return markdown(head, [[r.family, r.files, r.auc, r.eer, r.tpr_at_1] for r in rows])


def write_card(
    bundle: Bundle,
    *,
    sources: Sequence[SourceRow],
    views: Sequence[ViewRow],
    inserts: Sequence[InsertRow] = (),
    families: Sequence[FamilyRow] = (),
    text: Mapping[str, str],
    command: str,
    each_source: bool = False,
) -> None:
    """Write ``README.md`` into the bundle's folder.

    ``text`` holds the hand-written parts of the recipe: ``intended``, ``data``, ``recipe``
    and ``failures``.
    """
    middle = f"""## Calibration

{_calibration_part(bundle.calibration, each_source=each_source)}
## Accuracy

Every number is about sources that neither the model nor its calibration had seen
(`{command}` prints them). "Files" of a view are scored after its degradation.

{view_table(views)}
{_families_part(families)}### Synthetic systems

{source_table(sources, label=1)}
### Bona fide sources

{source_table(sources, label=0)}
{_inserts_part(inserts)}"""
    fill_card(bundle, text=text, middle=middle)


def fill_card(bundle: Bundle, *, text: Mapping[str, str], middle: str) -> None:
    """Write the card of any bundle: ``text`` from its recipe (``intended``, ``data``, ``recipe``,
    ``failures`` and, where it has one, ``speed``) and facts about it, with the part in the
    ``middle`` between its recipe and its known failures.
    """
    if speed := text.get("speed", "").strip():
        middle += f"## Speed\n\n{speed}\n\n"
    facts = "\n".join(f"- {key}: {_inline(value)}" for key, value in bundle.provenance.items())
    files = "\n".join(
        f"- `{name}` ({facts['precision']}), sha256 `{facts['sha256']}`"
        for name, facts in bundle.files.items()
    )
    card = f"""# {bundle.name}

Slot `{bundle.slot}`, network `{bundle.network}`, licence {bundle.licence}.

## What it answers

{text["intended"].strip()}

## Data

{text["data"].strip()}

## Recipe

{text["recipe"].strip()}

{facts}

{middle}## Known failures

{text["failures"].strip()}

## Files

{files}
"""
    (bundle.folder / "README.md").write_text(card, encoding="utf-8")


def _calibration_part(calibration: Calibration, *, each_source: bool) -> str:
    points, spans = calibration.points, ""
    whose = (
        "of each of 95 % of the bona fide sources" if each_source else "of the bona fide sources"
    )
    if calibration.span_windows:
        spans = f"""
In a recording of more than {calibration.span_windows} windows the highest mean of so many adjacent
ones counts where it is higher, less {calibration.length_penalty:.3f} times the logarithm of how
many such spans there are.
"""
    return f"""\
Platt scaling on out-of-fold logits, all views together; both classes weigh the same, so do the
groups that were held out together, and the sources within a group:
log-odds = {calibration.slope:.4f} × pooled logit + {calibration.intercept:.4f}, where the pooled
logit is the mean of the highest {calibration.top_fraction:.0%} of the window logits. The
log-odds of one file differ between views by {calibration.spread:.2f} (root mean square), which sets
the reported interval.
{spans}
| score | word |
|---|---|
| at least {points.synthetic:.3f} | synthetic (at most 1 % of the files {whose}) |
| at least {points.suspicious:.3f} | suspicious (at most 5 %) |
| below {points.authentic:.3f} | no sign of synthesis (10 % of synthetic files score this low) |
| between | inconclusive |
"""


def _families_part(families: Sequence[FamilyRow]) -> str:
    return f"### Families\n\n{family_table(families)}\n" if families else ""


def _inserts_part(inserts: Sequence[InsertRow]) -> str:
    if not inserts:
        return ""
    return f"""### Short inserts

Minutes of genuine clips, half of them with three seconds of an unheard system in them; the penalty
on long files is set by the other folds. "Located" is about the highest span of the windows.

{insert_table(inserts)}
"""


def add_part(bundle: Bundle, *, title: str, text: str, tables: str) -> None:
    """Add a last part to the bundle's card, or replace the part with that title in its place."""
    path = bundle.folder / "README.md"
    parts = path.read_text(encoding="utf-8").rstrip("\n").split("\n## ")
    names = [part.split("\n", 1)[0] for part in parts]
    place = names.index(title) if title in names else len(parts)
    parts[place : place + 1] = [f"{title}\n\n{text}\n\n{tables}".rstrip("\n") + "\n"]
    path.write_text("\n## ".join(part.rstrip("\n") + "\n" for part in parts), encoding="utf-8")


def plot_evaluation(records: Sequence[FileLogits], *, top_fraction: float, folder: Path) -> None:
    """Write ``roc.png`` and ``reliability.png``, one line for each view."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt
    from sklearn.metrics import roc_curve

    scored = cross_calibrate(records, top_fraction=top_fraction)
    roc, roc_axes = plt.subplots(figsize=(5, 5))
    reliability, reliability_axes = plt.subplots(figsize=(5, 5))
    for view in dict.fromkeys(record.view for record in records):
        labels = np.array([s.record.label for s in scored if s.record.view == view])
        scores = np.array([s.score for s in scored if s.record.view == view])
        false_positive, true_positive, _ = roc_curve(labels, scores)
        roc_axes.plot(false_positive, true_positive, label=view)
        index = np.minimum((scores * 10).astype(int), 9)
        used = [number for number in range(10) if (index == number).sum() >= 10]
        reliability_axes.plot(
            [scores[index == number].mean() for number in used],
            [labels[index == number].mean() for number in used],
            marker="o",
            label=view,
        )
    roc_axes.set(xlabel="false-positive rate", ylabel="true-positive rate")
    reliability_axes.set(xlabel="mean score", ylabel="share synthetic", xlim=(0, 1), ylim=(0, 1))
    reliability_axes.plot([0, 1], [0, 1], color="grey", linewidth=0.8)
    for figure, axes, name in (
        (roc, roc_axes, "roc"),
        (reliability, reliability_axes, "reliability"),
    ):
        axes.legend()
        figure.tight_layout()
        figure.savefig(folder / f"{name}.png", dpi=110)
        plt.close(figure)


def _inline(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_inline(inner)}" for key, inner in value.items())
    if isinstance(value, list | tuple):
        return "; ".join(_inline(inner) for inner in value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def markdown(head: Sequence[str], cells: Sequence[Sequence[Any]]) -> str:
    """A table; numbers with three decimals, NaN and None as a dash."""

    def show(value: Any) -> str:
        if isinstance(value, float):
            return "–" if math.isnan(value) else f"{value:.3f}"
        return "–" if value is None else str(value)

    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(show(value) for value in row) + " |" for row in cells]
    return "\n".join(lines) + "\n"
