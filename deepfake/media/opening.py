"""Opening media: one file, checked and hashed, whose pictures and sound are decoded when asked for.

Everything that interprets the bytes happens in a child process (see :mod:`.process`); this module
loads no decoder.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any, BinaryIO, NamedTuple, Self
from weakref import WeakSet

import numpy as np
import numpy.typing as npt

from ..errors import Corrupt, MediaError, SettingsError, TooLarge, UnsupportedMedia
from ..preprocess import Pixels, Samples, bound_samples, mix_channels
from ..progress import Watch
from ..reasons import Code
from ..settings import Limits, megapixels
from ..text import display_name, escape
from ..types import Kind, MediaInfo
from .process import Part, ask
from .shared_memory import SharedPixels
from .sniff import extension_mismatch
from .sources import OpenFile, open_bytes, open_path, open_stream

Source = str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO | np.ndarray | OpenFile
"""A path, the bytes of a file, a binary file object, pixels, samples, or what is already open."""


class Frame(NamedTuple):
    """One upright RGB picture (height, width, 3) of a video, ``seconds`` from its first frame."""

    seconds: float
    pixels: Pixels


class BurstFrame(NamedTuple):
    """One upright RGB picture (height, width, 3) of the ``burst`` with this number, from 0."""

    burst: int
    seconds: float
    pixels: Pixels


class Media:
    """One opened file. Use it as a context manager, from one thread at a time.

    ``warnings`` are sentences for a person and grow as parts are decoded; ``is_limited`` becomes
    true when a video costs too much to look at as closely as was asked. ``has_other_tracks`` tells
    of more pictures or sounds than the one of each that is decoded. ``watch`` is told of progress
    and ends decoding, with ``Cancelled``, when that is wanted.
    """

    def __init__(
        self,
        info: MediaInfo,
        *,
        name: str,
        limits: Limits,
        descriptor: int | None = None,
        pixels: Pixels | None = None,
        samples: Samples | None = None,
        warnings: list[str] | None = None,
        has_other_tracks: bool = False,
        watch: Watch | None = None,
    ) -> None:
        self.watch = watch or Watch()
        self._answers: WeakSet[Generator[Part, None, None]] = WeakSet()
        self.info, self.name, self.limits = info, name, limits
        self.warnings: list[str] = warnings or []
        self.is_limited, self.has_other_tracks = False, has_other_tracks
        self._descriptor, self._pixels, self._samples = descriptor, pixels, samples
        self._image_error: MediaError | None = None

    def image(self) -> Pixels:
        """The upright RGB picture (height, width, 3), uint8 in sRGB; decoded once and kept.

        Raises ``Corrupt`` or ``TooLarge``, and ``MediaError`` for a file that is no picture.
        """
        self._require(self.info.kind is Kind.IMAGE, "a picture")
        if self._image_error is not None:
            raise self._image_error
        if self._pixels is None:
            try:
                self._pixels = self._decode_image()
            except MediaError as error:
                self._image_error = error
                raise
            height, width = self._pixels.shape[:2]
            self.info = replace(self.info, width=width, height=height)
        return self._pixels

    def _decode_image(self) -> Pixels:
        pixels = None
        size_bytes = 3 * (self.info.width or 0) * (self.info.height or 0)
        shared = None
        with contextlib.suppress(OSError):  # without shared memory, pixels come by the socket
            shared = SharedPixels(size_bytes) if size_bytes else None
        try:
            for part in self._ask("image", shared=shared, format=self.info.format):
                if part.array is not None:
                    pixels = _pixels(part, self.name)
        finally:
            if shared is not None:
                shared.close()
        if pixels is None:
            raise _broken_answer(self.name)
        return pixels

    def frames(self, *, most: int) -> Iterator[Frame]:
        """At most ``most`` frames evenly spread over a video, the first included.

        One sequential pass per call, made while the frames are taken. Raises as :meth:`image`.
        """
        self._require(self.info.kind is Kind.VIDEO, "a video")
        if most < 1:
            raise SettingsError(f"most {most!r}: out of range", hint="ask for at least one frame")
        return self._frames(most)

    def _frames(self, most: int) -> Iterator[Frame]:
        count = 0
        for part in self._ask("frames", format=self.info.format, most=most):
            if part.array is not None:
                count += 1
                if count > most:
                    raise _broken_answer(self.name)
                yield Frame(_number(part.values.get("seconds")) or 0.0, _pixels(part, self.name))

    def bursts(
        self,
        *,
        most: int,
        frames: int,
        step_seconds: float,
        spans: Sequence[tuple[float, float]] = (),
    ) -> Iterator[BurstFrame]:
        """Frames that follow each other closely, in at most ``most`` bursts.

        The bursts are evenly spread over the video, or over ``spans`` (start, end) in seconds, the
        first at the start; they never overlap, so a short video has fewer. A burst holds the first
        frame shown at or after each of ``frames`` moments that are ``step_seconds`` apart, and each
        frame once: fewer where the frame rate is lower, and at the end of the video.

        One sequential pass per call, made while the frames are taken. Raises as :meth:`image`.
        """
        self._require(self.info.kind is Kind.VIDEO, "a video")
        times = [number for span in spans for number in span]
        if most < 1 or frames < 1 or not all(map(math.isfinite, [step_seconds, *times])):
            step_seconds = 0.0
        if step_seconds <= 0 or any(start > end for start, end in spans):
            raise SettingsError(
                f"{most!r} bursts of {frames!r} frames: out of range",
                hint="ask for at least one burst of one frame, a positive step, and spans that end "
                "after they start",
            )
        values = {"frames": frames, "step_seconds": step_seconds, "spans": [*map(list, spans)]}
        return self._bursts(most, values)

    def _bursts(self, most: int, values: dict[str, Any]) -> Iterator[BurstFrame]:
        left = most * values["frames"]
        for part in self._ask("bursts", format=self.info.format, most=most, **values):
            self.is_limited |= part.values.get("limited") is True
            if part.array is None:
                continue
            burst = _number(part.values.get("burst"))
            left -= 1
            if burst is None or burst >= most or left < 0:
                raise _broken_answer(self.name)
            seconds = _number(part.values.get("seconds")) or 0.0
            yield BurstFrame(int(burst), seconds, _pixels(part, self.name))

    def audio(self, *, sample_rate: int, max_seconds: float) -> Samples:
        """Mono float32 (samples,) at ``sample_rate``, nominally in -1…1 and never far beyond
        ``preprocess.LOUDEST``, ``max_seconds`` at most.

        Raises as :meth:`image`, and ``MediaError`` for a file without sound.
        """
        self._require(self.info.has_audio, "a file with sound")
        if sample_rate < 1 or max_seconds <= 0:
            raise SettingsError(
                f"audio at {sample_rate!r} Hz for {max_seconds!r} seconds: out of range",
                hint="both must be positive",
            )
        if self._samples is not None:
            return self._array_audio(self._samples, sample_rate, max_seconds)
        most, count = round(max_seconds * sample_rate), 0
        seconds = min(max_seconds, (self.info.seconds or 0.0) + 1)
        samples = np.empty(round(seconds * sample_rate), np.float32)
        values: dict[str, Any] = {"sample_rate": sample_rate, "max_seconds": max_seconds}
        for part in self._ask("audio", format=self.info.format, **values):
            if part.array is not None and part.array.ndim == 1:
                end = count + len(part.array)
                if end > most:
                    raise _broken_answer(self.name)
                if end > len(samples):  # longer than the container says
                    samples.resize(min(most, 2 * end), refcheck=False)
                samples[count:end] = part.array
                count = end
        return samples[:count]

    def metadata(self) -> dict[str, Any]:
        """What the container says of its origin, as JSON values; empty for arrays."""
        return self._result("metadata")

    def manifest(self, *, trust_anchors: str | None = None) -> dict[str, Any]:
        """The C2PA manifest as JSON values; ``trust_anchors`` is PEM text. Empty for arrays."""
        return self._result("manifest", trust_anchors=trust_anchors)

    def close(self) -> None:
        """Let go of the file and end what still decodes it; decoded parts stay usable."""
        for answer in tuple(self._answers):
            answer.close()
        if self._descriptor is not None and self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def _result(self, operation: str, **values: Any) -> dict[str, Any]:
        if self._descriptor is None:
            return {}
        result: Any = {}
        for part in self._ask(operation, format=self.info.format, **values):
            result = part.values.get("result", {})
        if not isinstance(result, dict):
            raise _broken_answer(self.name)
        return result

    def _ask(
        self, operation: str, *, shared: SharedPixels | None = None, **values: Any
    ) -> Iterator[Part]:
        answer = ask(
            operation,
            descriptor=self._require_open(),
            shared=shared,
            name=self.name,
            limits=self.limits,
            check=self.watch.check,
            **values,
        )
        self._answers.add(answer)
        for part in answer:
            self._warn(_texts(part.values.get("warnings")))
            yield part
            self._require_open()

    def _require_open(self) -> int:
        if self._descriptor is None or self._descriptor < 0:
            raise SettingsError(f"media {self.name}: is closed", hint="open it again")
        return self._descriptor

    def _warn(self, texts: list[str]) -> None:
        self.warnings.extend(text for text in texts if text not in self.warnings)

    def _require(self, fits: bool, wanted: str) -> None:
        if not fits:
            raise MediaError(
                f"media {self.name}: is {self.info.kind.value}, not {wanted}",
                code=Code.WRONG_KIND,
                hint="look at media.info before asking",
            )

    def _array_audio(self, samples: Samples, sample_rate: int, max_seconds: float) -> Samples:
        rate = self.info.sample_rate or sample_rate
        if len(samples) > round(max_seconds * rate):
            self._warn([f"Only the first {max_seconds:g} seconds of the sound were looked at."])
            samples = samples[: round(max_seconds * rate)]
        if rate == sample_rate:
            return samples
        with open_media(wav_bytes(samples, sample_rate=rate), limits=self.limits) as media:
            return media.audio(sample_rate=sample_rate, max_seconds=max_seconds)


def open_media(
    source: Source,
    *,
    limits: Limits = Limits(),  # noqa: B008 (frozen)
    name: str | None = None,
    sample_rate: int | None = None,
    watch: Watch | None = None,
) -> Media:
    """Open a path, bytes, a binary file object or an array, whatever its name says.

    Arrays are pixels, uint8 (height, width[, 1, 3 or 4]), or samples, floating point
    (samples[, channels]) at ``sample_rate``. ``name`` replaces the name that is shown. ``watch``
    is told of progress, and may end all decoding with ``Cancelled``.

    Raises ``MediaError`` (no such file, no file at all, empty), ``UnsupportedMedia``, ``Corrupt``
    or ``TooLarge``, and ``SettingsError`` for a source of another type.
    """
    shown = source_name(source, name=name)
    if isinstance(source, np.ndarray):
        media = _open_array(source, name=shown, limits=limits, sample_rate=sample_rate)
        media.watch = watch or media.watch
        return media
    if isinstance(source, OpenFile):
        file = source
    elif isinstance(source, bytes | bytearray | memoryview):
        file = open_bytes(source, name=shown, limits=limits)
    elif isinstance(source, str | os.PathLike):
        file = open_path(source, name=shown, limits=limits, check=(watch or Watch()).check)
    elif callable(getattr(source, "read", None)):
        file = open_stream(source, name=shown, limits=limits)
    else:
        raise SettingsError(
            f"source of type {type(source).__name__}: cannot be opened",
            hint="give a path, bytes, a binary file object or a numpy array",
        )
    return _open_file(file, name=shown, limits=limits, watch=watch or Watch())


def source_name(source: Source, *, name: str | None = None) -> str:
    """What a source is called to people and in logs: ``name``, its path, or what it is."""
    if name:
        return display_name(name)
    if isinstance(source, str | os.PathLike):
        return display_name(source)
    if isinstance(source, np.ndarray):
        return "<array>"
    if isinstance(source, OpenFile):
        return "<file>"
    if isinstance(source, bytes | bytearray | memoryview):
        return "<bytes>"
    return "<stream>" if hasattr(source, "read") else f"<{type(source).__name__}>"


def wav_bytes(samples: Samples, *, sample_rate: int) -> bytes:
    """A mono WAV file with 32-bit floating-point ``samples`` (RIFF, WAVE_FORMAT_IEEE_FLOAT).

    The module ``wave`` writes whole numbers alone, and PyAV is loaded in the decoder process alone.
    """
    data = samples.astype("<f4").tobytes()

    def word(value: int, size: int = 4) -> bytes:
        return value.to_bytes(size, "little")

    form = word(3, 2) + word(1, 2) + word(sample_rate) + word(4 * sample_rate)
    form += word(4, 2) + word(32, 2)
    body = b"WAVEfmt " + word(len(form)) + form + b"data" + word(len(data)) + data
    return b"RIFF" + word(len(body)) + body


def _open_file(file: OpenFile, *, name: str, limits: Limits, watch: Watch) -> Media:
    try:
        values: dict[str, Any] = {}
        for part in ask(
            "probe", descriptor=file.descriptor, name=name, limits=limits, check=watch.check
        ):
            values = part.values
        try:
            info = _info(values, file)
        except (KeyError, ValueError, TypeError) as error:
            raise _broken_answer(name) from error
    except BaseException:
        os.close(file.descriptor)
        raise
    media = Media(
        info,
        name=name,
        limits=limits,
        descriptor=file.descriptor,
        warnings=_texts(values.get("warnings")),
        has_other_tracks=values.get("has_other_tracks") is True,
        watch=watch,
    )
    if warning := name_warning(name, info.format):
        media.warnings.append(warning)
    return media


_NAME_WARNING = "The name ends in ."


def name_warning(name: str, format: str) -> str | None:
    """A sentence for a file whose name promises another format than ``format``."""
    extension = os.path.splitext(display_name(name))[1][1:]  # noqa: PTH122 (a name, not a path)
    if not extension_mismatch(extension, format):
        return None
    return f"{_NAME_WARNING}{extension}, but the content is {format.upper()}."


def without_name_warning(warnings: Sequence[str]) -> list[str]:
    """``warnings`` less the one of :func:`name_warning`, for a file under another name."""
    return [warning for warning in warnings if not warning.startswith(_NAME_WARNING)]


def _info(values: dict[str, Any], file: OpenFile) -> MediaInfo:
    def count(key: str) -> int | None:
        number = _number(values.get(key))
        return None if number is None else int(number)

    return MediaInfo(
        kind=Kind(values["kind"]),
        format=escape(str(values["format"])),
        sha256=file.sha256,
        bytes=file.bytes,
        width=count("width"),
        height=count("height"),
        seconds=_number(values.get("seconds")),
        frame_rate=_number(values.get("frame_rate")),
        sample_rate=count("sample_rate"),
        has_audio=values.get("has_audio") is True,
    )


def _open_array(
    array: npt.NDArray[Any], *, name: str, limits: Limits, sample_rate: int | None
) -> Media:
    if array.dtype == np.uint8:
        return _open_pixels(array, name=name, limits=limits)
    if array.dtype.kind != "f" or array.ndim not in (1, 2):
        raise UnsupportedMedia(
            f"array {name}: {array.dtype} of shape {array.shape} is neither pixels nor samples",
            hint="give uint8 (height, width, 3), or floating point (samples[, channels])",
        )
    if sample_rate is None or sample_rate < 1:
        raise SettingsError(
            f"array {name}: samples without a rate", hint="pass sample_rate=… in hertz"
        )
    if not array.size:
        raise Corrupt(
            f"array {name}: has no samples", code=Code.NO_SAMPLES, hint="give a longer one"
        )
    seconds = len(array) / sample_rate
    if seconds > limits.seconds or array.nbytes > limits.file_bytes:
        raise TooLarge(
            f"array {name}: {seconds:.0f} seconds are more than {limits.seconds:.0f}",
            hint="cut it into parts, or raise Limits.seconds",
        )
    bounded, warnings = bound_samples(array)
    samples = bounded.astype(np.float32)
    if samples.ndim == 2:
        table = np.ascontiguousarray(samples.T)
        samples, mixing = mix_channels(table, sample_rate=sample_rate)
        warnings += mixing
    info = MediaInfo(
        kind=Kind.AUDIO,
        format="array",
        sha256=_array_sha256(array),
        bytes=array.nbytes,
        seconds=seconds,
        sample_rate=sample_rate,
        has_audio=True,
    )
    return Media(info, name=name, limits=limits, samples=samples, warnings=[*warnings])


def _open_pixels(array: npt.NDArray[np.uint8], *, name: str, limits: Limits) -> Media:
    channels = array.shape[2] if array.ndim == 3 else 1
    if array.ndim not in (2, 3) or channels not in (1, 3, 4) or not array.size:
        raise UnsupportedMedia(
            f"array {name}: uint8 of shape {array.shape} is not a picture",
            hint="give (height, width), (height, width, 3) or (height, width, 4)",
        )
    height, width = array.shape[:2]
    if height * width > limits.image_pixels:
        raise TooLarge(
            f"array {name}: this picture has {megapixels(width * height)} megapixels "
            f"({width}×{height}), and {megapixels(limits.image_pixels)} are taken",
            hint="shrink the picture, or raise Limits.image_pixels",
        )
    warnings: list[str] = []
    pixels = array.reshape(height, width, channels)
    if channels == 4:
        alpha = pixels[..., 3:].astype(np.uint16)
        pixels = pixels[..., :3]
        if alpha.min() < 255:
            warnings.append("The picture is partly transparent; it was laid on white.")
            mixed = pixels * alpha + 255 * (255 - alpha)
            pixels = ((mixed + 127) // 255).astype(np.uint8)
    pixels = np.array(np.broadcast_to(pixels, (height, width, 3)))
    info = MediaInfo(
        kind=Kind.IMAGE,
        format="array",
        sha256=_array_sha256(array),
        bytes=array.nbytes,
        width=width,
        height=height,
    )
    return Media(info, name=name, limits=limits, pixels=pixels, warnings=warnings)


def _array_sha256(array: npt.NDArray[Any]) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).data.cast("B")).hexdigest()


def _pixels(part: Part, name: str) -> Pixels:
    array = part.array
    if array is None or array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3:
        raise _broken_answer(name)
    return array.view(np.uint8)


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e15:
        return None
    return float(value)


def _texts(values: Any) -> list[str]:
    if not isinstance(values, list):
        return []
    return [escape(value) for value in values if isinstance(value, str)]


def _broken_answer(name: str) -> Corrupt:
    return Corrupt(
        f"file {name}: its decoder gave an impossible answer",
        code=Code.DECODER_FAILED,
        hint="treat the file as hostile",
    )
