"""A bundle calibrated anew on labelled files, each read in several views as the detector reads it.

Of the ``frame`` and the ``video`` bundle this fits how the frames of a clip, and its frames and its
motion together, are read; of all others what their logits mean.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import av.error
import numpy as np
from scipy.special import logit
from tqdm import tqdm

from deepfake.analyzers.video import Video
from deepfake.bundle import QUICK_TIERS, Bundle, parse_name
from deepfake.content.faces import MOST_FACES, open_finder
from deepfake.content.footage import view
from deepfake.content.inputs import read_face, read_sound, read_still
from deepfake.engine.engine import Engine
from deepfake.engine.scores import pool_frames
from deepfake.errors import MediaError, SettingsError
from deepfake.media.opening import Media, open_media
from deepfake.preprocess import AudioPreprocess
from deepfake.settings import DetectOptions, Settings, shipped_models_folder
from deepfake.trust.registry import newest_bundles, read_bundles

from .calibrate import fit_calibration
from .card import add_part, source_table, view_table
from .manifests import Item
from .metrics import SourceRow, ViewRow, tabulate
from .perturb import AUDIO_VIEWS, PICTURE_VIEWS
from .records import FileLogits, round_logits, write_records
from .video.views import view_clip

CLIP_VIEWS = ("clean", "crf_32", "crf_40_360p")
LEAST_FILES = 10
"""Of either class; with so few the operating points are coarse."""

Tables = tuple[list[SourceRow], list[ViewRow]]


def recalibrate(
    folder: Path, items: Sequence[Item], *, each_source: bool = False, kept: Path | None = None
) -> Tables | None:
    """Fit the calibration of the bundle in ``folder``, store it there, and add to its card what the
    sources are like, each judged by a fit without it: these tables, or None where a class has only
    one source. What the bundle said of every file goes to ``kept``.

    Limits beyond which a quick tier settled the matter go, because they were of the old scores.
    Raises ``SettingsError`` for fewer than ten files of a class that can be judged, and for a
    full tier.
    """
    bundle = Bundle.read(folder)
    bundle.verify()
    if bundle.slot == "face-finder":
        raise SettingsError(
            f"bundle {bundle.name}: says where faces are, which labels of files cannot calibrate",
            hint="choose one of another slot",
        )
    if bundle.slot in QUICK_TIERS:
        raise SettingsError(
            f"bundle {bundle.name}: is a full tier, whose calibration counts the quick one in",
            hint="make both tiers again by their recipe",
        )
    own = newest_bundles(folder.parent) if parse_name(folder.name) else {}
    beside = read_bundles(shipped_models_folder()) | own
    engine = Engine(Settings(), active=beside | {bundle.slot: bundle})
    try:
        records = list(read_records(engine, bundle, items))
    finally:
        engine.close()
    if kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_records(kept, records)
    counts = Counter(label for _, label in {(record.path, record.label) for record in records})
    if min(counts[0], counts[1]) < LEAST_FILES:
        raise SettingsError(
            f"labelled files: {counts[0]} genuine and {counts[1]} synthetic could be judged",
            hint=f"give at least {LEAST_FILES} of each, better some hundred",
        )
    old, clips = bundle.calibration, bundle.slot in ("frame", "video")
    top = 1.0 if clips else old.top_fraction
    fitted = fit_calibration(records, top_fraction=top, each_source=each_source)
    if clips:
        bundle = replace(bundle, frames_calibration=fitted)
    else:
        fitted = replace(fitted, span_windows=old.span_windows, length_penalty=old.length_penalty)
        bundle = replace(bundle, calibration=fitted, settled=None)
    bundle.write(folder)
    groups = Counter(label for label, _ in {(record.label, record.group) for record in records})
    if min(groups[0], groups[1]) < 2:
        return None
    tables = tabulate(records, fitted, within_fold=False, each_source=each_source)
    describe(bundle, *tables)
    return tables


def describe(bundle: Bundle, sources: Sequence[SourceRow], views: Sequence[ViewRow]) -> None:
    """Add (or replace) the card's part about it."""
    titles = {"frame": "Video frames", "video": "Motion and frames"}
    add_part(
        bundle,
        title=titles.get(bundle.slot, "Calibration on other files"),
        text="Calibrated on labelled files, each read as `deepfake detect` reads it; every source "
        f"below is judged by a fit without it (`deepfake calibrate models/{bundle.name} --files "
        "FILES` prints this).",
        tables="\n".join(
            [view_table(views), source_table(sources, label=1), source_table(sources, label=0)]
        ),
    )


def read_records(engine: Engine, bundle: Bundle, items: Sequence[Item]) -> Iterator[FileLogits]:
    """What the bundle says of every file in every view in which the detector would judge it."""
    for item in tqdm(items, desc="files", unit="file", mininterval=5):
        try:
            for name, logits in read_views(engine, bundle, item.path):
                path = item.facts["path"]
                yield FileLogits(path, item.label, item.source, item.group, 0, name, logits)
        except (MediaError, av.error.FFmpegError) as error:
            tqdm.write(f"left out: {error}")


def read_views(
    engine: Engine, bundle: Bundle, path: Path
) -> Iterator[tuple[str, tuple[float, ...]]]:
    """The views of one file with its logits: of each window; of faces that of the most suspicious;
    of clips one number that the slot's ``frames_calibration`` reads.
    """
    if bundle.slot in ("frame", "video"):
        content = path.read_bytes()
        for name in CLIP_VIEWS:
            with open_media(view_clip(content, view=name)) as media:
                odds = (_frames if bundle.slot == "frame" else _motion_and_frames)(media, engine)
            if odds is not None:
                yield name, round_logits([odds])
        return
    with open_media(path) as media:
        if isinstance(bundle.preprocess, AudioPreprocess):
            rate, most = bundle.preprocess.sample_rate, DetectOptions().max_audio_seconds
            samples = media.audio(sample_rate=rate, max_seconds=most)
            for name, change in AUDIO_VIEWS.items():
                sound = read_sound(change(samples), bundle)
                if sound.why_not(bundle) is None:
                    parts = [engine.logits(bundle, batch) for batch in sound.batches(bundle)]
                    yield name, round_logits(np.concatenate(parts))
            return
        pixels = media.image()
    for name, perturb in PICTURE_VIEWS.items():
        seen = perturb(pixels)
        if bundle.slot == "face":
            found = open_finder(engine).find(seen)[:MOST_FACES]
            faces = [read_face(seen, face, bundle) for face in found]
            crops = [face.crop for face in faces if face.reason is None]
            if crops:
                yield name, round_logits([engine.logits(bundle, np.stack(crops)).max()])
            continue
        batch = read_still(seen, bundle)
        if not isinstance(batch, str):
            yield name, round_logits(engine.logits(bundle, batch))


def _frames(media: Media, engine: Engine) -> float | None:
    """The pooled log-odds of a clip's frames; None for a clip of graphics."""
    footage = view(media, engine, DetectOptions(), open_finder(engine))
    if footage.is_graphic:
        return None
    scores = [burst.still.score for burst in footage.bursts if burst.still]
    return pool_frames(scores) if scores else None


def _motion_and_frames(media: Media, engine: Engine) -> float | None:
    """The sum of the log-odds of a clip's motion and frames, where both could be judged."""
    details = Video().analyze(media, engine, DetectOptions())[0].details
    if "motion_score" not in details or "frames_score" not in details:
        return None
    return float(logit(details["motion_score"]) + logit(details["frames_score"]))
