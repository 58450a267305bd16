"""Sounds that make arithmetic fail, through the whole detector; a warning is an error here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deepfake.detector import Detector
from deepfake.media.opening import open_media
from deepfake.preprocess import LOUDEST, bound_samples
from deepfake.settings import DetectOptions
from deepfake.show.pictures import draw
from deepfake.types import Verdict
from tests.media_files import float_wav_bytes, speech

VOICE = speech(2.0)
SECOND = np.ones(16000, np.float32)


def spoiled(value: float, *, every: int = 50) -> Any:
    samples = VOICE.copy()
    samples[::every] = value
    return samples


SOUNDS = {
    "zeros": 0 * SECOND,
    "constant": 0.5 * SECOND,
    "full scale": SECOND,
    "largest": SECOND * np.float32(3.4e38),
    "alternating": np.float32(3e38) * np.resize(np.float32([1, -1]), 16000),
    "huge voice": VOICE * np.float32(3e37),
    "unscaled": VOICE * np.float32(2**31),
    "huge impulse": np.float32(3e38) * (np.arange(16000) == 8000),
    "denormal": SECOND * np.float32(1e-45),
    "denormal voice": VOICE * np.float32(1e-43),
    "faint voice": VOICE * np.float32(1e-20),
    "nan": np.nan * SECOND,
    "some nan": spoiled(np.nan),
    "some infinite": spoiled(-np.inf),
    "some huge": spoiled(3e38),
    "some denormal": spoiled(1e-45),
    **{f"{count} samples": VOICE[4000 : 4000 + count] for count in (1, 100, 511, 512, 513)},
}


@pytest.mark.parametrize("name", SOUNDS)
@pytest.mark.parametrize("sample_rate", [8000, 16000, 44100])
def test_no_sound_makes_arithmetic_fail(
    known_detector: Detector, name: str, sample_rate: int
) -> None:
    content = float_wav_bytes(SOUNDS[name], sample_rate=sample_rate)
    report = known_detector.detect(content, DetectOptions(heatmap=True))
    if report.probability is not None:
        assert 0 < report.probability < 1
    with open_media(content) as media:
        draw(media, report)


@pytest.mark.parametrize("count", [1, 100, 511])
def test_less_than_a_chunk_holds_no_speech(known_detector: Detector, count: int) -> None:
    report = known_detector.detect(float_wav_bytes(VOICE[4000 : 4000 + count]))
    assert report.verdict is Verdict.INCONCLUSIVE
    assert "no_speech" in {reason.code for reason in report.reasons}


def test_nothing_is_printed(known_models: Path, tmp_path: Path) -> None:
    names = ("largest", "denormal voice", "some nan", "some huge", "100 samples")
    for name in names:
        (tmp_path / f"{name}.wav").write_bytes(float_wav_bytes(SOUNDS[name]))
    command = [sys.executable, "-W", "error", "-m", "deepfake", "detect", "--json"]
    seen = subprocess.run(
        [*command, "--models", str(known_models), *map(str, tmp_path.iterdir())],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (seen.returncode, seen.stderr) == (0, "")
    assert all("verdict" in json.loads(line) for line in seen.stdout.splitlines())
    assert len(seen.stdout.splitlines()) == len(names)


@pytest.mark.parametrize("name", ["largest", "some nan", "some infinite", "some huge", "unscaled"])
def test_decoded_samples_are_bounded_numbers(name: str) -> None:
    for sample_rate in (16000, 44100):
        content = float_wav_bytes(SOUNDS[name], sample_rate=sample_rate)
        with open_media(content) as media:
            samples = media.audio(sample_rate=16000, max_seconds=10)
            warned = [text for text in media.warnings if "samples" in text]
        assert float(np.abs(samples).max()) <= 2 * LOUDEST, "a resampler overshoots"
        assert bool(warned) == (name != "unscaled")


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64, np.longdouble])
def test_samples_of_every_type_are_bounded(known_detector: Detector, kind: Any) -> None:
    largest = np.finfo(kind).max
    samples = np.array([0.5, np.nan, np.inf, -largest, largest, 0.25], kind)
    bounded, warnings = bound_samples(samples)
    most = min(float(largest), LOUDEST)
    assert bounded.tolist() == [0.5, 0, 0, -most, most, 0.25]
    assert len(warnings) == 1 + (kind != np.float16)
    known_detector.detect(np.tile(samples, 4000), sample_rate=16000)


def test_ordinary_samples_stay_as_they_are() -> None:
    bounded, warnings = bound_samples(VOICE)
    assert bounded is VOICE
    assert warnings == ()
