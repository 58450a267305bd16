"""Fakes made from bona fide speech: the same words, voice, room and microphone through a vocoder.

What is left to tell the two apart is what synthesis does. Every maker takes mono float32 samples
at 16 kHz with a random generator, draws its own settings, and returns as many samples as it got,
in time with them unless it converts the voice.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from joblib import Parallel, delayed
from scipy.linalg import solve_toeplitz
from scipy.signal import lfilter
from tqdm import tqdm

from deepfake.errors import MissingDependency
from deepfake.preprocess import Samples

from ..files import write_arrays
from ..perturb import SAMPLE_RATE, change_speed
from .vocoder import MelGenerator, MelVocoder, WaveCodec, mel_filters, train_resynthesiser

Maker = Callable[[Samples, np.random.Generator], Samples]
Stored = npt.NDArray[np.int16]
Sound = npt.NDArray[np.float64]


def world_module() -> ModuleType:
    """The compiled part of pyworld; its package file needs ``pkg_resources``, which is gone."""
    spec = importlib.util.find_spec("pyworld")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for path in sorted(Path(folder).glob("pyworld.*")):
            if path.suffix in (".so", ".pyd"):
                inner = importlib.util.spec_from_file_location("pyworld", path)
                assert inner is not None
                assert inner.loader is not None
                module = importlib.util.module_from_spec(inner)
                inner.loader.exec_module(module)
                return module
    raise MissingDependency("pyworld", extra="train")


def make_world(samples: Samples, rng: np.random.Generator) -> Samples:
    """WORLD analysis and synthesis (Morise 2016); half the time another pitch and vocal tract."""
    world = world_module()
    sound = samples.astype(np.float64)
    period = float(rng.choice([5.0, 5.0, 8.0, 10.0]))
    pitch, seconds = world.dio(sound, SAMPLE_RATE, frame_period=period)
    pitch = world.stonemask(sound, pitch, seconds, SAMPLE_RATE)
    envelope = world.cheaptrick(sound, pitch, seconds, SAMPLE_RATE)
    noise = world.d4c(sound, pitch, seconds, SAMPLE_RATE)
    if rng.random() < 0.5:
        size = 2 * (envelope.shape[1] - 1)
        coded = world.code_spectral_envelope(envelope, SAMPLE_RATE, int(rng.integers(24, 61)))
        envelope = world.decode_spectral_envelope(coded, SAMPLE_RATE, size)
    if rng.random() < 0.5:
        pitch = pitch * rng.uniform(0.8, 1.25)
        bins = np.arange(envelope.shape[1])
        stretched = np.clip(bins * rng.uniform(0.88, 1.14), 0, bins[-1])
        log = np.log(envelope)
        envelope = np.exp(np.stack([np.interp(stretched, bins, row) for row in log]))
    made = world.synthesize(pitch, np.ascontiguousarray(envelope), noise, SAMPLE_RATE, period)
    return _fit(made, samples)


def make_griffin_lim(samples: Samples, rng: np.random.Generator) -> Samples:
    """Magnitudes, mostly by way of a mel spectrogram, with phases found by iteration
    (Griffin and Lim 1984; Perraudin et al. 2013).
    """
    fft = int(rng.choice([512, 1024, 1024, 2048]))
    magnitude = _stft(samples, fft=fft, hop=fft // 4).abs()
    if rng.random() < 0.75:
        bands = int(rng.choice([64, 80, 80, 100, 128]))
        filters = torch.from_numpy(mel_filters(bands=bands, fft=fft))
        magnitude = (torch.linalg.pinv(filters) @ (filters @ magnitude)).clamp(min=1e-5)
    iterations = int(rng.integers(8, 49))
    return _fit(_find_phase(magnitude, fft=fft, iterations=iterations, rng=rng), samples)


def make_phase_changes(samples: Samples, rng: np.random.Generator) -> Samples:
    """The own magnitudes with phases that are random, coarse, or the low band's copied upwards."""
    fft = int(rng.choice([256, 512, 1024]))
    spectrum = _stft(samples, fft=fft, hop=fft // 4)
    bins = spectrum.shape[0]
    manner = rng.integers(3)
    if manner == 0:
        made = _find_phase(spectrum.abs(), fft=fft, iterations=int(rng.integers(1, 5)), rng=rng)
        return _fit(made, samples)
    if manner == 1:
        step = 2 * np.pi / int(rng.choice([3, 4, 6, 8]))
        phase = torch.round(spectrum.angle() / step) * step
        spectrum = torch.polar(spectrum.abs(), phase)
    else:
        first = int(bins * rng.uniform(0.3, 0.6))
        copied = spectrum[torch.arange(first, bins) % first]
        phase = torch.polar(torch.ones_like(copied.abs()), copied.angle())
        spectrum = torch.cat([spectrum[:first], spectrum[first:].abs() * phase])
    return _fit(_istft(spectrum, fft=fft, hop=fft // 4, length=len(samples)), samples)


def make_linear_prediction(samples: Samples, rng: np.random.Generator) -> Samples:
    """An LPC vocoder: pulses and noise, or a coarse residual, through all-pole filters."""
    order, hop = int(rng.integers(14, 23)), SAMPLE_RATE // 100
    sound = lfilter([1, -0.9], [1], samples.astype(np.float64))
    padded = np.pad(sound, hop)
    taper = np.hanning(3 * hop)
    filters, gains = [], []
    for start in range(0, len(samples), hop):
        frame = np.resize(padded[start : start + 3 * hop], 3 * hop) * taper
        correlation = np.correlate(frame, frame, "full")[3 * hop - 1 : 3 * hop + order]
        correlation[0] = correlation[0] * 1.0001 + 1e-9
        weights = solve_toeplitz(correlation[:-1], correlation[1:])
        filters.append(np.concatenate([[1.0], -weights]))
        gains.append(np.sqrt(max(1e-12, correlation[0] - weights @ correlation[1:]) / hop))
    drive = _residual(sound, filters, hop, rng) if rng.random() < 0.4 else _pulses(samples, rng)
    state = np.zeros(order)
    pieces = []
    for index, (filter_, gain) in enumerate(zip(filters, gains, strict=True)):
        piece = drive[index * hop : (index + 1) * hop]
        piece = piece * gain / max(1e-9, float(np.sqrt(np.mean(piece**2))))
        out, state = lfilter([1.0], filter_, piece, zi=state)
        pieces.append(out)
    return _fit(lfilter([1], [1, -0.9], np.concatenate(pieces)), samples)


def make_neural(network: torch.nn.Module, *, convert: bool = False) -> Maker:
    """A maker from a trained resynthesiser; ``convert`` shifts pitch and vocal tract on the way."""

    def make(samples: Samples, rng: np.random.Generator) -> Samples:
        sound = change_speed(samples, factor=rng.uniform(0.85, 1.18)) if convert else samples
        scale = rng.uniform(0.05, 0.15) / max(1e-4, float(sound.std()))
        with torch.inference_mode():
            made = network(torch.from_numpy(sound * np.float32(scale))[None])[0].numpy()
        return _fit(made, samples)

    return make


def prepare_makers(sounds: Sequence[Samples], *, folder: Path, steps: int) -> dict[str, Maker]:
    """All makers by name; the neural ones are trained on ``sounds`` or read from ``folder``."""
    torch.manual_seed(1)
    vocoder, codec, generator = MelVocoder(), WaveCodec(), MelGenerator()
    for seed, (name, network, share) in enumerate(
        (
            ("mel_vocoder", vocoder, 1.0),
            ("wave_codec", codec, 1 / 3),
            ("mel_generator", generator, 2 / 3),
        ),
        start=1,
    ):
        path = folder / f"{name}.safetensors"
        train_resynthesiser(network, sounds, path=path, steps=round(share * steps), seed=seed)
    return {
        "world": make_world,
        "griffin_lim": make_griffin_lim,
        "phase_changes": make_phase_changes,
        "linear_prediction": make_linear_prediction,
        "mel_vocoder": make_neural(vocoder),
        "mel_converted": make_neural(vocoder, convert=True),
        "mel_generator": make_neural(generator),
        "generator_converted": make_neural(generator, convert=True),
        "wave_codec": make_neural(codec),
    }


def maker_of(names: Sequence[str], *, sound: int, number: int) -> str:
    """Which of the sorted ``names`` copies a sound in round ``number``: all of them in turn."""
    return names[(sound + number) % len(names)]


def make_copies(
    sounds: Sequence[Samples],
    makers: dict[str, Maker],
    *,
    rounds: int,
    folder: Path,
    seed: int,
    workers: int = 1,
) -> dict[str, dict[int, Stored]]:
    """The copies that so many rounds need, as int16 by maker and sound.

    They are kept in ``folder``; what is there is read back, what lacks is added.
    """
    names = sorted(makers)

    def prepare(number: int) -> dict[int, Stored]:
        name = names[number]
        path = folder / f"{name}.npz"
        made: dict[int, Stored] = {}
        if path.exists():
            with np.load(path, allow_pickle=False) as arrays:
                made = {int(sound): arrays[sound] for sound in arrays.files}
        lacking = [
            sound
            for sound in range(len(sounds))
            if name in {maker_of(names, sound=sound, number=n) for n in range(rounds)}
            and sound not in made
        ]
        for sound in tqdm(lacking, desc=f"making {name}", mininterval=5, disable=not lacking):
            rng = np.random.default_rng((seed, number, sound))
            made[sound] = store(makers[name](sounds[sound], rng))
        if lacking:
            write_arrays(path, **{str(sound): copy for sound, copy in made.items()})
        return made

    made = Parallel(n_jobs=workers)(map(delayed(prepare), range(len(names))))
    return dict(zip(names, made, strict=True))


def store(samples: Samples) -> Stored:
    """Samples as int16, turned down where they would clip."""
    peak = float(np.abs(samples).max())
    scaled = samples * (32767 / max(1.0, peak))
    return np.asarray(np.round(scaled), dtype=np.int16)


def _pulses(samples: Samples, rng: np.random.Generator) -> Sound:
    world = world_module()
    sound = samples.astype(np.float64)
    pitch, seconds = world.dio(sound, SAMPLE_RATE)
    grid = np.arange(len(samples)) / SAMPLE_RATE
    voiced = np.interp(grid, seconds, (pitch > 0).astype(float)) > 0.5
    hertz = np.interp(grid, seconds, np.where(pitch > 0, pitch, 100.0)) * rng.uniform(0.9, 1.1)
    turns = np.floor(np.cumsum(hertz) / SAMPLE_RATE)
    pulses = np.diff(turns, prepend=0.0) * np.sqrt(SAMPLE_RATE / np.maximum(hertz, 40.0))
    noise = rng.standard_normal(len(samples))
    breath = rng.uniform(0.05, 0.4)
    return np.where(voiced, pulses + breath * noise, noise)


def _residual(
    sound: Sound,
    filters: list[Sound],
    hop: int,
    rng: np.random.Generator,
) -> Sound:
    state = np.zeros(len(filters[0]) - 1)
    pieces = []
    for index, filter_ in enumerate(filters):
        out, state = lfilter(filter_, [1.0], sound[index * hop : (index + 1) * hop], zi=state)
        pieces.append(out)
    residual = np.concatenate(pieces)
    spread = np.quantile(np.abs(residual), 0.95) / int(rng.integers(1, 4))
    return np.asarray(np.round(residual / max(spread, 1e-9)) + 1e-6)


def _stft(samples: Samples, *, fft: int, hop: int) -> torch.Tensor:
    return torch.stft(
        torch.from_numpy(np.ascontiguousarray(samples)),
        fft,
        hop,
        window=torch.hann_window(fft),
        return_complex=True,
    )


def _istft(spectrum: torch.Tensor, *, fft: int, hop: int, length: int) -> Samples:
    samples: Samples = torch.istft(
        spectrum, fft, hop, window=torch.hann_window(fft), length=length
    ).numpy()
    return samples


def _find_phase(
    magnitude: torch.Tensor, *, fft: int, iterations: int, rng: np.random.Generator
) -> Samples:
    hop = fft // 4
    length = (magnitude.shape[1] - 1) * hop
    phase = torch.from_numpy(rng.uniform(-np.pi, np.pi, magnitude.shape).astype(np.float32))
    spectrum = torch.polar(magnitude, phase)
    before = torch.zeros_like(spectrum)
    for _ in range(iterations):
        again = _stft(_istft(spectrum, fft=fft, hop=hop, length=length), fft=fft, hop=hop)
        faster = again + 0.9 * (again - before)
        before = again
        spectrum = magnitude * faster / faster.abs().clamp(min=1e-8)
    return _istft(spectrum, fft=fft, hop=hop, length=length)


def _fit(made: npt.NDArray[Any], model: Samples) -> Samples:
    """As many samples as the model has, at its level."""
    fitted = np.resize(np.nan_to_num(made), len(model)).astype(np.float32)
    ratio = float(np.sqrt(np.mean(model**2))) / max(1e-9, float(np.sqrt(np.mean(fitted**2))))
    return (fitted * np.float32(ratio)).astype(np.float32)
