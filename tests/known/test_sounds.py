"""Fingerprints of sound: what they stand, and what they do not take for the same."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from deepfake_training.perturb import code_audio

from deepfake.known.fingerprints import Fingerprint, take_fingerprint
from deepfake.known.shelf import Shelf
from deepfake.known.sounds import LEAST_WORDS, error_share, hash_sound
from deepfake.media.opening import open_media
from deepfake.preprocess import Samples
from tests.known.patterns import babble
from tests.media_files import wav_bytes


def fingerprint(samples: Samples) -> Fingerprint:
    with open_media(wav_bytes(samples)) as media:
        found = take_fingerprint(media)
        assert media.warnings == []
    assert found is not None
    return found


@pytest.fixture(scope="module")
def shelf() -> Shelf:
    return Shelf([fingerprint(babble(seed)) for seed in range(6)])


@pytest.mark.parametrize(
    "change",
    [
        lambda it: code_audio(it, codec="mp3", bit_rate=32000),
        lambda it: code_audio(it, codec="opus", bit_rate=16000),
        lambda it: 0.1 * it,
        lambda it: it[16000:],
        lambda it: np.concatenate([np.zeros(9000, np.float32), it]),
    ],
    ids=["mp3", "opus", "quiet", "from the middle", "later"],
)
def test_a_copy_is_near_and_others_are_not(
    shelf: Shelf, change: Callable[[Samples], Samples]
) -> None:
    copy = fingerprint(np.asarray(change(babble(4)), np.float32))
    assert [near.place for near in shelf.near(copy)] == [4]


def test_silence_is_like_nothing(shelf: Shelf) -> None:
    with open_media(wav_bytes(np.zeros(64000, np.float32))) as media:
        assert take_fingerprint(media) is None
    silence = np.zeros(48000, np.float32)
    one, other = (
        fingerprint(np.concatenate([babble(seed, seconds=1.2), silence])) for seed in (50, 51)
    )
    assert not Shelf([one]).near(other)


def test_what_is_too_short_is_like_nothing() -> None:
    words = hash_sound(babble(1, seconds=3, sample_rate=5512))
    assert error_share(words, words, 0) == (0.0, len(words))
    assert error_share(words, words, len(words) - LEAST_WORDS + 1)[0] == 1.0
    assert len(hash_sound(babble(1, seconds=0.3, sample_rate=5512))) == 0
