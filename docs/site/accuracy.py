"""Tables of accuracy, made from what ``bundle.json`` and the card of every active bundle hold.

Nothing here measures: the numbers are those that training or evaluation wrote beside the weights.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

MODELS = Path(__file__).resolve().parents[2] / "models"

Row = Mapping[str, Any]
Columns = Sequence[tuple[str, str]]

JUDGES = {
    "image": "pictures that are generated as a whole",
    "image-large": "the same, by the full tier",
    "audio": "speech that is synthetic or converted",
    "audio-large": "the same, by the full tier",
    "face": "faces that are replaced or blended",
    "face-large": "people in clips with a replaced, re-enacted or speaking face, by the full tier",
    "frame": "clips that are generated, edited or re-enacted (single frames)",
    "frame-large": "the same, by the full tier",
}
"""What the detector of a slot is asked, in the order of the summary."""

VIEWS: Columns = (
    ("view", "view"),
    ("files", "files"),
    ("mean_auc", "mean AUC over systems"),
    ("worst_auc", "worst system"),
    ("mean_eer", "mean EER"),
    ("tpr_at_1", "TPR at 1 % FPR"),
    ("tpr_at_5", "TPR at 5 % FPR"),
    ("calibration_error", "calibration error"),
    ("worst_false_positives", "worst source called synthetic"),
    ("system_auc", "mean AUC, system out"),
    ("system_eer", "mean EER, system out"),
)
SYSTEMS: Columns = (
    ("source", "synthetic system (clean)"),
    ("files", "files"),
    ("auc", "AUC"),
    ("eer", "EER"),
    ("tpr_at_1", "TPR at 1 % FPR"),
    ("flagged_synthetic", "called synthetic"),
    ("system_auc", "AUC, system out"),
    ("system_eer", "EER, system out"),
)
GENUINE: Columns = (
    ("source", "genuine source (clean)"),
    ("files", "files"),
    ("flagged_synthetic", "called synthetic"),
    ("flagged_suspicious", "suspicious or more"),
)
MINUTES: Columns = (
    ("kind", "a minute of"),
    ("recordings", "recordings"),
    ("flagged_synthetic", "called synthetic"),
    ("flagged_suspicious", "suspicious or more"),
    ("located", "located within 1 s"),
)
FAMILIES: Columns = (
    ("family", "family (clean)"),
    ("files", "files"),
    ("auc", "AUC"),
    ("eer", "EER"),
    ("tpr_at_1", "TPR at 1 % FPR"),
)
FACES: Columns = (
    ("view", "view"),
    ("pictures", "pictures"),
    ("faces", "faces"),
    ("recall", "found"),
    ("landmark_error", "landmark error, share of the distance of the eyes"),
    ("false_positives_a_picture", "false faces a picture"),
)
PRECISION: Columns = (
    ("view", "view"),
    ("samples", "samples"),
    ("before", "AUC, fp32"),
    ("after", "AUC, int8"),
    ("crossed", "share that changes sides at a threshold"),
)


def active_names(models: Path = MODELS) -> dict[str, str]:
    """The active bundle of every slot."""
    bundles = json.loads((models / "active.json").read_text(encoding="utf-8"))["bundles"]
    return {slot: str(record["name"]) for slot, record in bundles.items()}


def read_metrics(slot: str, models: Path = MODELS) -> dict[str, list[Row]]:
    """The metrics of the active bundle of a slot."""
    description = models / active_names(models)[slot] / "bundle.json"
    metrics: dict[str, list[Row]] = json.loads(description.read_text(encoding="utf-8"))["metrics"]
    return metrics


def summary(models: Path = MODELS) -> str:
    """One line for each question, for the README: what a user may expect of systems never met."""
    names = active_names(models)
    lines = []
    for slot, question in JUDGES.items():
        metrics = read_metrics(slot, models)
        views = metrics["views"]
        clean, worst = views[0], min(float(row["mean_auc"]) for row in views)
        genuine = in_first_view(metrics["sources"])
        lines.append(
            {
                "question": question,
                "bundle": f"`{names[slot]}`",
                "files": clean["files"],
                "auc": clean["mean_auc"],
                "worst": worst,
                "tpr": clean["tpr_at_1"],
                "wrong": _share_accused([row for row in genuine if not row["label"]]),
            }
        )
    heads = ("asked about", "bundle", "files", "mean AUC", "worst view", "TPR at 1 % FPR")
    columns = tuple(zip(("question", "bundle", "files", "auc", "worst", "tpr"), heads, strict=True))
    return table(lines, (*columns, ("wrong", "genuine files called synthetic")))


def _share_accused(genuine: Sequence[Row]) -> str:
    """The share of all genuine files that are called synthetic, and that of the worst source."""
    counts = [int(row["files"]) for row in genuine]
    shares = [float(row["flagged_synthetic"]) for row in genuine]
    accused = sum(count * share for count, share in zip(counts, shares, strict=True))
    return f"{100 * accused / sum(counts):.1f} % (worst source {100 * max(shares):.0f} %)"


def slot_tables(slot: str, models: Path = MODELS) -> str:
    """Every table of the active bundle of a slot that a reader outside its training needs."""
    metrics = read_metrics(slot, models)
    if slot == "face-finder":
        return table(metrics["views"], FACES)
    clean = in_first_view(metrics["sources"])
    parts = [table(metrics["views"], VIEWS), _by_label(clean, SYSTEMS, GENUINE)]
    if metrics.get("families"):
        parts.insert(1, table(metrics["families"], FAMILIES))
    if metrics.get("inserts"):
        parts.append(table(metrics["inserts"], MINUTES))
    if metrics.get("int8"):
        parts.append(table(metrics["int8"], PRECISION))
    return "\n".join(parts)


def known_failures(slot: str, models: Path = MODELS) -> str:
    """What the card of the active bundle of a slot says of its failures."""
    card = (models / active_names(models)[slot] / "README.md").read_text(encoding="utf-8")
    found = re.search(r"^## Known failures\n+(.*?)(?=^## |\Z)", card, re.DOTALL | re.MULTILINE)
    if found is None:
        raise ValueError(f"card of {slot}: has no part 'Known failures'")
    return found[1].strip()


def in_first_view(rows: Sequence[Row]) -> list[Row]:
    """The rows of the view that comes first, which is the one without degradation."""
    return [row for row in rows if row["view"] == rows[0]["view"]]


def _by_label(rows: Sequence[Row], synthetic: Columns, genuine: Columns) -> str:
    parts = [([row for row in rows if row["label"]], synthetic)]
    parts.append(([row for row in rows if not row["label"]], genuine))
    return "\n".join(table(chosen, columns) for chosen, columns in parts)


def table(rows: Iterable[Row], columns: Columns) -> str:
    """Markdown; columns of which no row has a value are left out."""
    rows = list(rows)
    kept = [(key, head) for key, head in columns if any(not _empty(row.get(key)) for row in rows)]
    lines = [[head for _, head in kept], ["---"] * len(kept)]
    lines += [[_word(row.get(key)) for key, _ in kept] for row in rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def _empty(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _word(value: Any) -> str:
    if _empty(value):
        return "–"
    return f"{value:.2f}" if isinstance(value, float) else str(value).replace("|", "\\|")
