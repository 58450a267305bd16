"""Settings, limits and options, each declared once.

Command-line flags, HTTP query parameters and controls of the page are made from the fields of
:class:`DetectOptions`; ``metadata["help"]`` is the text that all of them show.
"""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass, field, fields
from math import inf
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from .errors import SettingsError

BACKENDS = ("auto", "torch", "openvino", "onnxruntime")
PRECISIONS = ("auto", "fp32")
EFFORTS = ("auto", "quick", "full")
_FULL_HD = 1920 * 1080
_LONGEST_WAIT_SECONDS = 60.0
_DEVICES = "auto|cpu|cuda(:[0-9]{1,3})?"


def _option(default: Any, text: str, minimum: float = 0.0, maximum: float = 1.0) -> Any:
    return field(default=default, metadata={"help": text, "minimum": minimum, "maximum": maximum})


def _choice(default: str, text: str, choices: tuple[str, ...]) -> Any:
    return field(default=default, metadata={"help": text, "choices": choices})


def megapixels(pixels: int) -> str:
    """A number of pixels as people name it: ``120``, ``200.5`` or ``0.3072``."""
    count = pixels / 1e6
    if pixels % 1_000_000 == 0:
        return f"{count:,.0f}"
    return f"{count:,.1f}" if count >= 100 else f"{count:.4g}"


def _is_number(value: Any, *, whole: bool = False) -> bool:
    """Whether a value is a finite number, which neither a truth value nor a NaN is."""
    if isinstance(value, bool) or not isinstance(value, Integral if whole else Real):
        return False
    number: Any = value
    return bool(-inf < number < inf)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a file may cost, checked before and enforced while it is decoded."""

    file_bytes: int = 4 * 1024**3
    """Largest file."""
    image_pixels: int = 120_000_000
    """Most pixels of a picture, width × height."""
    frame_pixels: int = 36_000_000
    """Most pixels of a frame of a video."""
    seconds: float = 4 * 3600.0
    """Longest playing time of a sound or a video."""
    streams: int = 32
    """Most streams of a container."""
    metadata_bytes: int = 8 * 1024**2
    """Most metadata that are read of a file."""
    decode_memory_bytes: int = 3 * 1024**3
    """Address space of the process that decodes."""
    decode_cpu_seconds: int = 600
    """Processor time of the process that decodes."""
    decode_stall_seconds: float = 60.0
    """Longest wait for the next result of the decoder before it is ended."""
    decode_pixels: int = 80_000_000_000
    """Pixels × frames that one pass over a video may decode; less of a longer one is sampled. Ten
    minutes of 1080p at 60 frames a second are 75 billion."""
    sampled_frames: int = 3600
    """Most frames of one video that are looked at, and half as many again where it is unclear, of
    up to 1920×1080; larger ones count by their pixels."""

    def most_frames(self, *, pixels: int) -> int:
        """How many frames of so many ``pixels`` each may be looked at; at least one."""
        return max(1, math.floor(self.sampled_frames * min(1.0, _FULL_HD / max(pixels, 1))))


@dataclass(frozen=True, kw_only=True)
class DetectOptions:
    """What to do with one file. Out-of-range values raise ``SettingsError``."""

    heatmap: bool = _option(False, "show where in the picture or the sound the evidence lies")
    stability: bool = _option(
        True,
        "score pictures again after one recompression, and clean ones after a small step aside",
    )
    prior: float = _option(
        0.5, "share of synthetic files you expect; shifts the probability", 0.0001, 0.9999
    )
    max_frames_per_minute: int = _option(
        240,
        "most frames looked at for each minute of video, and half as many again where it is "
        "unclear",
        8,
        3600,
    )
    max_audio_seconds: float = _option(600.0, "most seconds of sound that are scored", 1, 14400)
    trust_claims: bool = _option(
        False,
        "believe what the file says of itself unsigned (parameters, labels, manifests of unknown "
        "signers), which anyone can write",
    )
    effort: str = _choice(
        "auto",
        "which detector of pictures: quick, full (the larger one, several times slower), or auto, "
        "the quick one and, where its score does not settle the matter, the full one",
        EFFORTS,
    )

    def __post_init__(self) -> None:
        for option in fields(self):
            value = getattr(self, option.name)
            if isinstance(option.default, bool):
                if not isinstance(value, bool):
                    raise SettingsError(f"option {option.name} {value!r}: not true or false")
                continue
            if choices := option.metadata.get("choices"):
                if value not in choices:
                    raise SettingsError(
                        f"option {option.name} {value!r}: unknown",
                        hint=f"choose one of {', '.join(choices)}",
                    )
                continue
            low, high = option.metadata["minimum"], option.metadata["maximum"]
            whole = isinstance(option.default, int)
            if not (_is_number(value, whole=whole) and low <= value <= high):
                raise SettingsError(
                    f"option {option.name} {value!r}: out of range",
                    hint=f"give a {'whole ' if whole else ''}number from {low} to {high}",
                )


def shipped_models_folder() -> Path:
    """The bundles that came with the package: inside it when installed, beside it in a clone."""
    package = Path(__file__).resolve().parent
    inside = package / "shipped_models"
    return inside if inside.is_dir() else package.parent / "models"


def user_models_folder() -> Path:
    """Where ``deepfake models install`` puts bundles: a folder of the user.

    A bundle that the list of a models folder names, and that does not lie there, is looked for
    here.
    """
    return user_data_folder() / "models"


def user_data_folder() -> Path:
    """Where everything that we keep for this user lies (XDG base directories)."""
    data = os.environ.get("XDG_DATA_HOME", "")
    home = Path(data) if Path(data).is_absolute() else Path.home() / ".local" / "share"
    return home / "deepfake"


def crop_key_file() -> Path:
    """The secret of this installation by which crops are drawn, under ``random_crops``."""
    return user_data_folder() / "crops.key"


def user_keys_folder() -> Path:
    """Where the keys lie that this user signs bundles with, and whose public halves are trusted on
    this machine (XDG base directories).
    """
    config = os.environ.get("XDG_CONFIG_HOME", "")
    home = Path(config) if Path(config).is_absolute() else Path.home() / ".config"
    return home / "deepfake" / "keys"


def _keys_of_environment() -> tuple[Path, ...]:
    """The folders and files of ``DEEPFAKE_TRUSTED_KEYS``, separated as those of ``PATH``."""
    named = os.environ.get("DEEPFAKE_TRUSTED_KEYS", "").split(os.pathsep)
    return tuple(Path(name) for name in named if name)


def _unsigned_of_environment() -> bool:
    """Whether ``DEEPFAKE_ALLOW_UNSIGNED`` is 1."""
    value = os.environ.get("DEEPFAKE_ALLOW_UNSIGNED", "")
    if value not in ("", "0", "1"):
        raise SettingsError(f"DEEPFAKE_ALLOW_UNSIGNED {value[:40]!r}: unknown", hint="set 1 or 0")
    return value == "1"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a ``Detector`` is built.

    ``trust_anchors`` is a PEM file of certificate authorities that make a valid C2PA manifest a
    *trusted* one; it replaces the trust list of C2PA, which is shipped. ``face_model`` is a YuNet
    ONNX file of your own that finds faces in place of the shipped bundle. ``known`` is an index of
    media that were ruled on, of which copies are recognised. ``threads`` is the number
    of threads of a CPU runtime, 0 for all cores. ``device`` is ``auto``, ``cpu``, ``cuda`` (every
    CUDA device that is visible) or one of them, as ``cuda:1``. ``precision`` is
    ``fp32`` by default everywhere, so that a file has one score whoever asks. With ``auto`` a
    network runs in the lowest precision that was measured to keep its accuracy, where the device is
    faster in it; reports then warn of that.

    Requests of several callers that arrive within ``batch_wait_seconds`` share a batch; None waits
    2 ms on a GPU and not at all on a CPU, where a larger batch is no faster. A caller waits while
    ``max_queued`` windows are in the queue of a device.

    ``trusted_keys`` are folders or ``.pub.pem`` files of public keys whose bundles are believed,
    beside those of the package and of this user; by default those that ``DEEPFAKE_TRUSTED_KEYS``
    names. ``allow_unsigned`` (``DEEPFAKE_ALLOW_UNSIGNED=1``) uses bundles that no trusted key has
    signed as well, for development; every report then says so.

    With ``random_crops`` the crops of a picture lie where a secret of this user's data folder puts
    them, so that its score differs a little from that of another installation.

    ``file_seconds`` is the most that one file may take in ``detect_many``, a scan, and on the page
    and its API; None is no limit. Ten minutes of 1080p take two to five minutes on two cores.
    """

    models_folder: Path = field(default_factory=shipped_models_folder)
    backend: str = "auto"
    device: str = "auto"
    threads: int = 0
    precision: str = "fp32"
    max_batch: int = 32
    max_queued: int = 256
    batch_wait_seconds: float | None = None
    limits: Limits = Limits()
    file_seconds: float | None = 600.0
    trust_anchors: Path | None = None
    face_model: Path | None = None
    known: Path | None = None
    trusted_keys: tuple[Path, ...] = field(default_factory=_keys_of_environment)
    allow_unsigned: bool = field(default_factory=_unsigned_of_environment)
    random_crops: bool = False

    def __post_init__(self) -> None:
        if self.backend not in BACKENDS:
            raise SettingsError(
                f"backend {self.backend!r}: unknown", hint=f"choose one of {', '.join(BACKENDS)}"
            )
        known = isinstance(self.device, str) and re.fullmatch(_DEVICES, self.device)
        if not known:
            raise SettingsError(
                f"device {self.device!r}: unknown",
                hint="choose auto, cpu, cuda, cuda:0, cuda:1 …",
            )
        if self.precision not in PRECISIONS:
            raise SettingsError(
                f"precision {self.precision!r}: unknown",
                hint=f"choose one of {', '.join(PRECISIONS)}",
            )
        for name, least in (("max_batch", 1), ("max_queued", 1), ("threads", 0)):
            value = getattr(self, name)
            if not (_is_number(value, whole=True) and value >= least):
                raise SettingsError(
                    f"{name} {value!r}: out of range", hint=f"give a whole number from {least} on"
                )
        wait = self.batch_wait_seconds
        if wait is not None and not (_is_number(wait) and 0 <= wait <= _LONGEST_WAIT_SECONDS):
            raise SettingsError(
                f"batch_wait_seconds {wait!r}: out of range",
                hint=f"give seconds from 0 to {_LONGEST_WAIT_SECONDS:g}, or None",
            )
        if self.file_seconds is not None and not self.file_seconds > 0:
            raise SettingsError(
                f"file_seconds {self.file_seconds!r}: not positive",
                hint="give more seconds, or None for no limit",
            )

    @property
    def wants_cuda(self) -> bool:
        """Whether a CUDA device was asked for by name."""
        return self.device.startswith("cuda")
