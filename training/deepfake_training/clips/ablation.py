"""What more clips and other evidence would bring: numbers about the detectors of clips that are not
about one bundle, from the features that the recipes of frames and of faces leave.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.special import logit

from deepfake.analyzers.audio import Audio
from deepfake.bundle import Bundle
from deepfake.content.drawings import is_graphic
from deepfake.content.footage import MOST_GRAPHICS
from deepfake.content.inputs import read_motion
from deepfake.engine.engine import Engine
from deepfake.engine.scores import Scored
from deepfake.errors import DeepfakeError, SettingsError
from deepfake.media.opening import open_media
from deepfake.reasons import Code
from deepfake.settings import DetectOptions, Settings
from deepfake.trust.registry import read_bundles

from ..calibrate import fit_calibration, pool_logits
from ..card import markdown
from ..files import timed
from ..fitting import prepare_process
from ..known import choose_files
from ..records import FileLogits
from .faces import FaceTierRecipe, see_faces
from .features import Features, Frame, load_one_scale, run_blocks
from .frames import Shots, keep_shots, load_shots
from .layers import fit_heads, record_clips, record_values
from .material import FAMILIES, WHOLE, Clip, read_clips
from .recipe import LOOKS, FrameRecipe, see_frames
from .together import COLUMNS, MANDATORY, Judged, rank_clips, tabulate_together

QUICK_LOOKS = {"clean": (Frame(burst=1, changed=False),)}
NUMBERS = (48, 300)
"""Synthetic clips that are learnt from, beside all of them."""
RAISING = ("faces", "sound")
"""What counts beside the frames in the present rule, where it is suspicious; motion is but told."""
_ODDS = "odds"
Look = Callable[[Clip, Shots | None, Engine], float | None]
"""The score of a clip, of which these frames were kept."""


def print_ablation(
    frames: FrameRecipe,
    faces: FaceTierRecipe,
    *,
    data: Path,
    models: Path,
    runs: Path,
    quick: bool = False,
    limit: int = 0,
) -> None:
    """Print how many clips are taken for graphics, what fewer synthetic clips would do, and what
    each kind of evidence is worth alone and with others. What runs of the recipes left in ``runs``
    is taken from there; what is missing is made, with ``quick`` of one frame of each clip and of
    its faces as they are. Sound and motion are judged by the bundles of ``models`` as they are.
    With ``limit`` only so many clips of each source are taken, for which ``runs`` must be a folder
    of its own.

    Raises ``SettingsError`` for recipes of other clips.
    """
    check_alike(frames, faces)
    prepare_process(frames.threads)
    output = runs / frames.name
    output.mkdir(parents=True, exist_ok=True)
    clips = read_clips(
        [data / name for name in frames.material], boxes=data / frames.boxes, folds=frames.folds
    )
    if limit:
        clips = [clips[n] for n in choose_files(clips, most=(limit, limit), seed=frames.seed)]
    with timed("frames", output):
        keep_shots(clips, folder=output / "frames", workers=frames.workers)
    print("Taken for graphics by most of three frames\n")
    print(_graphics_table(clips, output / "frames"))
    source, network = load_one_scale(Bundle.read(models / f"{frames.image}-large"))
    looks = QUICK_LOOKS if quick else LOOKS
    seen = see_frames(frames, clips, source, network, output=output, looks=looks)
    print(f"{source.name} on {sum(map(len, looks.values()))} frames of a clip, groups left out\n")
    by_name, records, rows = {clip.name: clip for clip in clips}, {}, []
    synthetic = sum(clip.label for clip in clips)
    for number in (*(number for number in NUMBERS if number < synthetic), None):
        known = choose_known(clips, most=number, seed=frames.seed)
        heads = fit_heads(network, clips, seen, penalty=frames.penalty, known=known)
        records[MANDATORY] = record_clips(clips, seen, heads)
        clean = [one for one in records[MANDATORY] if one.view == "clean"]
        odds = np.array([np.mean(one.logits) for one in clean])
        learnt = sum(clip.label for clip, own in zip(clips, known, strict=True) if own)
        rows.append([learnt, *rank_clips([by_name[one.path] for one in clean], odds)])
    print(markdown(["synthetic clips learnt", *COLUMNS], rows))
    (runs / faces.name).mkdir(exist_ok=True)
    views = ("clean",) if quick else ("clean", "changed")
    seen = see_faces(
        faces, clips, source, network, models=models, output=runs / faces.name, views=views
    )
    heads = fit_heads(network, clips, seen, penalty=faces.penalty)
    records["faces"] = record_clips(clips, seen, heads)
    with timed("sound and motion", output):
        records |= judge_apart(clips, models=models, output=output, workers=frames.workers)
    files = judge(clips, records, each_source=frames.calibration.each_source)
    print(tabulate_together(files, seed=frames.seed))


def check_alike(frames: FrameRecipe, faces: FaceTierRecipe) -> None:
    """Raise ``SettingsError`` where two recipes are not about the same clips in the same folds."""
    for key in ("material", "boxes", "folds", "image"):
        one, other = getattr(frames, key), getattr(faces, key)
        if one != other:
            raise SettingsError(
                f"recipes {frames.name} and {faces.name}: {key} {one!r} is not {other!r}",
                hint="both must be about the same clips in the same folds",
            )


def choose_known(clips: Sequence[Clip], *, most: int | None, seed: int) -> npt.NDArray[np.bool_]:
    """Which clips (clips,) are learnt from: all genuine ones, and at most so many synthetic ones,
    drawn by chance.
    """
    synthetic = [number for number, clip in enumerate(clips) if clip.label]
    drawn = np.random.default_rng(seed).permutation(synthetic)[:most]
    known = np.array([not clip.label for clip in clips])
    known[drawn] = True
    return known


def judge_apart(
    clips: Sequence[Clip], *, models: Path, output: Path, workers: int
) -> dict[str, list[FileLogits]]:
    """Records with the log-odds of the sound of whole clips and of the motion of four frames of
    three bursts, by the bundles of ``models``; goes on where an earlier run stopped.
    """
    bundles, found = read_bundles(models), {}
    looks: dict[str, tuple[str, Look]] = {"sound": ("audio", _hear), "motion": ("video", _watch)}
    for name, (slot, look) in looks.items():
        bundle = bundles[slot]
        with closing(Engine(Settings(threads=workers), active={slot: bundle})) as engine:
            values = run_blocks(
                partial(_ask, look, clips, output / "frames", engine),
                count=len(clips),
                folder=output / "evidence" / f"{bundle.name}-{bundle.sha256[:16]}",
                workers=1,
            )
        odds = {"clean": [{number: own[_ODDS] for number, own in values.items()}]}
        found[name] = record_values(clips, odds)
    return found


def _ask(
    look: Look, clips: Sequence[Clip], shots: Path, engine: Engine, number: int
) -> dict[str, Features]:
    try:
        score = look(clips[number], load_shots(shots, number), engine)
    except DeepfakeError:
        return {}
    return {} if score is None else {_ODDS: np.array([logit(score)], np.float16)}


def _hear(clip: Clip, shots: Shots | None, engine: Engine) -> float | None:
    if clip.part != WHOLE:
        return None
    with open_media(clip.item.path) as media:
        (evidence,) = Audio().analyze(media, engine, DetectOptions())
    return evidence.score


def _watch(clip: Clip, shots: Shots | None, engine: Engine) -> float | None:
    if shots is None:
        return None
    bundle, moments = engine.bundle("video"), []
    for burst in shots.bursts:
        batch = read_motion(list(burst), bundle)
        if not isinstance(batch, Code):
            moments.append(engine.score(bundle, batch))
    return Scored.join_moments(moments).score if moments else None


def judge(
    clips: Sequence[Clip], records: dict[str, list[FileLogits]], *, each_source: bool
) -> list[Judged]:
    """The clips that frames judged, as they are, with what else judged them: every log-odds, and
    what counts as suspicious in the present rule, by a calibration on the other folds.
    """
    odds: dict[str, dict[str, float]] = {}
    alarms: dict[str, set[str]] = {clip.name: {MANDATORY} for clip in clips}
    for name, own in records.items():
        for fold in sorted({one.fold for one in own}):
            others = [one for one in own if one.fold != fold]
            calibration = fit_calibration(others, each_source=each_source)
            for one in own:
                if one.fold == fold and one.view == "clean":
                    score = calibration.probability(pool_logits(one, top_fraction=1.0))
                    odds.setdefault(one.path, {})[name] = float(logit(score))
                    if name in RAISING and score >= calibration.points.suspicious:
                        alarms[one.path].add(name)
    return [
        Judged(
            label=clip.label,
            source=clip.source,
            group=clip.group,
            fold=clip.fold,
            family=clip.family,
            odds=odds[clip.name],
            present=max(
                odds[clip.name][name] for name in odds[clip.name].keys() & alarms[clip.name]
            ),
        )
        for clip in clips
        if MANDATORY in odds.get(clip.name, {})
    ]


def _graphics_table(clips: Sequence[Clip], shots: Path) -> str:
    taken: dict[str, list[bool]] = {}
    for number, clip in enumerate(clips):
        own = load_shots(shots, number)
        if own is not None:
            drawn = [is_graphic(burst[0]) for burst in own.bursts]
            most = float(np.mean(drawn)) > MOST_GRAPHICS
            taken.setdefault(clip.family or "genuine", []).append(most)
    rows = [
        [family, sum(taken[family]), len(taken[family])]
        for family in ("genuine", *FAMILIES)
        if family in taken
    ]
    return markdown(["clips", "taken for graphics", "of"], rows)
