"""A bundle: one model version as a folder that can be read, verified and written.

::

    models/image-2/
    ├── bundle.json         what it is, how to feed it, how to read it, and a sha256 of every file
    ├── model.onnx          for OpenVINO and ONNX Runtime
    ├── model.safetensors   the same weights for torch
    ├── golden.npz          synthetic inputs and the logits that every backend must give for them
    └── README.md           the model card
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import ModelError
from .preprocess import (
    AudioPreprocess,
    Batch,
    ClipPreprocess,
    FacePreprocess,
    Floats,
    Preprocess,
    preprocess_from_dict,
    preprocess_to_dict,
)
from .reasons import Code
from .types import Kind, OperatingPoints

SCHEMA = "deepfake-bundle/1"
SLOTS = ("image", "frame", "face", "audio", "video", "face-finder", "fusion")
LEAST_SPANS = 6
"""A file of fewer spans than this is judged as a whole: a span is no short part of it."""
Logits = npt.NDArray[np.float32]

DESCRIPTION, CARD = "bundle.json", "README.md"
_PICTURES = (".png", ".jpg")
_RESTORE = "restore the folder from the release that it came with"


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """From window logits to a calibrated P(synthetic) of the whole file.

    The mean of the highest ``top_fraction`` of the window logits, times ``slope`` plus
    ``intercept``, is the file's log-odds (Platt scaling, Platt 1999). ``spread`` is the standard
    deviation of that log-odds over recompressed copies of one held-out file; it sets the interval.
    Probabilities stay within ``floor`` … ``1 - floor``, since the calibration set is too small to
    know more.

    With ``span_windows`` above 0, a stretch of that many adjacent windows can raise a file of at
    least six such spans alone, so that a short insert is not averaged away: see :meth:`pool`.
    """

    slope: float
    intercept: float
    spread: float
    points: OperatingPoints
    top_fraction: float = 1.0
    floor: float = 0.001
    span_windows: int = 0
    length_penalty: float = 0.0

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Calibration:
        """The inverse of ``dataclasses.asdict``."""
        return cls(**{**values, "points": OperatingPoints(**values["points"])})

    def pool(self, logits: Logits) -> float:
        """One logit for a file from those of its windows (windows,), in the order of time.

        The mean of the highest ``top_fraction``, or, where it is higher, the highest mean of
        ``span_windows`` adjacent windows less ``length_penalty`` times the logarithm of how many
        such spans the file holds: the largest of many means of genuine speech grows about so with
        their number (extreme values; Leadbetter, Lindgren and Rootzén 1983).
        """
        return self._pool(logits)[0]

    def probability(self, pooled: float) -> float:
        """Calibrated P(synthetic) of a pooled logit."""
        return self._squash(self.slope * pooled + self.intercept)

    def largest_gap(self, some: Logits, others: Logits) -> float:
        """The largest difference in score between two arrays of logits of one shape."""
        pairs = zip(some.ravel(), others.ravel(), strict=True)
        return max(abs(self.probability(float(a)) - self.probability(float(b))) for a, b in pairs)

    def interval(self, logits: Logits) -> tuple[float, float]:
        """About 90 %: the spread under recompression with that between the windows used."""
        pooled, used = self._pool(logits)
        odds = self.slope * pooled + self.intercept
        between = float(used.std()) * abs(self.slope)
        half = 1.645 * math.sqrt(self.spread**2 + between**2 / len(used))
        return self._squash(odds - half), self._squash(odds + half)

    def _pool(self, logits: Logits) -> tuple[float, npt.NDArray[np.float64]]:
        """The pooled logit and the window logits that it is the mean of."""
        values = logits.astype(np.float64)
        highest = np.sort(values)[-max(1, math.ceil(self.top_fraction * len(values))) :]
        pooled, span = float(highest.mean()), self.span_windows
        if not span or len(values) < LEAST_SPANS * span:
            return pooled, highest
        spans = np.lib.stride_tricks.sliding_window_view(values, span)
        means = spans.mean(axis=1)
        best = int(means.argmax())
        raised = float(means[best]) - self.length_penalty * math.log(len(values) / span)
        return (raised, spans[best]) if raised > pooled else (pooled, highest)

    def _squash(self, odds: float) -> float:
        probability = 1.0 / (1.0 + math.exp(-min(60.0, max(-60.0, odds))))
        return min(1.0 - self.floor, max(self.floor, probability))


@dataclass(frozen=True, kw_only=True)
class Applicability:
    """What an input must be for the bundle to be asked; outside, it is skipped with a reason."""

    min_side_pixels: int = 0
    min_seconds: float = 0.0

    def why_not(
        self,
        *,
        width: int | None = None,
        height: int | None = None,
        seconds: float | None = None,
    ) -> Code | None:
        """The reason code for which an input cannot be judged, or None when it can."""
        if width is not None and height is not None and min(width, height) < self.min_side_pixels:
            return Code.IMAGE_TOO_SMALL
        if seconds is not None and seconds < self.min_seconds:
            return Code.AUDIO_TOO_SHORT
        return None


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """One model version. ``files`` maps a file name to its ``sha256`` and ``precision``.

    For a ``face-finder`` a score is P(face), and all points are the least score of a face that is
    kept. ``frames_calibration`` reads, of the ``frame`` bundle, the pooled log-odds of a
    video's frames, and of the ``video`` bundle the sum of its own log-odds and theirs (see
    ``deepfake.engine.scores``).
    """

    name: str
    slot: str
    network: str
    network_options: Mapping[str, Any]
    preprocess: Preprocess
    calibration: Calibration
    frames_calibration: Calibration | None = None
    limits: Applicability
    files: Mapping[str, Mapping[str, str]]
    metrics: Mapping[str, Any]
    provenance: Mapping[str, Any]
    licence: str
    folder: Path = field(default=Path(), compare=False)
    _sha256: str = field(default="", init=False, repr=False, compare=False)

    @property
    def kind(self) -> Kind:
        """The kind of media that it judges."""
        if isinstance(self.preprocess, ClipPreprocess):
            return Kind.VIDEO
        return Kind.AUDIO if isinstance(self.preprocess, AudioPreprocess) else Kind.IMAGE

    @property
    def sha256(self) -> str:
        """Of everything but the card: all values of ``bundle.json`` as JSON with sorted keys and no
        spaces, among them the sha256 of every file. Of one that was not read: as it would be
        written.
        """
        return self._sha256 or _digest(json.loads(json.dumps(self._values())))

    @property
    def size_bytes(self) -> int:
        """Size of all files of the folder."""
        return sum(path.stat().st_size for path in self.folder.iterdir())

    @classmethod
    def read(cls, folder: Path) -> Bundle:
        """Read ``bundle.json`` without loading weights; raises ``ModelError``."""
        try:
            values = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
            if values["schema"] != SCHEMA:
                raise ModelError(
                    f"bundle {folder.name}: schema {values['schema']!r}",
                    hint=f"this version reads {SCHEMA}",
                )
            frames = values["frames_calibration"]
            if not all(isinstance(facts["sha256"], str) for facts in values["files"].values()):
                raise TypeError("a file without a sha256")
            bundle = cls(
                name=str(values["name"]),
                slot=values["slot"],
                network=values["network"],
                network_options=values["network_options"],
                preprocess=preprocess_from_dict(values["preprocess"]),
                calibration=Calibration.from_dict(values["calibration"]),
                frames_calibration=frames and Calibration.from_dict(frames),
                limits=Applicability(**values["limits"]),
                files=values["files"],
                metrics=values["metrics"],
                provenance=values["provenance"],
                licence=values["licence"],
                folder=folder,
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ModelError(
                f"bundle {folder.name}: cannot be read ({error})", hint=_RESTORE
            ) from error
        object.__setattr__(bundle, "_sha256", _digest(values))
        return bundle

    def write(self, folder: Path) -> None:
        """Write ``bundle.json`` into ``folder``; the other files must already be there."""
        text = json.dumps(self._values(), indent=2, ensure_ascii=False) + "\n"
        (folder / DESCRIPTION).write_text(text, encoding="utf-8")

    def verify(self) -> None:
        """Compare every file with its sha256; raises ``ModelError`` naming the first mismatch."""
        for name, facts in self.files.items():
            self.file_bytes(name, expected=facts["sha256"])

    def file_bytes(self, name: str, *, expected: str | None = None) -> bytes:
        """The verified content of one file, so that what was checked is what is loaded."""
        if name not in self.files or Path(name).name != name:
            raise ModelError(f"bundle {self.name}: has no file {name!r}")
        try:
            content = (self.folder / name).read_bytes()
        except OSError as error:
            raise ModelError(
                f"bundle {self.name}: file {name} cannot be read ({error.strerror})", hint=_RESTORE
            ) from error
        if hashlib.sha256(content).hexdigest() != (expected or self.files[name]["sha256"]):
            raise ModelError(
                f"bundle {self.name}: file {name} differs from its recorded sha256",
                hint=f"do not use it; {_RESTORE}",
            )
        return content

    def extra_files(self) -> list[str]:
        """Names in the folder that neither ``bundle.json`` nor a picture of the card accounts for.

        Nothing ever loads them.
        """
        known = {DESCRIPTION, CARD, *self.files}
        card = self.folder / CARD
        text = card.read_text(encoding="utf-8", errors="replace") if card.is_file() else ""
        pictures = {n for n in re.findall(r"\]\(([^()/]+)\)", text) if n.endswith(_PICTURES)}
        return sorted({path.name for path in self.folder.iterdir()} - known - pictures)

    def card(self) -> str:
        """The model card; raises ``ModelError`` when it cannot be read."""
        try:
            return (self.folder / CARD).read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise ModelError(f"bundle {self.name}: has no card", hint=_RESTORE) from error

    def golden(self) -> tuple[Batch, Logits]:
        """Synthetic inputs (windows, …) and the logits that torch gave for them."""
        with np.load(io.BytesIO(self.file_bytes("golden.npz")), allow_pickle=False) as arrays:
            return golden_batch(self.preprocess, arrays["input"]), arrays["logits"]

    def _values(self) -> dict[str, Any]:
        """What ``bundle.json`` holds."""
        values: dict[str, Any] = {"schema": SCHEMA, **asdict(self)}
        del values["folder"], values["_sha256"]
        return values | {"preprocess": preprocess_to_dict(self.preprocess)}


def golden_batch(preprocess: Preprocess, source: npt.NDArray[Any]) -> Batch:
    """The windows (windows, …) of a golden picture (uint8) or sound (int16)."""
    match preprocess:
        case AudioPreprocess():
            return preprocess(source.astype(np.float32) / np.float32(32768)).batch
        case FacePreprocess():
            side = preprocess.side_pixels
            return np.stack([source[:side, :side], source[-side:, -side:]])
        case ClipPreprocess():
            side, count = preprocess.side_pixels, preprocess.frames
            return preprocess([source[2 * i : 2 * i + side, :side] for i in range(count)])
        case _:
            return preprocess(source).batch


def scale_batch(batch: Batch, preprocess: Preprocess) -> Floats:
    """A batch in the range that the network sees, as a device brings it there."""
    if preprocess.scale is None:
        return np.asarray(batch, np.float32)
    return preprocess.scale(np.asarray(batch, np.uint8))


def _digest(values: Mapping[str, Any]) -> str:
    """Of values as JSON gives them."""
    text = json.dumps(values, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("ascii")).hexdigest()
