"""What sites and their server agree on, and what travels between them: numbers as safetensors,
never objects.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load, save

from deepfake.errors import DeepfakeError
from deepfake.version import VERSION

from ..privacy.descent import FULL_PACE, Start
from ..privacy.design import Scale
from .aggregation import AGGREGATIONS

Floats = npt.NDArray[np.float64]
STATISTICS, FIT, DONE = "statistics", "fit", "done"
MOST_LENGTH = 1e4
"""Of an update that is taken at all; those of heads on scaled rows are below a hundred."""


class RefusedUpdate(DeepfakeError):
    """What came is no update of this round."""


class Terms(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The recipe, which a site takes from its server and holds against its own network and release.

    ``features`` are those of the network, ``pace`` the step length, ``steps`` those of one round.
    """

    slot: str
    bundle_sha256: str
    features: int
    start: str
    rule: str
    rounds: int = 30
    steps: int = 5
    pace: float = FULL_PACE
    release: str = VERSION

    def check(self) -> None:
        """Raise ``RefusedUpdate`` for a recipe that cannot be followed."""
        if (
            self.rule not in AGGREGATIONS
            or not 1 <= self.rounds <= 1000
            or not 1 <= self.steps <= 1000
            or not 0 < self.pace <= 100
            or not 1 <= self.features <= 65536
            or self.start not in ("shipped", "fresh")
        ):
            raise RefusedUpdate(f"terms {self}: out of range")

    @property
    def started(self) -> bool:
        """Whether heads start from the shipped one."""
        return self.start == "shipped"

    def numbers(self, phase: str) -> int:
        """How many numbers an update of a phase has."""
        return 2 * (self.features + 1) if phase == STATISTICS else self.features + 2

    @property
    def most_bytes(self) -> int:
        """No honest body is longer."""
        return 4 * 4 * (self.features + 2) + 4096


@dataclass(frozen=True)
class Common:
    """What all sites share after a round: the scale of rows and the head of scaled rows."""

    scale: Scale
    head: Start


def encode(**vectors: Floats) -> bytes:
    """Vectors as safetensors, 32 bits a number."""
    return save({name: np.asarray(values, np.float32) for name, values in vectors.items()})


def decode(body: bytes, **lengths: int) -> dict[str, Floats]:
    """Vectors of these names and lengths; raises ``RefusedUpdate`` for anything else, and for
    numbers that are none.
    """
    try:
        found: dict[str, Any] = load(body)
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise RefusedUpdate(f"body: is no safetensors file ({type(error).__name__})") from error
    if found.keys() != lengths.keys():
        raise RefusedUpdate("body: has other vectors than those that were asked for")
    vectors = {}
    for name, values in found.items():
        if values.dtype != np.float32 or values.shape != (lengths[name],):
            raise RefusedUpdate(f"vector {name}: has not {lengths[name]} numbers of 32 bits")
        if not np.isfinite(values).all():
            raise RefusedUpdate(f"vector {name}: holds what is no number")
        vectors[name] = values.astype(np.float64)
    return vectors


def check_update(vector: Floats, *, phase: str) -> None:
    """Raise ``RefusedUpdate`` for an update that no honest site sends."""
    length = float(np.linalg.norm(vector))
    if phase == FIT and length > MOST_LENGTH:
        raise RefusedUpdate(f"update: is {length:.3g} long, more than {MOST_LENGTH:g}")
    if phase == STATISTICS:
        means, squares = np.split(vector, 2)
        if (squares < np.square(means) - 1e-3 * np.abs(squares) - 1e-3).any():
            raise RefusedUpdate("statistics: a mean square is below the square of the mean")


def pack_scale(scale: Scale) -> Floats:
    """Statistics as they travel: means and mean squares, which can be aggregated."""
    return np.concatenate([scale.centre, np.square(scale.centre) + np.square(scale.spread)])


def unpack_scale(vector: Floats, *, started: bool) -> Scale:
    """The inverse of :func:`pack_scale`."""
    centre, squares = np.split(vector, 2)
    return Scale(centre, np.sqrt((squares - np.square(centre)).clip(0)), started)


def pack_head(head: Start) -> Floats:
    """Weights and bias as one vector."""
    return np.append(head.weights, head.bias)


def unpack_head(vector: Floats) -> Start:
    """The inverse of :func:`pack_head`."""
    return Start(vector[:-1], float(vector[-1]))
