"""The product on clips that its detectors never saw: bundles for every fold of the recipes of
frames and of faces, and the clips of each fold through ``Detector`` with those.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from scipy.special import logit

from deepfake.bundle import Bundle
from deepfake.settings import Settings
from deepfake.trust.registry import LIST, ActiveList, Recorded, read_bundles, write_list
from deepfake.types import Verdict

from ..card import markdown
from ..evaluation.command import RESULT, Request, evaluate
from ..evaluation.material import read_material
from ..evaluation.result import write_result
from ..evaluation.run import FUSED, Outcome
from ..fitting import prepare_process
from ..known import choose_files
from . import faces as of_faces
from . import recipe as of_frames
from .ablation import check_alike
from .layers import Fitted
from .material import FAMILIES, Clip, read_clips
from .parts import write_parts
from .together import Judged, tabulate_together

if TYPE_CHECKING:
    from rich.console import Console

KEPT = ("audio", "audio-large", "face", "face-finder", "video")
"""The slots besides those of the recipes that a clip is asked about; their bundles are the same in
every fold.
"""
EVIDENCE = {
    "frames": ("frames", "video"),
    "faces": ("face",),
    "sound": ("audio",),
    "motion": ("motion",),
}
"""Kinds of evidence, each with the names of its score in an outcome, the first that is there."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How the clips of all folds are evaluated; see ``deepfake evaluate``."""

    views: str = "as-is"
    limit: int = 0
    workers: int = 2
    seed: int = 1


def evaluate_folds(
    frames: of_frames.FrameRecipe,
    faces: of_faces.FaceTierRecipe,
    *,
    data: Path,
    models: Path,
    runs: Path,
    output: Path,
    plan: Plan,
    console: Console,
) -> None:
    """Print what the product says of clips by bundles that saw nothing of their groups, fitted on
    what runs of both recipes left in ``runs`` or on what is made now.

    ``output`` gets the clips as files, the models folder of every fold, unsigned, and its result;
    what is there is not made again. Raises ``SettingsError`` for recipes of other clips.
    """
    check_alike(frames, faces)
    prepare_process(frames.threads)
    clips = read_clips(
        [data / name for name in frames.material], boxes=data / frames.boxes, folds=frames.folds
    )
    folds = sorted({clip.fold for clip in clips})
    folders = {fold: output / "models" / f"fold-{fold}" for fold in folds}
    left = [fold for fold in folds if not (folders[fold] / LIST).exists()]
    if left:
        for recipe in (frames, faces):
            (runs / recipe.name).mkdir(parents=True, exist_ok=True)
        fitted = (
            *of_frames.fit_tiers(frames, clips, models=models, output=runs / frames.name),
            of_faces.fit_faces(faces, clips, models=models, output=runs / faces.name),
        )
        for fold in left:
            place = folders[fold]
            write_fold(frames, faces, clips, fitted, fold=fold, models=models, folder=place)
    parts = output / "parts"
    if plan.limit:
        most = (plan.limit, plan.limit)
        clips = [clips[n] for n in choose_files(clips, most=most, seed=plan.seed)]
    write_parts(clips, parts, workers=frames.workers)
    outcomes: list[Outcome] = []
    for fold in folds:
        place, result = _write_manifest(parts, fold), output / f"fold-{fold}"
        request = Request(
            place=place,
            output=result,
            views=plan.views,
            workers=plan.workers,
            seed=plan.seed,
        )
        settings = Settings(models_folder=folders[fold], allow_unsigned=True)
        found = evaluate(request, settings, errors=console)
        write_result(found, result / RESULT)
        outcomes += found.outcomes
    facts = {sample.name: sample.facts for sample in read_material(parts)}
    for view in dict.fromkeys(one.view for one in outcomes):
        inside = [one for one in outcomes if one.view == view]
        families = [facts[one.name].get("family", "genuine") for one in inside]
        print(f"{view}, each clip by bundles that saw nothing of its group\n")
        print(_verdict_table(inside, families))
        files = [
            _judge(one, fold=int(facts[one.name]["fold"]), family=family)
            for one, family in zip(inside, families, strict=True)
            if FUSED in one.scores
        ]
        print(tabulate_together(files, seed=plan.seed))


def write_fold(
    frames: of_frames.FrameRecipe,
    faces: of_faces.FaceTierRecipe,
    clips: Sequence[Clip],
    fitted: tuple[Fitted, Fitted, Fitted],
    *,
    fold: int,
    models: Path,
    folder: Path,
) -> None:
    """A models folder whose bundles of frames and of faces, and their calibrations, saw nothing of
    a fold; the others are those of ``models``. ``fitted`` are both tiers of frames and that of
    faces. What these were calibrated on lies beside the folder, whose list comes last.
    """
    shutil.rmtree(folder, ignore_errors=True)
    records = {one.name: folder.parent / f"{folder.name}.{one.name}" for one in (frames, faces)}
    for place in records.values():
        place.mkdir(parents=True, exist_ok=True)
    known = [clip for clip in clips if clip.fold != fold]
    facts = {"fold left out": fold}
    folder.mkdir()
    bundles: list[Bundle] = []
    for slot, bundle in read_bundles(models).items():
        if slot in KEPT:
            shutil.copytree(bundle.folder, folder / bundle.name)
            bundles.append(bundle)
    quick, full, people = (one.without(fold) for one in fitted)
    bundles += of_frames.write_tiers(
        frames, known, quick, full, facts=facts, models=folder, output=records[frames.name]
    )
    place = records[faces.name]
    bundles.append(
        of_faces.write_tier(faces, known, people, facts=facts, models=folder, output=place)
    )
    listed = {
        one.slot: Recorded(one.name, Bundle.read(folder / one.name).sha256) for one in bundles
    }
    write_list(folder, ActiveList(listed))


def _write_manifest(parts: Path, fold: int) -> Path:
    """The rows of one fold of the manifest of ``parts``, whose last column it is."""
    head, *rows = (parts / "manifest.tsv").read_text(encoding="utf-8").splitlines()
    own = [row for row in rows if row.rpartition("\t")[2] == str(fold)]
    path = parts / f"fold-{fold}.tsv"
    path.write_text("\n".join([head, *own]) + "\n", encoding="utf-8")
    return path


def _judge(outcome: Outcome, *, fold: int, family: str) -> Judged:
    odds = {}
    for kind, names in EVIDENCE.items():
        name = next((name for name in names if name in outcome.scores), None)
        if name is not None:
            odds[kind] = float(logit(outcome.scores[name]))
    return Judged(
        label=int(outcome.synthetic),
        source=outcome.source,
        group=outcome.group,
        fold=fold,
        family=family,
        odds=odds,
        present=float(logit(outcome.scores[FUSED])),
    )


def _verdict_table(outcomes: Sequence[Outcome], families: Sequence[str]) -> str:
    """How many clips of each family got which word."""
    rows = []
    for family in ("genuine", *FAMILIES):
        own = [o for o, name in zip(outcomes, families, strict=True) if name == family]
        if own:
            words = Counter(one.verdict or "failed" for one in own)
            rows.append([family, len(own), *(words[word] for word in (*Verdict, "failed"))])
    return markdown(["clips", "all", *Verdict, "failed"], rows)
