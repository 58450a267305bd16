"""Calibration of the ``frame`` bundle for the frames of videos.

The network saw no video in training, so every clip is new to it; only the reading of its scores is
fitted here, and each source is judged by a fit without it.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import av.error
from tqdm import tqdm

from deepfake.bundle import Bundle
from deepfake.content.footage import WINDOWS_PER_FRAME
from deepfake.engine.engine import Engine
from deepfake.engine.scores import pool_frames
from deepfake.errors import MediaError
from deepfake.media.opening import open_media
from deepfake.preprocess import ImagePreprocess
from deepfake.settings import Settings
from deepfake.trust.registry import newest_bundles

from ..calibrate import fit_calibration
from ..manifests import read_manifest
from ..metrics import SourceRow, ViewRow, tabulate
from ..records import FileLogits, write_records
from .views import view_clip

VIEWS = ("clean", "crf_32", "crf_40_360p")
MOST_FRAMES = 32
PAIRED = {"EDTalk": "camera (EDTalk test_data, drives the EDTalk fakes)"}
"""Fakes that are driven by footage of a real source are held out together with it."""


def calibrate_frames(
    *, models: Path, data: Path, output: Path
) -> tuple[Bundle, list[SourceRow], list[ViewRow]]:
    """Score every clip of ``data/video`` in every view, fit and store the bundle's
    ``frames_calibration``, and return it with the leave-one-source-out accuracy.
    """
    engine = Engine(Settings(models_folder=models), active=newest_bundles(models))
    bundle = engine.bundle("frame")
    items = read_manifest(data / "video", source_column="system")
    records = []
    for item in tqdm(items, desc="clips", unit="clip"):
        for view in VIEWS:
            try:
                pooled = score_clip(engine, bundle, item.path, view=view)
            except (MediaError, av.error.FFmpegError) as error:
                tqdm.write(f"left out: {error}")
                continue
            group = PAIRED.get(item.source, item.source)
            records.append(
                FileLogits(item.facts["path"], item.label, item.source, group, 0, view, (pooled,))
            )
    engine.close()
    output.mkdir(parents=True, exist_ok=True)
    write_records(output / "frames.jsonl", records)
    calibration = fit_calibration(records)
    bundle = replace(bundle, frames_calibration=calibration)
    bundle.write(bundle.folder)
    return bundle, *tabulate(records, calibration, within_fold=False)


def score_clip(engine: Engine, bundle: Bundle, path: Path, *, view: str) -> float:
    """The log-odds of evenly spread frames of one clip, pooled as the ``video`` analyzer does."""
    preprocess = bundle.preprocess
    assert isinstance(preprocess, ImagePreprocess)
    content = view_clip(path.read_bytes(), view=view)
    with open_media(content, limits=engine.settings.limits) as media:
        futures = [
            engine.submit(bundle, preprocess(frame.pixels, max_windows=WINDOWS_PER_FRAME).batch)
            for frame in media.frames(most=MOST_FRAMES)
        ]
    return pool_frames([future.result().score for future in futures])
