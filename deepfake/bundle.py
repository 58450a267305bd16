"""A bundle: one model version as a folder that can be read, verified and written.

::

    models/image-3/
    ├── bundle.json         what it is, how to feed it, how to read it, and a sha256 of every file
    ├── model.onnx          for OpenVINO and ONNX Runtime
    ├── model.safetensors   the same weights for torch
    ├── head.safetensors    only where that file is shared with another bundle: what differs from it
    ├── golden.npz          synthetic inputs and the logits that every backend must give for them
    ├── README.md           the model card
    └── bundle.intoto.dsse.json   who signed all of it (see deepfake.trust.signatures)

A slot may have two tiers: the quick one, ``image-3`` say, and beside it the full one,
``image-3-large``, whose slot is ``image-large``. The quick one says by its ``settled`` limits where
the full one need not be asked.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

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
FULL_TIERS = {
    "image": "image-large",
    "frame": "frame-large",
    "face": "face-large",
    "audio": "audio-large",
}
"""The slots that may have a second, full tier, and the slot that this one has."""
QUICK_TIERS = {full: quick for quick, full in FULL_TIERS.items()}
LEAST_SPANS = 6
"""A file of fewer spans than this is judged as a whole: a span is no short part of it."""
Logits = npt.NDArray[np.float32]

DESCRIPTION, CARD, SIGNATURE = "bundle.json", "README.md", "bundle.intoto.dsse.json"
GRAPH, WEIGHTS, HEAD = "model.onnx", "model.safetensors", "head.safetensors"
_PICTURES = (".png", ".jpg")
_POOLING = ("top_fraction", "span_windows", "length_penalty")
_RESTORE = "restore the folder from the release that it came with"


class Named(NamedTuple):
    """What the name of a bundle says: ``image-3-large`` is of slot ``image-large``, number 3."""

    slot: str
    number: int


def parse_name(name: str) -> Named | None:
    """The parts of ``<slot>-<integer>`` or ``<slot>-<integer>-large``; None for another text."""
    known = re.fullmatch(r"([a-z-]+)-([0-9]{1,9})(-large)?", name)
    if known is None or known[1] not in SLOTS:
        return None
    slot = known[1] + (known[3] or "")
    return Named(slot, int(known[2])) if slot in SLOTS or slot in QUICK_TIERS else None


@dataclass(frozen=True, kw_only=True)
class Settled:
    """Where a quick tier settles the matter: calibrated scores up to ``low`` and from ``high`` on.

    Of what lies between, the full tier is asked.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        if not 0 <= self.low <= self.high <= 1:
            raise ValueError(f"settled from {self.low} to {self.high}: not in order within 0…1")

    def holds(self, scores: Sequence[float]) -> bool:
        """Whether all of these, the score of a file and what it is when saved again, settle it."""
        return max(scores) <= self.low or min(scores) >= self.high


@dataclass(frozen=True, kw_only=True)
class QuickShare:
    """How the quick tier counts in the log-odds of a full one: its pooled logit times ``slope``.

    ``sha256`` is the ``logit_sha256`` of that quick tier; the logit of another one means nothing.
    """

    slope: float
    sha256: str


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

    A full tier may count the quick one in by ``quick``: its log-odds are then ``quick.slope`` times
    the pooled logit of the quick tier, plus ``slope`` times its own, plus ``intercept``; see
    :meth:`beside`.
    """

    slope: float
    intercept: float
    spread: float
    points: OperatingPoints
    top_fraction: float = 1.0
    floor: float = 0.001
    span_windows: int = 0
    length_penalty: float = 0.0
    quick: QuickShare | None = None

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Calibration:
        """The inverse of ``dataclasses.asdict``."""
        quick = values.get("quick")
        return cls(
            **{
                **values,
                "points": OperatingPoints(**values["points"]),
                "quick": quick and QuickShare(**quick),
            }
        )

    def beside(self, quick: Calibration, logits: Logits) -> Calibration:
        """This one for a file of which the quick tier, calibrated by ``quick``, gave window
        ``logits``: what they add to the log-odds and to their variance is taken in.
        """
        if self.quick is None:
            return self
        pooled, used = quick._pool(logits)
        slope = self.quick.slope
        between = slope * float(used.std()) / math.sqrt(len(used))
        return replace(
            self,
            intercept=self.intercept + slope * pooled,
            spread=math.hypot(self.spread, between),
            quick=None,
        )

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
    """One model version. ``files`` maps a file name to its ``sha256`` and ``precision``, and that
    of a graph whose weights lie in another file to the name of that, under ``weights``.

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
    settled: Settled | None = None
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

    def asks_for_more(self, scores: Sequence[float], *, effort: str) -> bool:
        """Whether the full tier beside this quick one is asked after these calibrated ``scores``:
        as the ``effort`` says, and with ``auto`` where they do not settle the matter. A quick tier
        without limits settles nothing.
        """
        if effort != "auto":
            return effort == "full"
        return self.settled is None or not self.settled.holds(scores)

    @property
    def logit_sha256(self) -> str:
        """Of what makes its pooled logit: network, crops and pooling, not what the logit means."""
        pooling = {key: getattr(self.calibration, key) for key in _POOLING}
        made = {"preprocess": preprocess_to_dict(self.preprocess), "pooling": pooling}
        values = {"graph": self.files[GRAPH]["sha256"], **made}
        return _digest(json.loads(json.dumps(values)))

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
            frames, settled = values["frames_calibration"], values.get("settled")
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
                settled=settled and Settled(**settled),
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

    def weights_of(self, graph: str) -> str | None:
        """The file that holds the weights of a graph (ONNX external data); None for itself."""
        return self.files.get(graph, {}).get("weights")

    def extra_files(self) -> list[str]:
        """Names in the folder that neither ``bundle.json``, a signature nor a picture of the card
        accounts for.

        Nothing ever loads them.
        """
        known = {DESCRIPTION, CARD, SIGNATURE, *self.files}
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
        source, logits = self._golden_arrays()
        return golden_batch(self.preprocess, source), logits

    def golden_source(self) -> npt.NDArray[Any]:
        """The golden picture (uint8) or sound (int16), which other bundles of its kind can be
        asked about as well.
        """
        return self._golden_arrays()[0]

    def _golden_arrays(self) -> tuple[npt.NDArray[Any], Logits]:
        with np.load(io.BytesIO(self.file_bytes("golden.npz")), allow_pickle=False) as arrays:
            return arrays["input"], arrays["logits"]

    def _values(self) -> dict[str, Any]:
        """What ``bundle.json`` holds."""
        values: dict[str, Any] = {"schema": SCHEMA, **asdict(self)}
        del values["folder"], values["_sha256"]
        for holder, key in (  # older releases wrote none, and the sha256 covers every key
            (values, "settled"),
            (values["calibration"], "quick"),
            (values["frames_calibration"] or {}, "quick"),
        ):
            if holder.get(key, "") is None:
                del holder[key]
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
