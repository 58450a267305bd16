"""A result as one page that opens offline: curves and tables, nothing loaded from anywhere."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import norm

from deepfake.text import printable

from .compare import Pairing
from .fairness import warn_of_groups
from .measures import Array, draw_curve
from .result import Evaluation
from .run import FUSED, PEER, Outcome
from .tables import (
    NAMES,
    Table,
    list_comparisons,
    list_failures,
    list_flips,
    list_groups,
    make_tables,
    name_score,
)
from .tabulate import OWN_NETWORK
from .views import AS_IS

_HERE = Path(__file__).parent
_LOOK: dict[Any, Any] = {
    "svg.hashsalt": "deepfake",
    "svg.fonttype": "none",
    "font.size": 9,
    "axes.grid": True,
}
_TICKS = (0.01, 0.05, 0.2, 0.5, 0.8, 0.95, 0.99)
_COLOURS = {"synthetic": "#c0392b", "genuine": "#2471a3"}


def write_page(
    result: Evaluation,
    path: Path,
    *,
    pairing: Pairing | None = None,
    changes: Sequence[str] = (),
) -> None:
    """Write the page; ``pairing`` adds the comparison with another result, ``changes`` what differs
    in versions.
    """
    pictures: list[dict[str, Any]] = []
    for kind in dict.fromkeys(row.kind for row in result.rows):
        for view in dict.fromkeys(row.view for row in result.rows if row.kind == kind):
            inside = [one for one in result.outcomes if (one.kind, one.view) == (kind, view)]
            if len({one.synthetic for one in inside if one.scores}) == 2:
                title = f"{NAMES[kind]}, {view}"
                pictures.append({"title": title, "svg": draw_figures(inside, kind=kind)})
    extra: list[Table] = []
    if result.comparisons:
        extra.append(list_comparisons("beside other detectors", result.comparisons))
    if pairing is not None:
        extra += [list_comparisons("before and now", pairing.comparisons), list_flips(pairing)]
    failures = list_failures(result)
    sentences = [one.text for one in result.comparisons]
    if pairing is not None:
        sentences += pairing.sentences
    values: Mapping[str, Any] = {
        "result": result,
        "views": _say_views(result),
        "pictures": pictures,
        "tables": [*make_tables(result)],
        "groups": list_groups(result.groups) if result.groups else None,
        "warnings": warn_of_groups(result.groups),
        "extra": extra,
        "failures": failures if failures.cells else None,
        "sentences": sentences,
        "changes": changes,
    }
    environment = Environment(
        autoescape=True,
        loader=FileSystemLoader(_HERE),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters["shown"] = lambda text: printable(str(text), most=300)
    path.write_text(environment.get_template("page.html").render(values), encoding="utf-8")


def draw_figures(outcomes: Sequence[Outcome], *, kind: str) -> Markup:
    """ROC, DET, reliability and histogram of one view as one SVG. The curves are of every score,
    the histogram is of the network's own.
    """
    with rc_context(_LOOK):
        figure = Figure(figsize=(13, 3.3), layout="constrained")
        roc, det, reliability, histogram = figure.subplots(1, 4)
        names = [FUSED, OWN_NETWORK[kind]]
        names += sorted({name for one in outcomes for name in one.scores} - {*names})
        for name in names:
            scored = [one for one in outcomes if name in one.scores]
            labels = np.array([one.synthetic for one in scored], np.float64)
            scores = np.array([one.scores[name] for one in scored])
            if len(set(labels)) == 2:
                _add_curves(roc, det, labels, scores, name=name_score(name))
                if not name.startswith(PEER):
                    _add_reliability(reliability, labels, scores)
        _finish(roc, det, reliability)
        own = [one for one in outcomes if OWN_NETWORK[kind] in one.scores]
        for label, colour in _COLOURS.items():
            values = [
                one.scores[OWN_NETWORK[kind]]
                for one in own
                if one.synthetic == (label == "synthetic")
            ]
            if values:
                share = np.full(len(values), 1 / len(values))
                bins = np.linspace(0, 1, 21)
                histogram.hist(values, bins, weights=share, alpha=0.55, color=colour, label=label)
        histogram.set(title=f"scores of {OWN_NETWORK[kind]}", xlabel="score", ylabel="share")
        histogram.legend()
        stream = io.StringIO()
        figure.savefig(
            stream, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type"))
        )
    text = stream.getvalue()
    # Everything in it was drawn by matplotlib, which escapes what it is given.
    return Markup(text[text.index("<svg") :])  # noqa: S704


def _add_curves(roc: Axes, det: Axes, labels: Array, scores: Array, *, name: str) -> None:
    curve = draw_curve(labels, scores, np.ones((1, len(labels))))
    false, true = curve.false_positive[0], curve.true_positive[0]
    area = float(np.trapezoid(true, false))
    look: dict[str, Any] = {"linestyle": "--", "zorder": 3} if name == FUSED else {}
    roc.plot(false, true, label=f"{name} {area:.3f}", **look)
    low, high = norm.ppf(0.004), norm.ppf(0.996)
    det.plot(np.clip(norm.ppf(false), low, high), np.clip(norm.ppf(1 - true), low, high), **look)


def _add_reliability(axes: Axes, labels: Array, scores: Array) -> None:
    """Both classes weigh alike, as in the calibration error."""
    weights = np.where(labels == 1, 0.5 / labels.sum(), 0.5 / (1 - labels).sum())
    bins = np.minimum((scores * 10).astype(int), 9)
    mass = np.bincount(bins, weights, 10)
    used = mass > 0
    stated = np.bincount(bins, weights * scores, 10)[used] / mass[used]
    seen = np.bincount(bins, weights * labels, 10)[used] / mass[used]
    axes.plot(stated, seen, marker="o", markersize=4)


def _finish(roc: Axes, det: Axes, reliability: Axes) -> None:
    for axes in (roc, reliability):
        axes.plot([0, 1], [0, 1], color="#999", linestyle=":", linewidth=1)
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    roc.set(title="ROC (AUC)", xlabel="false positives", ylabel="found")
    roc.legend(loc="lower right", fontsize=8)
    places = norm.ppf(_TICKS)
    names = [f"{100 * tick:g} %" for tick in _TICKS]
    det.set(title="DET", xlabel="false positives", ylabel="missed")
    det.set_xticks(places, names, rotation=45)
    det.set_yticks(places, names)
    reliability.set(title="reliability", xlabel="score", ylabel="share synthetic (classes alike)")


def _say_views(result: Evaluation) -> list[str]:
    told = []
    for name, kinds in replace(result, rows=(), outcomes=()).to_dict()["views"].items():
        words = "; ".join(f"{NAMES[kind]}: {says}" for kind, says in kinds.items())
        told.append(f"{name}: {words or 'the file as it is'}")
    return told or [AS_IS]
