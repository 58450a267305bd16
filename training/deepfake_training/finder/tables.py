"""The tables of the face finder, and what its card says of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from deepfake.bundle import Bundle

from ..card import markdown

Rows = Sequence[Mapping[str, Any]]
HEADS = {
    "view": "view",
    "source": "left-out source",
    "pixels": "size of the face, pixels",
    "pictures": "pictures",
    "faces": "faces",
    "recall": "recall",
    "landmark_error": "landmark error, mean",
    "landmark_error_median": "median",
    "false_positives": "false positives",
    "false_positives_a_picture": "a picture",
}


def table(rows: Rows) -> str:
    """Markdown with a column for every key of :data:`HEADS` that the rows have."""
    keys = [key for key in HEADS if rows and key in rows[0]]
    return markdown([HEADS[key] for key in keys], [[row[key] for key in keys] for row in rows])


def print_tables(metrics: Mapping[str, Rows], *, least: float) -> None:
    print(f"faces of at least 48 pixels, least score {least}\n")
    print(table(metrics["views"]))
    print(table(metrics["sizes"]))
    print(table(metrics["sources"]))


def describe(bundle: Bundle, recipe: str) -> str:
    """The card's part about how the bundle was made and how accurate it is; ``recipe`` names the
    file.
    """
    metrics: Mapping[str, Rows] = bundle.metrics
    return f"""\
Made by `deepfake recipe make {recipe} --data DATA --weights WEIGHTS`.

## Least score

A face is kept from a score of {bundle.calibration.points.synthetic:.2f}: the least, in steps of
0.01, with which the validation sources get at most 0.035 false positives a picture over all views.
The score is the network's own estimate of how well its box fits, not a calibrated probability.

## Accuracy

Against the teacher, on sources that neither the training nor the choice of the least score had
seen, by the weights that ship (`deepfake recipe evaluate {recipe}` prints the tables).
Recall is the share of the teacher's sure faces of at least 48 pixels (root of the area) that a
found box overlaps by half. A false positive overlaps no face that the teacher sees at any scale,
sure or not, by 0.3 of the union. Landmark errors are parts of the distance of the eyes, mean over
five points. Views: web is a long side of at most 768 and JPEG 60, dark a fifth of the light with
noise.

{table(metrics["views"])}
### By size of the face

{table(metrics["sizes"])}
### By source

{table(metrics["sources"])}
"""
