"""Sound to mono float32 at one rate, inside the decoder process."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import av
import numpy as np

from ..errors import Corrupt
from ..preprocess import Samples, bound_samples
from ..reasons import Code
from . import streams
from .job import Job

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
        for piece in _gather(_resample(_decode(job, container, stream), sample_rate)):
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
    if frame.format.name.rstrip("p") not in ("flt", "dbl"):
        return frame
    values, warnings = bound_samples(frame.to_ndarray())
    if not warnings:
        return frame
    for warning in warnings:
        job.warn(warning)
    clean = av.AudioFrame.from_ndarray(values, format=frame.format.name, layout=frame.layout.name)
    clean.sample_rate, clean.pts, clean.time_base = frame.sample_rate, frame.pts, frame.time_base
    return clean


def _resample(frames: Iterator[Any], sample_rate: int) -> Iterator[Samples]:
    """Mono float32; a change of rate or channels within the stream starts a new resampler."""
    resampler, form = None, None
    for frame in frames:
        now = (frame.sample_rate, frame.format.name, frame.layout.name)
        if resampler is None or now != form:
            if resampler is not None:
                yield from _samples(resampler.resample(None))
            resampler = av.AudioResampler(format="fltp", layout=frame.layout, rate=sample_rate)
            form = now
        frame.pts = None
        yield from _samples(resampler.resample(frame))
    if resampler is not None:
        yield from _samples(resampler.resample(None))


def _samples(frames: list[Any]) -> Iterator[Samples]:
    # The mean of the channels; FFmpeg's own mix to mono would be louder than each of them.
    for frame in frames:
        yield frame.to_ndarray().mean(axis=0, dtype=np.float32)


def _gather(pieces: Iterator[Samples]) -> Iterator[Samples]:
    """The same samples in larger pieces, since codec frames are a few milliseconds long."""
    held: list[Samples] = []
    for piece in pieces:
        held.append(piece)
        if sum(map(len, held)) >= _PIECE_SAMPLES:
            yield np.concatenate(held)
            held = []
    if held:
        yield np.concatenate(held)
