"""The shipped detector over a labelled folder: what a user would be told, source by source.

    python -m benchmarks.accuracy DATA/video

``DATA/video/manifest.tsv`` needs the columns ``path`` and ``label`` (real or fake) and one that
names the source (``source`` or ``system``). Pictures and sounds of the training material were seen
in training: their honest numbers are those of ``python -m deepfake_training evaluate``. Videos were
not.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
from deepfake_training.manifests import Item, read_manifest
from rich.console import Console
from rich.progress import track
from sklearn.metrics import roc_auc_score

from deepfake import DeepfakeError, Detector, Report, Verdict
from deepfake.show.console import print_table


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accuracy", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("folder", type=Path, help="a folder with manifest.tsv")
    parser.add_argument("--evidence", help="source of evidence to rank by (default: the kind's)")
    options = parser.parse_args(arguments)
    header = (options.folder / "manifest.tsv").read_text(encoding="utf-8").split("\n", 1)[0]
    column = "source" if "source" in header.split("\t") else "system"
    items = read_manifest(options.folder, source_column=column)
    console = Console(markup=False, highlight=False, width=160)
    with Detector() as detector:
        results = list(
            track(
                zip(items, detector.detect_many([i.path for i in items], workers=2), strict=True),
                total=len(items),
                console=Console(stderr=True),
            )
        )
    reports = [(item, report) for item, report in results if isinstance(report, Report)]
    for item, error in results:
        if isinstance(error, DeepfakeError):
            print(f"{item.path.name}: {error}", file=sys.stderr)
    for source in [options.evidence] if options.evidence else _sources(reports):
        print(f"evidence: {source}")
        print_table(*tabulate(reports, source), console)
    return 0


def tabulate(
    reports: list[tuple[Item, Report]], evidence: str
) -> tuple[list[str], list[list[str]]]:
    """Rows by source: files, score quantiles of one evidence, verdicts, AUC against all others."""
    scores: dict[tuple[int, str], list[float]] = defaultdict(list)
    verdicts: dict[tuple[int, str], Counter[Verdict]] = defaultdict(Counter)
    for item, report in reports:
        score = next((e.score for e in report.evidence if e.source == evidence), None)
        verdicts[item.label, item.source][report.verdict] += 1
        if score is not None:
            scores[item.label, item.source].append(score)
    head = ["label", "source", "files", "score 10/50/90 %", "AUC", *(v.value for v in Verdict)]
    rows = []
    for (label, source), own in sorted(scores.items()):
        others = [s for (other, _), values in scores.items() if other != label for s in values]
        area = float("nan")
        if others:
            labels = [label] * len(own) + [1 - label] * len(others)
            area = float(roc_auc_score(labels, own + others))
        quantiles = " / ".join(f"{q:.2f}" for q in np.quantile(own, [0.1, 0.5, 0.9]))
        counts = [str(verdicts[label, source][verdict]) for verdict in Verdict]
        word = "fake" if label else "real"
        rows.append([word, source, str(len(own)), quantiles, f"{area:.3f}", *counts])
    every = [(label, s) for (label, _), values in scores.items() for s in values]
    if len({label for label, _ in every}) == 2:
        area = float(roc_auc_score([label for label, _ in every], [s for _, s in every]))
        rows.append(["both", "all", str(len(every)), "", f"{area:.3f}", *[""] * len(Verdict)])
    return head, rows


def _sources(reports: list[tuple[Item, Report]]) -> list[str]:
    names = {e.source for _, report in reports for e in report.evidence if e.points is not None}
    return sorted(names)


if __name__ == "__main__":
    sys.exit(main())
