"""Recordings of both classes for the recipes of speech, and the bundles that these begin with."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from deepfake_training.export import Trained
from deepfake_training.export_large import linear_weights, write_full_bundle
from deepfake_training.known import Known
from deepfake_training.manifests import Item
from scipy.io import wavfile

from deepfake.bundle import Applicability
from deepfake.networks.clip import ClipPicture
from deepfake.preprocess import AudioPreprocess, ImagePreprocess
from tests.bundles import make_bundle
from tests.media_files import speech

RATE = 16000
PAGES = {
    "one/page": {"gt-ljspeech@one": 0, "vits@one": 1, "copy-hifigan@one": 1},
    "two/page": {"gt-ljspeech@two": 0, "glow-tts@two": 1},
    "three/page": {"phones@three": 0, "vits@three": 1, "singing-svs@three": 1},
    "four/page": {"radio@four": 0, "phone@four": 0, "gt-ljspeech@four": 0, "encodec@four": 1},
}
"""Sources by repository; the first two pages share a corpus."""
TIER: dict[str, Any] = {
    "name": "audio-7-large",
    "slot": "audio-large",
    "threads": 1,
    "workers": 2,
    "folds": 2,
    "seed": 1,
    "material": ["audio"],
    "image": "image-7-large",
    "first": 1,
    "last": 1,
    "spread": True,
    "ffts": [1024, 512, 192],
    "quick": "audio-7",
    "pieces": 56,
    "penalty": 0.01,
    "views": ["clean", "mulaw_8k"],
    "thin": 2,
    "preprocess": {"window_seconds": 1.0, "hop_seconds": 1.0},
    "limits": {"min_seconds": 0.5},
    "judging": {"genuine": 2, "synthetic": 1, "seed": 3},
}
"""A recipe of the full tier."""


def write_recordings(folder: Path) -> None:
    """A folder with a manifest of five recordings of every source of ``PAGES``, of a file that is
    none, and of the first recording again.
    """
    rows = ["path\tsha256\trepo\tlabel\tsource\tnote"]
    number = 0
    for page, sources in PAGES.items():
        for source, label in sources.items():
            kind = "fake" if label else "real"
            own = folder / kind / source.replace("@", "_")
            own.mkdir(parents=True)
            for _ in range(5):
                number += 1
                path = own / f"{number}.wav"
                samples = speech(seed=number, seconds=1.1 + 0.1 * (number % 5))
                wavfile.write(path, RATE, np.round(samples * 32767).astype(np.int16))
                sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
                name = path.relative_to(folder)
                rows.append(f"{name}\t{sha256}\t{page}\t{kind}\t{source}\ten 2021")
    (folder / "fake" / "broken").mkdir()
    (folder / "fake" / "broken" / "text.wav").write_text("no sound")
    rows.append("fake/broken/text.wav\t0\tfour/page\tfake\tbroken@four\ten codec")
    rows.append(rows[1])
    (folder / "manifest.tsv").write_text("\n".join(rows) + "\n")


def known(
    label: int,
    source: str,
    *,
    group: str = "",
    fold: int = 0,
    note: str = "",
    path: str = "x",
    repo: str = "",
) -> Known:
    """A recording that is no file."""
    facts = {"path": path, "sha256": f"{source}{path}", "note": note, "repo": repo}
    return Known(Item(Path(path), label, source, facts), group or source, fold)


def make_first_models(folder: Path) -> None:
    """``audio-7``, a quick tier of sounds, and ``image-7-large``, a full one of pictures with
    two blocks.
    """
    preprocess = AudioPreprocess(window_seconds=1.0, hop_seconds=0.5)
    quick = make_bundle(folder / "audio-7", preprocess=preprocess)
    large = ClipPicture(first=1, last=2).eval()
    write_full_bundle(
        Trained(
            network=large,
            network_name="clip_picture",
            network_options={"first": 1, "last": 2},
            preprocess=ImagePreprocess(side_pixels=224, max_windows=1),
            records=[],
            limits=Applicability(),
            facts={},
        ),
        name="image-7-large",
        calibration=quick.calibration,
        metrics={},
        quantised=linear_weights(large),
        folder=folder / "image-7-large",
    )
