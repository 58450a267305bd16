"""Sound to mono float32 at one rate, inside the decoder process."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import av
import numpy as np

from ..errors import Corrupt, UnsupportedMedia
from ..preprocess import Samples, bound_samples, mix_channels
from ..reasons import Code
from . import streams
from .job import Job

MOST_CHANNELS = 64
"""As many as FFmpeg resamples."""
_MOST_PLANES = 8
"""Planes of a frame that PyAV can read; it crashes on those of more channels."""
_PIECE_SAMPLES = 64 * 1024


def decode_audio(job: Job, *, format: str, sample_rate: int, max_seconds: float) -> dict[str, Any]:
    """Send mono float32 samples at ``sample_rate`` in pieces, ``max_seconds`` at most."""
    most, sent = round(max_seconds * sample_rate), 0
    with streams.open_streams(job, format=format) as container:
        stream = streams.audio_stream(container)
        if stream is None:
            raise Corrupt(f"file {job.name}: has no sound that can be decoded", code=Code.NO_AUDIO)
        streams.require_decoder(job, stream, "sound")
        streams.keep_only(container, stream)
        claimed = streams.claimed_seconds(container, stream)
        longest = 0.999 * (claimed or 0.0)
        for table in _gather(_resample(_decode(job, container, stream), sample_rate)):
            piece, warnings = mix_channels(table, sample_rate=sample_rate)
            for warning in warnings:
                job.warn(warning)
            samples = piece[: most - sent]
            if sent + len(piece) > most or (sent + len(piece) == most and max_seconds < longest):
                job.warn(f"Only the first {max_seconds:g} seconds of the sound were looked at.")
            if len(samples):
                job.part(samples)
            sent += len(samples)
            if sent >= most:
                break
            if job.nearly_spent():
                job.warn("Decoding the sound took too long; only its beginning was looked at.")
                break
    if not sent:
        raise Corrupt(
            f"file {job.name}: the sound has no samples that can be decoded",
            code=Code.NO_SAMPLES,
            hint="record or export it again",
        )
    seconds = sent / sample_rate
    if sent < most and claimed and seconds < 0.95 * claimed - 0.5 and not job.warnings:
        job.warn("The sound ends before the length that its header states.")
    return {"samples": sent}


def _decode(job: Job, container: Any, stream: Any) -> Iterator[Any]:
    for packet in streams.packets(container, stream):
        try:
            frames = stream.codec_context.decode(packet)
        except streams.DAMAGE:
            job.warn("Parts of the sound are damaged; they were left out.")
            continue
        for frame in frames:
            job.progress()
            yield _bounded(job, frame)


def _bounded(job: Job, frame: Any) -> Any:
    """Samples that are no numbers or beyond all bounds mended, before resampling spreads them."""
    channels, kind = frame.layout.nb_channels, frame.format.name.rstrip("p")
    if channels > MOST_CHANNELS:
        raise UnsupportedMedia(
            f"file {job.name}: its sound has {channels} channels, and {MOST_CHANNELS} can be read",
            hint="mix it down, for example to stereo",
        )
    if kind not in ("flt", "dbl"):
        return frame
    if channels > _MOST_PLANES and frame.format.is_planar:
        (frame,) = av.AudioResampler(format=kind, layout=frame.layout).resample(frame)
    values, warnings = bound_samples(frame.to_ndarray())
    if not warnings:
        return frame
    for warning in warnings:
        job.warn(warning)
    clean = av.AudioFrame.from_ndarray(values, format=frame.format.name, layout=frame.layout)
    clean.sample_rate, clean.pts, clean.time_base = frame.sample_rate, frame.pts, frame.time_base
    return clean


def _resample(frames: Iterator[Any], sample_rate: int) -> Iterator[Samples]:
    """Float32 (channels, samples); a change of rate or channels within the stream starts a new
    resampler.
    """
    resampler, form = None, None
    for frame in frames:
        now = (frame.sample_rate, frame.format.name, frame.layout.name)
        if resampler is None or now != form:
            if resampler is not None:
                yield from _samples(resampler.resample(None))
            resampler = av.AudioResampler(format="flt", layout=frame.layout, rate=sample_rate)
            form = now
        frame.pts = None
        yield from _samples(resampler.resample(frame))
    if resampler is not None:
        yield from _samples(resampler.resample(None))


def _samples(frames: list[Any]) -> Iterator[Samples]:
    for frame in frames:
        yield np.ascontiguousarray(frame.to_ndarray().reshape(-1, frame.layout.nb_channels).T)


def _gather(tables: Iterator[Samples]) -> Iterator[Samples]:
    """The same samples in larger pieces, since codec frames are a few milliseconds long; channels
    are mixed here and not by FFmpeg, whose mono would be louder than each of them.
    """
    held: list[Samples] = []
    for table in tables:
        if held and len(table) != len(held[0]):
            yield np.concatenate(held, axis=1)
            held = []
        held.append(table)
        if sum(piece.shape[1] for piece in held) >= _PIECE_SAMPLES:
            yield np.concatenate(held, axis=1)
            held = []
    if held:
        yield np.concatenate(held, axis=1)
