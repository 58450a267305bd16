from __future__ import annotations

import numpy as np
import pytest

from deepfake.content.speech import CHUNK_SECONDS, _detector, find_speech, speech_share
from tests.media_files import speech

RATE = 16000
TIME = np.arange(3 * RATE) / RATE


def test_speech_is_found_where_it_is() -> None:
    silence = np.zeros(2 * RATE, np.float32)
    found = find_speech(np.concatenate([silence, speech(3.0), silence]))
    assert speech_share(found, second=0.0, seconds=1.8) < 0.1
    assert speech_share(found, second=2.2, seconds=2.6) > 0.8
    assert speech_share(found, second=5.6, seconds=1.4) < 0.1
    assert len(found) == int(7 / CHUNK_SECONDS)


@pytest.mark.parametrize(
    "samples",
    [
        np.zeros(3 * RATE),
        np.random.default_rng(0).normal(0, 0.1, 3 * RATE),
        0.3 * np.sin(2 * np.pi * 440 * TIME),
        sum(0.1 * np.sin(2 * np.pi * f * TIME) * (1 + 0.2 * np.sin(TIME)) for f in (220, 277, 330)),
        np.zeros(100),
        np.zeros(0),
    ],
    ids=["silence", "noise", "tone", "chord", "short", "empty"],
)
def test_what_is_no_speech(samples: np.ndarray) -> None:
    assert find_speech(samples.astype(np.float32)).sum() * CHUNK_SECONDS < 0.2


@pytest.mark.parametrize("gain", [0.003, 1.8])
def test_quiet_and_loud_speech_count_alike(gain: float) -> None:
    plain = find_speech(speech(3.0))
    assert abs(find_speech(speech(3.0) * np.float32(gain)).mean() - plain.mean()) < 0.05


@pytest.mark.parametrize("seed", range(4))
def test_a_file_leaves_nothing_for_the_next(seed: int) -> None:
    rng = np.random.default_rng(seed)
    sound = speech(2.0) + rng.normal(0, 0.02 * seed, len(speech(2.0))).astype(np.float32)
    _detector.cache_clear()
    fresh = find_speech(sound)
    find_speech(rng.normal(0, 0.3, RATE).astype(np.float32))
    np.testing.assert_array_equal(find_speech(sound), fresh)
