"""The table of suspicious files, in which a person writes what becomes of them."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from deepfake.errors import SettingsError
from deepfake.files import replaced
from deepfake.scan.tables import write_cell
from deepfake.text import display_name

from ..manifests import CLASSES
from .candidates import Candidate
from .findings import Finding, trust_files

COLUMNS = ("decision", "file", "class", "source", "counts", "findings", "why", "sha256")
WORDS = ("keep", "drop")


def write_decisions(
    candidates: Sequence[Candidate],
    findings: Sequence[Finding],
    path: Path,
    *,
    decided: Mapping[str, str],
) -> None:
    """Write a line for each file that is in a finding, those that count least first, and for each
    of which something was ``decided`` before, by sha256.
    """
    trust = trust_files(findings, count=len(candidates))
    told: dict[int, list[Finding]] = {}
    for finding in findings:
        for number in finding.files:
            told.setdefault(number, []).append(finding)
    for number, candidate in enumerate(candidates):
        if candidate.info.sha256 in decided:
            told.setdefault(number, [])
    order = sorted(told, key=lambda number: (trust[number], -len(told[number]), number))
    with replaced(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(COLUMNS)
        for number in order:
            one = candidates[number]
            codes = dict.fromkeys(each.code.value for each in told[number])
            cells: list[Any] = [
                decided.get(one.info.sha256, ""),
                one.name,
                CLASSES[one.label],
                one.source,
                f"{trust[number]:g}",
                " ".join(codes),
                "; ".join(dict.fromkeys(each.text for each in told[number])),
                one.info.sha256,
            ]
            rows.writerow([write_cell(cell) for cell in cells])


def read_decisions(path: Path) -> dict[str, str]:
    """What was decided, by sha256: ``keep`` or ``drop``; lines without a word are left out.

    Raises ``SettingsError`` for what is no such table, and for another word.
    """
    shown = display_name(path)
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return dict(_read(csv.DictReader(file), shown))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SettingsError(
            f"decisions {shown}: cannot be read ({error})", hint="give the table of an audit"
        ) from error


def _read(rows: csv.DictReader[str], shown: str) -> Iterator[tuple[str, str]]:
    if not {"decision", "sha256"} <= {*(rows.fieldnames or ())}:
        raise SettingsError(
            f"decisions {shown}: lacks the column decision or sha256",
            hint="give the table of an audit",
        )
    for number, row in enumerate(rows, start=2):
        word = (row["decision"] or "").strip().lower()
        if word and word not in WORDS:
            raise SettingsError(
                f"decisions {shown}, line {number}: {display_name(word)} is no decision",
                hint=f"write {' or '.join(WORDS)}, or nothing",
            )
        if word and row["sha256"]:
            yield row["sha256"].strip(), word


def apply_decisions(
    candidates: Sequence[Candidate], findings: Sequence[Finding], decided: Mapping[str, str]
) -> list[Finding]:
    """The findings that are left: without those about files of which each is to be kept, or of
    which one is to be dropped.
    """
    words = [decided.get(one.info.sha256, "") for one in candidates]
    return [
        one
        for one in findings
        if not one.files
        or not (
            all(words[number] == "keep" for number in one.files)
            or any(words[number] == "drop" for number in one.files)
        )
    ]
