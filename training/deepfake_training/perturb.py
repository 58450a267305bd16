"""What happens to media between its making and its judging: one list for training and tests.

Every function takes and returns the same kind of thing, keeps its size unless it says otherwise,
and draws from the generator that it is given, so that a seed repeats it.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import av
import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.signal import fftconvolve

from deepfake.errors import SettingsError
from deepfake.preprocess import Pixels, Samples

# --- sound ---------------------------------------------------------------------------------------
# Mono float32 samples, by default at 16 kHz; every function keeps their number.

SAMPLE_RATE = 16000


@dataclass(frozen=True)
class AudioCodec:
    """How PyAV is to code: encoder, container, sample rate, and the delay in samples at 16 kHz.

    ``raw`` streams have no header, so that the reader must be told what they are.
    """

    encoder: str
    format: str
    sample_rate: int
    bit_rates: tuple[int, ...]
    delay_samples: int = 0
    raw: bool = False


AUDIO_CODECS: Mapping[str, AudioCodec] = {
    "mp3": AudioCodec("libmp3lame", "mp3", 16000, (24000, 32000, 48000, 64000, 96000, 128000)),
    "aac": AudioCodec("aac", "adts", 16000, (24000, 32000, 48000, 64000, 96000), 1024),
    "opus": AudioCodec("libopus", "ogg", 16000, (8000, 12000, 16000, 24000, 32000, 64000)),
    "amr": AudioCodec("libopencore_amrnb", "amr", 8000, (5900, 7950, 12200), 80),
    "g722": AudioCodec("g722", "g722", 16000, (64000,), 22, raw=True),
    "g723": AudioCodec("g723_1", "g723_1", 8000, (6300,), 120, raw=True),
}


def code_audio(samples: Samples, *, codec: str, bit_rate: int) -> Samples:
    """Encode and decode in memory; raises ``SettingsError`` for a codec not in AUDIO_CODECS."""
    if codec not in AUDIO_CODECS:
        raise SettingsError(f"codec {codec!r}: unknown", hint=f"known: {', '.join(AUDIO_CODECS)}")
    facts = AUDIO_CODECS[codec]
    levels = np.clip(samples * 32767, -32768, 32767).astype(np.int16)[None]
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=facts.format) as container:
        stream: Any = container.add_stream(facts.encoder, rate=facts.sample_rate)
        stream.bit_rate, stream.layout = bit_rate, "mono"
        frame = av.AudioFrame.from_ndarray(levels, format="s16", layout="mono")
        frame.sample_rate = SAMPLE_RATE
        for packet in (*stream.encode(frame), *stream.encode(None)):
            container.mux(packet)
    buffer.seek(0)
    pieces = []
    with av.open(buffer, "r", format=facts.format if facts.raw else None) as coded:
        resampler = av.AudioResampler(format="flt", layout="mono", rate=SAMPLE_RATE)
        for decoded in (*coded.decode(audio=0), None):
            pieces += [piece.to_ndarray()[0] for piece in resampler.resample(decoded)]
    return _cut(np.concatenate(pieces)[facts.delay_samples :], len(samples))


def code_mu_law(samples: Samples) -> Samples:
    """Telephone quality: 300–3400 Hz and the 8-bit logarithmic steps of ITU-T G.711."""
    from librosa import mu_compress, mu_expand  # slow to import, and pictures need none of it

    narrow = limit_band(samples, low_hz=300, high_hz=3400)
    peak = max(1e-6, float(np.abs(narrow).max()))
    steps = np.round(mu_compress(narrow / peak, mu=255, quantize=False) * 127) / 127
    widened = mu_expand(steps, mu=255, quantize=False) * peak
    return limit_band(widened.astype(np.float32), low_hz=0, high_hz=3900)


def limit_band(
    samples: Samples, *, low_hz: float, high_hz: float, slope_octaves: float = 0.1
) -> Samples:
    """Keep ``low_hz`` … ``high_hz``; beyond, the level falls to nothing within the slope."""

    def gain(hertz: Samples) -> Samples:
        octaves = np.log2(np.maximum(hertz, 1.0))
        below = (octaves - np.log2(max(low_hz, 1e-3))) / slope_octaves + 1
        above = (np.log2(high_hz) - octaves) / slope_octaves + 1
        return np.asarray(np.clip(np.minimum(below, above), 0, 1), dtype=np.float32)

    return filter_audio(samples, gain)


def filter_audio(samples: Samples, gain: Callable[[Samples], Samples]) -> Samples:
    """Multiply the spectrum by ``gain`` of its frequencies in Hz (zero phase)."""
    size = _fast_size(len(samples))
    hertz = np.fft.rfftfreq(size, 1 / SAMPLE_RATE).astype(np.float32)
    return _cut(np.fft.irfft(np.fft.rfft(samples, size) * gain(hertz), size), len(samples))


def resample_and_back(samples: Samples, *, sample_rate: int) -> Samples:
    """Linear interpolation to another rate and back, aliases included, as careless tools do."""
    count = max(2, round(len(samples) * sample_rate / SAMPLE_RATE))
    there = np.linspace(0, len(samples) - 1, count)
    grid = np.arange(len(samples))
    return np.interp(grid, there, np.interp(there, grid, samples)).astype(np.float32)


def change_speed(samples: Samples, *, factor: float) -> Samples:
    """Play faster (above 1) or slower: tempo and pitch together. The only one to change length."""
    size = _fast_size(len(samples))
    target = 80 * round(size / factor / 80) if size > 4000 else max(2, round(size / factor))
    spectrum = np.fft.rfft(samples, size)
    resized = np.zeros(target // 2 + 1, dtype=np.complex128)
    kept = min(len(resized), len(spectrum))
    resized[:kept] = spectrum[:kept]
    return _cut(np.fft.irfft(resized, target) * (target / size), round(len(samples) / factor))


def change_tempo(samples: Samples, *, factor: float) -> Samples:
    """Speak faster (above 1) or slower at the same pitch, by overlapping similar moments
    (WSOLA, Verhelst and Roelands 1993). Changes the length.
    """
    frame, search = 640, 160
    hop = frame // 2
    window = np.hanning(frame + 1)[:-1].astype(np.float32)
    padded = np.pad(samples, (search, frame + 2 * search))
    count = max(1, round(len(samples) / factor / hop))
    result = np.zeros((count + 1) * hop, np.float32)
    wanted = padded[search : search + frame]
    for index in range(count):
        place = search + min(len(samples) - 1, round(index * hop * factor))
        around = padded[place - search : place + search + frame]
        fits = np.correlate(around, wanted, "valid")
        start = place - search + int(np.argmax(fits))
        result[index * hop : index * hop + frame] += window * padded[start : start + frame]
        wanted = np.resize(padded[start + hop : start + hop + frame], frame)
    return _cut(result, round(len(samples) / factor))


def change_pitch(samples: Samples, *, factor: float) -> Samples:
    """Raise (above 1) or lower the pitch, formants with it, at the same tempo."""
    return _cut(change_speed(change_tempo(samples, factor=1 / factor), factor=factor), len(samples))


def clip_peaks(samples: Samples, *, share: float) -> Samples:
    """Cut off the loudest ``share`` of the samples, as an overdriven input does."""
    limit = max(1e-6, float(np.quantile(np.abs(samples), 1 - share)))
    return np.asarray(np.clip(samples, -limit, limit), dtype=np.float32)


def add_noise(
    samples: Samples, *, snr_db: float, rng: np.random.Generator, tilt: float = 0.5
) -> Samples:
    """Stationary noise whose amplitude falls as frequency to the power of minus ``tilt``."""
    size = _fast_size(len(samples))
    shape = np.maximum(np.arange(size // 2 + 1), 1.0) ** -tilt
    spectrum = (rng.standard_normal(len(shape)) + 1j * rng.standard_normal(len(shape))) * shape
    return mix(samples, np.fft.irfft(spectrum, size).astype(np.float32), snr_db=snr_db)


def mix(samples: Samples, other: Samples, *, snr_db: float) -> Samples:
    """Add another sound, repeated or cut to length, ``snr_db`` below this one."""
    fitted = np.resize(other, len(samples))
    ratio = _rms(samples) / max(_rms(fitted), 1e-9) * 10 ** (-snr_db / 20)
    return (samples + np.float32(ratio) * fitted).astype(np.float32)


def make_music(count: int, *, rng: np.random.Generator) -> Samples:
    """Chords of a few plucked or held instruments with a bass and a beat, ``count`` samples."""
    music = np.zeros(count, np.float32)
    beat = int(SAMPLE_RATE * rng.uniform(0.25, 0.7))
    tonic, decay = rng.uniform(80, 220), rng.uniform(1.0, 8.0)
    partials = np.arange(1, int(rng.integers(3, 10)))
    loudness = 1.0 / partials ** rng.uniform(0.7, 2.0)
    for start in range(0, count, beat):
        seconds = np.arange(min(2 * beat, count - start)) / SAMPLE_RATE
        chord = np.array([0.5, 1, rng.choice([1.2, 1.25]), 1.5]) * rng.choice([1, 1.335, 1.5, 1.68])
        hertz = np.outer(tonic * chord, partials).ravel()
        strength = np.where(hertz < 7000, np.tile(loudness, len(chord)), 0)
        waves = np.sin(2 * np.pi * hertz[:, None] * seconds + rng.uniform(0, 6, (len(hertz), 1)))
        music[start : start + len(seconds)] += (strength @ waves) * np.exp(-decay * seconds)
        drum = rng.standard_normal(len(seconds)) * np.exp(-40 * seconds) * rng.uniform(0, 3)
        music[start : start + len(seconds)] += drum.astype(np.float32)
    return music


def add_room(
    samples: Samples, *, decay_seconds: float, direct_db: float, rng: np.random.Generator
) -> Samples:
    """Convolve with a direct path and an exponentially decaying noise tail (Polack 1988).

    ``decay_seconds`` is RT60; ``direct_db`` how much the direct path outweighs the tail.
    """
    count = max(8, round(decay_seconds * SAMPLE_RATE))
    tail = rng.standard_normal(count) * 10 ** (-3 * np.arange(count) / count)
    tail[: int(rng.integers(16, 160))] = 0
    tail *= 10 ** (-direct_db / 20) / max(1e-9, float(np.sqrt(np.square(tail).sum())))
    tail[0] = 1.0
    return _cut(fftconvolve(samples, tail), len(samples))


def drop_packets(
    samples: Samples, *, share: float, rng: np.random.Generator, repeat: bool
) -> Samples:
    """Lose 20 ms packets at random; each is silent or repeats the one before."""
    packet = SAMPLE_RATE // 50
    result = samples.copy()
    for index in np.flatnonzero(rng.random(len(samples) // packet) < share):
        start = int(index) * packet
        before = result[max(0, start - packet) : start]
        result[start : start + packet] = np.resize(before, packet) if repeat and start else 0
    return result


def send_by_telephone(samples: Samples, *, rng: np.random.Generator) -> Samples:
    """A call: the telephone band, µ-law or a mobile codec, sometimes lost packets."""
    narrow = limit_band(samples, low_hz=rng.uniform(150, 350), high_hz=rng.uniform(3100, 3900))
    manner = str(rng.choice(["mulaw", "amr", "g723"]))
    if manner == "mulaw":
        narrow = code_mu_law(narrow)
    else:
        bit_rate = int(rng.choice(AUDIO_CODECS[manner].bit_rates))
        narrow = code_audio(narrow, codec=manner, bit_rate=bit_rate)
    if rng.random() < 0.3:
        narrow = drop_packets(narrow, share=rng.uniform(0.005, 0.05), rng=rng, repeat=True)
    return narrow


def send_by_messenger(samples: Samples, *, rng: np.random.Generator) -> Samples:
    """A voice message: noise gate, low-rate Opus, often coded again as AAC or MP3 when shared."""
    sent = gate_quiet(samples, below_db=rng.uniform(25, 45), keep=rng.choice([0.05, 0.3, 1.0]))
    sent = code_audio(sent, codec="opus", bit_rate=int(rng.choice([12000, 16000, 24000])))
    if rng.random() < 0.5:
        codec = str(rng.choice(["aac", "mp3"]))
        sent = code_audio(sent, codec=codec, bit_rate=int(rng.choice([32000, 48000, 64000])))
    return sent


def gate_quiet(samples: Samples, *, below_db: float, keep: float) -> Samples:
    """A noise gate: 20 ms frames ``below_db`` under the loudest fade to ``keep`` of their level."""
    frame = SAMPLE_RATE // 50
    count = len(samples) // frame
    if count < 4:
        return samples
    level = np.sqrt(np.square(samples[: count * frame].reshape(count, frame)).mean(axis=1))
    quiet = level < np.quantile(level, 0.95) * 10 ** (-below_db / 20)
    gain = np.convolve(np.where(quiet, keep, 1.0), [0.25, 0.5, 0.25], mode="same")
    centres = (np.arange(count) + 0.5) * frame
    steady = np.interp(np.arange(len(samples)), centres, gain)
    return np.asarray(samples * steady, dtype=np.float32)


def boost_convolutive(samples: Samples, *, rng: np.random.Generator) -> Samples:
    """RawBoost's first family: notch filters on the sound and on its powers (Tak et al. 2022)."""
    peak = max(1e-6, float(np.abs(samples).max()))
    scaled = samples / peak
    result = np.zeros_like(samples)
    for power in range(1, int(rng.integers(2, 6))):
        gain = 10 ** (-float(rng.uniform(5, 20)) * (power - 1) / 20)
        notched = filter_audio(scaled**power, notches(rng, count=5))
        result += np.float32(gain) * notched
    return _match(result - result.mean(), samples)


def boost_impulsive(samples: Samples, *, rng: np.random.Generator) -> Samples:
    """RawBoost's second family: impulses in proportion to the sound at a few samples."""
    share = rng.uniform(0.01, 0.1)
    chosen = rng.random(len(samples)) < share
    bumps = rng.uniform(-1, 1, len(samples)) * rng.uniform(0.3, 2.0) * samples * chosen
    return _match(samples + bumps.astype(np.float32), samples)


def boost_stationary(samples: Samples, *, rng: np.random.Generator) -> Samples:
    """RawBoost's third family: stationary noise through notch filters, 10–40 dB below."""
    noise = rng.standard_normal(len(samples)).astype(np.float32)
    return mix(samples, filter_audio(noise, notches(rng, count=5)), snr_db=rng.uniform(10, 40))


def notches(rng: np.random.Generator, *, count: int) -> Callable[[Samples], Samples]:
    """A gain curve with ``count`` dips at 20–8000 Hz, 100–1000 Hz wide, up to 20 dB deep."""
    centres, widths = rng.uniform(20, 8000, count), rng.uniform(100, 1000, count)
    depths = rng.uniform(2, 20, count)

    def gain(hertz: Samples) -> Samples:
        decibels = np.zeros_like(hertz)
        for centre, width, depth in zip(centres, widths, depths, strict=True):
            decibels -= np.float32(depth) * np.exp(-np.square((hertz - centre) / width * 2))
        return np.asarray(10 ** (decibels / 20), dtype=np.float32)

    return gain


def _view_rng(samples: Samples) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(np.ascontiguousarray(samples).tobytes()))


def _rerecord(samples: Samples) -> Samples:
    rng = _view_rng(samples)
    wet = add_room(samples, decay_seconds=0.4, direct_db=3, rng=rng)
    return limit_band(add_noise(wet, snr_db=22, rng=rng), low_hz=120, high_hz=6500)


AUDIO_VIEWS: Mapping[str, Callable[[Samples], Samples]] = {
    "clean": lambda samples: samples,
    "mp3_64k": lambda samples: code_audio(samples, codec="mp3", bit_rate=64000),
    "opus_16k": lambda samples: code_audio(samples, codec="opus", bit_rate=16000),
    "mulaw_8k": code_mu_law,
    "rerecord": _rerecord,
    "noise_10db": lambda samples: add_noise(samples, snr_db=10, rng=_view_rng(samples)),
}
"""Deterministic channels for evaluation: the same samples always give the same result."""


def _rms(samples: Samples) -> float:
    return float(np.sqrt(np.mean(np.square(samples, dtype=np.float64))))


def _match(samples: Samples, model: Samples) -> Samples:
    return (samples * np.float32(_rms(model) / max(_rms(samples), 1e-9))).astype(np.float32)


def _cut(samples: npt.NDArray[Any], count: int) -> Samples:
    """Exactly ``count`` samples, with silence at the end where some are missing."""
    missing = max(0, count - len(samples))
    return np.pad(samples[:count], (0, missing)).astype(np.float32, copy=False)


def _fast_size(count: int) -> int:
    """The next size whose Fourier transform is fast: a multiple of 4000 or a power of two."""
    return -(-count // 4000) * 4000 if count > 4000 else 1 << max(3, (count - 1).bit_length())


# --- pictures -------------------------------------------------------------------------------------
# RGB uint8 (height, width, 3); whatever is random is drawn beforehand, so that one history can be
# applied to both of a pair.

PictureStep = Callable[[Pixels], Pixels]
KERNELS = {
    "area": cv2.INTER_AREA,
    "linear": cv2.INTER_LINEAR,
    "cubic": cv2.INTER_CUBIC,
    "lanczos": cv2.INTER_LANCZOS4,
    "nearest": cv2.INTER_NEAREST,
}
SUBSAMPLINGS = {
    "4:4:4": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
    "4:2:2": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_422,
    "4:2:0": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420,
}


def jpeg(pixels: Pixels, *, quality: int, subsampling: str = "4:2:0") -> Pixels:
    """One round of JPEG at a libjpeg quality of 1…100."""
    flags = [cv2.IMWRITE_JPEG_QUALITY, quality]
    flags += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, _lookup(SUBSAMPLINGS, subsampling, "subsampling")]
    return _encode_round(pixels, ".jpg", flags)


def webp(pixels: Pixels, *, quality: int) -> Pixels:
    """One round of lossy WebP at a quality of 1…100."""
    return _encode_round(pixels, ".webp", [cv2.IMWRITE_WEBP_QUALITY, quality])


def avif(pixels: Pixels, *, quality: int) -> Pixels:
    """One round of AVIF at a quality of 0…100, with the fastest encoder setting."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "AVIF", quality=quality, speed=10, max_threads=1)
    with Image.open(stream) as decoded:
        return np.asarray(decoded.convert("RGB"))


def rescale(pixels: Pixels, *, factor: float, kernel: str = "area", stretch: float = 1.0) -> Pixels:
    """Resize both sides by ``factor``, the width by ``stretch`` more; never below one pixel."""
    height, width = pixels.shape[:2]
    size = (max(1, round(width * factor * stretch)), max(1, round(height * factor)))
    return _as_pixels(cv2.resize(pixels, size, interpolation=_lookup(KERNELS, kernel, "kernel")))


def limit_side(pixels: Pixels, *, side: int) -> Pixels:
    """Shrink so that the long side is at most ``side`` pixels; smaller ones stay as they are."""
    factor = side / max(pixels.shape[:2])
    return rescale(pixels, factor=factor) if factor < 1 else pixels.copy()


def blur(pixels: Pixels, *, sigma: float) -> Pixels:
    """Gaussian blur with a standard deviation of ``sigma`` pixels."""
    return _as_pixels(cv2.GaussianBlur(pixels, (0, 0), sigma))


def sharpen(pixels: Pixels, *, amount: float) -> Pixels:
    """Unsharp mask: ``amount`` times the difference from a Gaussian blur by a pixel is added."""
    soft = cv2.GaussianBlur(pixels, (0, 0), 1.0)
    return _as_pixels(cv2.addWeighted(pixels, 1 + amount, soft, -amount, 0))


def noise(pixels: Pixels, *, sigma: float, seed: int) -> Pixels:
    """White Gaussian noise of ``sigma`` grey levels, the same for the same ``seed`` and size."""
    grains = np.random.default_rng(seed).standard_normal(pixels.shape, dtype=np.float32)
    return _as_pixels((pixels + sigma * grains).round().clip(0, 255))


def colour(
    pixels: Pixels, *, brightness: float = 0.0, contrast: float = 1.0, saturation: float = 1.0
) -> Pixels:
    """Scale contrast about mid-grey, add ``brightness`` (grey levels), scale distance from grey."""
    values = (pixels.astype(np.float32) - 127.5) * contrast + 127.5 + brightness
    grey = values.mean(axis=2, keepdims=True)
    return _as_pixels((grey + (values - grey) * saturation).round().clip(0, 255))


def flip(pixels: Pixels) -> Pixels:
    """Left and right exchanged."""
    return np.ascontiguousarray(pixels[:, ::-1])


def web(pixels: Pixels) -> Pixels:
    """A picture as a web page stores it: long side at most 768, JPEG 60."""
    return jpeg(limit_side(pixels, side=768), quality=60)


def hard(pixels: Pixels) -> Pixels:
    """Small and strongly compressed: long side at most 512, JPEG 40."""
    return jpeg(limit_side(pixels, side=512), quality=40)


def thumbnail(pixels: Pixels) -> Pixels:
    """A preview: long side at most 256, JPEG 85."""
    return jpeg(limit_side(pixels, side=256), quality=85)


def screenshot(pixels: Pixels) -> Pixels:
    """A picture on a page of a screen of 1080 × 1920 pixels, never enlarged, all in one: a bar with
    the time above, the picture between margins, lines of text below.
    """
    factor = min(1.0, 1080 / pixels.shape[1], 1500 / pixels.shape[0])
    shown = rescale(pixels, factor=factor, kernel="linear") if factor < 1 else pixels
    height, width = shown.shape[:2]
    page = np.full((max(640, height + 260), max(480, width + 2 * (width < 1060) * 10), 3), 250)
    page = _as_pixels(page)
    page[:48], page[48:110] = 24, 236
    left = (page.shape[1] - width) // 2
    page[120 : 120 + height, left : left + width] = shown
    font, lines = cv2.FONT_HERSHEY_SIMPLEX, range(120 + height + 34, page.shape[0] - 12, 30)
    cv2.putText(page, "12:45", (18, 33), font, 0.7, (235, 235, 235), 1, cv2.LINE_AA)
    cv2.putText(page, "Photos  today", (18, 88), font, 0.8, (40, 40, 44), 2, cv2.LINE_AA)
    for line in lines:
        cv2.putText(page, "a line of what is said about it", (18, line), font, 0.6, (70, 70, 74), 1)
    return page


PICTURE_VIEWS: dict[str, PictureStep] = {
    "clean": np.copy,
    "web": web,
    "hard": hard,
    "thumbnail": thumbnail,
}


@dataclass(frozen=True)
class PictureChain:
    """Steps applied in turn; ``factor`` is the product of their changes of size."""

    steps: tuple[PictureStep, ...]
    factor: float

    def __call__(self, pixels: Pixels) -> Pixels:
        for step in self.steps:
            pixels = step(pixels)
        return pixels


def draw_picture_chain(
    rng: np.random.Generator,
    *,
    smallest: float = 0.4,
    largest: float = 1.3,
    resized: float = 0.6,
    compressed: float = 0.75,
) -> PictureChain:
    """A random history of a picture: resizing by ``smallest`` … ``largest``, retouching, one or two
    rounds of compression.

    ``resized`` and ``compressed`` are the shares that meet each at all (a screenshot saved as PNG
    meets no compression).
    """
    steps: list[PictureStep] = []
    factor = 1.0
    if rng.random() < resized:
        factor = float(np.exp(rng.uniform(np.log(smallest), np.log(largest))))
        steps.append(_draw_rescale(rng, factor))
    steps += _draw_retouch(rng)
    if rng.random() < compressed:
        steps.append(_draw_compression(rng))
        if rng.random() < 0.3:
            again = float(rng.uniform(0.7, 1.05))
            if factor * again >= smallest:
                steps.append(_draw_rescale(rng, again))
                factor *= again
            steps.append(_draw_compression(rng))
    if rng.random() < 0.5:
        steps.append(flip)
    return PictureChain(tuple(steps), factor)


def _draw_rescale(rng: np.random.Generator, factor: float) -> PictureStep:
    shares = [0.35, 0.25, 0.2, 0.17, 0.03] if factor < 1 else [0.0, 0.4, 0.4, 0.17, 0.03]
    kernel = str(rng.choice(list(KERNELS), p=shares))
    stretch = float(rng.uniform(0.95, 1.05)) if rng.random() < 0.2 else 1.0
    return partial(rescale, factor=factor, kernel=kernel, stretch=stretch)


def _draw_retouch(rng: np.random.Generator) -> list[PictureStep]:
    steps: list[PictureStep] = []
    if rng.random() < 0.4:
        brightness, contrast = float(rng.normal(0, 12)), float(rng.uniform(0.8, 1.2))
        saturation = float(rng.uniform(0.0, 1.3) if rng.random() < 0.3 else rng.uniform(0.8, 1.2))
        steps.append(
            partial(colour, brightness=brightness, contrast=contrast, saturation=saturation)
        )
    if rng.random() < 0.15:
        steps.append(partial(blur, sigma=float(rng.uniform(0.3, 1.5))))
    elif rng.random() < 0.15:
        steps.append(partial(sharpen, amount=float(rng.uniform(0.2, 1.5))))
    if rng.random() < 0.2:
        sigma = float(np.exp(rng.uniform(0, np.log(10))))
        steps.append(partial(noise, sigma=sigma, seed=int(rng.integers(2**31))))
    return steps


def _draw_compression(rng: np.random.Generator) -> PictureStep:
    kind = rng.random()
    if kind < 0.12:
        return partial(webp, quality=int(rng.integers(40, 96)))
    if kind < 0.15:
        return partial(avif, quality=int(rng.integers(40, 91)))
    low = 30 if rng.random() < 0.4 else 65
    subsampling = str(rng.choice(list(SUBSAMPLINGS), p=[0.3, 0.1, 0.6]))
    return partial(jpeg, quality=int(rng.integers(low, 101)), subsampling=subsampling)


def _encode_round(pixels: Pixels, extension: str, flags: list[int]) -> Pixels:
    _, content = cv2.imencode(extension, cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), flags)
    decoded = cv2.imdecode(content, cv2.IMREAD_COLOR)
    assert decoded is not None  # it was encoded a line ago
    return _as_pixels(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB))


def _lookup(choices: dict[str, int], name: str, what: str) -> int:
    if name not in choices:
        raise SettingsError(f"{what} {name!r}: unknown", hint=f"known: {', '.join(choices)}")
    return choices[name]


def _as_pixels(values: object) -> Pixels:
    return np.asarray(values, dtype=np.uint8)
