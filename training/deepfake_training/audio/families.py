"""How kinds of synthesis are told apart, whatever page they are from."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from ..known import Known
from ..metrics import FamilyRow, auc, eer, tpr_at_fpr
from .judging import Judged
from .material import system_of

_FORMS = {
    "vocoder copy": re.compile(r"\bcopy|copy-synthesis|hifigan-page|wavegrad-page|diffwave-page"),
    "codec": re.compile(r"\bcodec"),
    "editing": re.compile(r"\bedit|editing"),
    "voice conversion": re.compile(r"\bvc\b|-vc\b|vc@"),
}


def family_of(file: Known) -> str:
    """The family of a synthetic recording, from what its source and note say."""
    facts = file.item.facts
    text = " ".join([file.source, facts.get("note", ""), facts["path"]]).lower()
    return next((name for name, form in _FORMS.items() if form.search(text)), "text to speech")


def tabulate_families(
    files: Sequence[Known], judged: Sequence[Judged], *, heard: Sequence[bool]
) -> list[FamilyRow]:
    """Rows of families, of languages and of systems that occur in one fold only, from ``judged``
    recordings as they are; genuine ones that are ``heard`` (files,) are left out.
    """
    clean = [one for one in judged if one.view == "clean"]
    genuine = [one for one in clean if not files[one.file].label and not heard[one.file]]
    kinds: dict[str, list[Judged]] = {}
    places: dict[str, set[int]] = {}
    for file in files:
        if file.label:
            places.setdefault(system_of(file.source), set()).add(file.fold)
    for one in (one for one in clean if files[one.file].label):
        file = files[one.file]
        kinds.setdefault(family_of(file), []).append(one)
        note = file.item.facts.get("note", "").split()
        if note and re.fullmatch("[a-z]{2}(-.*)?", note[0]):
            kinds.setdefault("English" if note[0].startswith("en") else "others", []).append(one)
        if len(places[system_of(file.source)]) == 1:
            kinds.setdefault("systems of one half only", []).append(one)
    return [_row(name, fakes, genuine, files) for name, fakes in sorted(kinds.items())]


def _row(
    name: str, fakes: Sequence[Judged], genuine: Sequence[Judged], files: Sequence[Known]
) -> FamilyRow:
    folds = {files[one.file].fold for one in fakes}
    both = [*fakes, *(one for one in genuine if files[one.file].fold in folds)]
    labels = np.array([float(files[one.file].label) for one in both])
    logits = np.array([float(np.mean(one.logits)) for one in both])
    return FamilyRow(
        family=name,
        files=len(fakes),
        auc=auc(labels, logits),
        eer=eer(labels, logits),
        tpr_at_1=tpr_at_fpr(labels, logits, fpr=0.01),
    )
