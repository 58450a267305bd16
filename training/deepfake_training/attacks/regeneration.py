"""Regeneration: a file made anew by a model or a coder, close to what it was but for its traces.

Pictures: a denoiser (non-local means, Buades et al. 2005), halving and doubling (traces of the last
pixels go with the high frequencies), the small autoencoders of our own with four up-samplers
(:mod:`..image.decoders`), fitted to genuine files of the material, and, with ``--weights``, the
autoencoder of FLUX.2 in its tiny form (:mod:`..image.autoencoder`); passes through an autoencoder
or a diffusion model remove watermarks and fine traces (Saberi et al. 2024, "Robustness of AI-Image
Detectors"; Zhao et al. 2024, "Invisible Image Watermarks Are Provably Removable").

Sounds: round trips through a vocoder without a network (mel spectrum and Griffin-Lim 1984) and
through parametric speech coders (G.723.1, AMR), which keep a model of the voice and not its wave.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from deepfake.preprocess import Pixels, Samples

from .. import perturb

DECODER_STEPS = 400
_MEL_BANDS, _FFT, _HOP = 80, 1024, 200
_TURNS = 32


def denoise(pixels: Pixels) -> Pixels:
    """Non-local means over colours."""
    return np.asarray(cv2.fastNlMeansDenoisingColored(pixels, None, 4, 4, 5, 15), np.uint8)


def halve_and_double(pixels: Pixels) -> Pixels:
    """Averaged to half of the size and enlarged again by Lanczos interpolation."""
    height, width = pixels.shape[:2]
    small = perturb.rescale(pixels, factor=0.5)
    return np.asarray(
        cv2.resize(small, (width, height), interpolation=cv2.INTER_LANCZOS4), np.uint8
    )


class Decoders:
    """The small autoencoders of our own, each with the same encoder and another up-sampler."""

    def __init__(self, photos: Sequence[Pixels], path: Path, *, steps: int, seed: int) -> None:
        """Fitted to genuine ``photos`` once; the weights stay in ``path``."""
        from ..image.decoders import train_decoders

        self._family = train_decoders(photos, path=path, steps=steps, seed=seed)

    def regenerate(self, pixels: Pixels, *, upsampler: str) -> Pixels:
        return self._family.reconstruct(pixels, upsampler=upsampler)


class Autoencoder:
    """The tiny FLUX.2 autoencoder of a folder of weights."""

    def __init__(self, weights: Path) -> None:
        from ..image.autoencoder import load_autoencoder

        self._network = load_autoencoder(weights / "taef2.safetensors")

    def regenerate(self, pixels: Pixels) -> Pixels:
        return self._network.reconstruct(pixels)


def vocode(samples: Samples) -> Samples:
    """80 mel bands of magnitude, and a phase found anew by Griffin-Lim."""
    import librosa

    magnitude = np.abs(librosa.stft(samples, n_fft=_FFT, hop_length=_HOP))
    bands = librosa.filters.mel(sr=perturb.SAMPLE_RATE, n_fft=_FFT, n_mels=_MEL_BANDS)
    magnitude = np.maximum(0, np.linalg.pinv(bands) @ (bands @ magnitude))
    sound = librosa.griffinlim(
        magnitude, n_iter=_TURNS, hop_length=_HOP, n_fft=_FFT, length=len(samples), random_state=0
    )
    return np.asarray(sound, np.float32)


def code_parametrically(samples: Samples, *, codec: str) -> Samples:
    """A round trip through a coder of speech that models its source: ``g723`` or ``amr``."""
    bit_rate = perturb.AUDIO_CODECS[codec].bit_rates[0]
    return perturb.code_audio(samples, codec=codec, bit_rate=bit_rate)
