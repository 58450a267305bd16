"""What bundles say of their golden inputs, which never change: the self-test of one, and the drift
between two.

Every bundle carries a made-up picture or sound and the logits that its training recorded for it.
The same logits must come out wherever it runs, so that a wrong weight, a broken runtime or a
swapped graph is noticed. Whoever makes and signs a bundle records what he likes, though: how a
bundle differs from the one before it is seen on the golden inputs of both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..bundle import Bundle, golden_batch
from ..errors import ModelError
from ..preprocess import FinderPreprocess
from ..reasons import Code
from ..types import OperatingPoints
from .engine import Engine

EQUAL = 1e-3
"""Most that a score may differ between runtimes in fp32."""
EQUAL_LOWERED = 0.05
"""Likewise in another precision."""


@dataclass(frozen=True)
class GoldenScore:
    """What a bundle says of the golden input of the bundle ``media``."""

    media: str
    score: float
    word: str


def check_golden(engine: Engine, bundle: Bundle) -> float:
    """The largest gap between the scores of its golden windows and the recorded ones.

    Raises ``ModelError`` (``golden_failed``) when they differ, and where it cannot be loaded.
    """
    batch, logits = bundle.golden()
    seen = engine.logits(bundle, batch)
    if seen.shape != logits.shape:
        raise _differs(bundle, f"its logits have the shape {seen.shape}, not {logits.shape}")
    gap = bundle.calibration.largest_gap(seen, logits)
    most = EQUAL if engine.backend(bundle).precision == "fp32" else EQUAL_LOWERED
    if not gap <= most:
        raise _differs(bundle, f"a score differs by {gap:.4f}")
    return gap


def check_activation(engine: Engine, bundle: Bundle) -> float:
    """:func:`check_golden` for one that is to answer; what cannot be loaded is told alike."""
    engine.check([bundle.slot])
    return check_golden(engine, bundle)


def score_golden(engine: Engine, bundle: Bundle, media: Sequence[Bundle]) -> list[GoldenScore]:
    """What a bundle says of the golden inputs of some, those apart that it cannot read."""
    found = []
    for other in media:
        if type(other.preprocess) is not type(bundle.preprocess):
            continue
        try:
            batch = golden_batch(bundle.preprocess, other.golden_source())
        except ValueError:  # too small for its windows
            continue
        if isinstance(bundle.preprocess, FinderPreprocess):
            places = engine.find_faces(bundle, batch, zoom=1.0)
            best = max((float(one.scores.max()) for one in places if len(one.scores)), default=0.0)
            found.append(GoldenScore(other.name, best, "a face" if best else "no face"))
            continue
        scored = engine.score(bundle, batch)
        points = bundle.calibration.points
        found.append(GoldenScore(other.name, scored.score, word_of(scored.score, points)))
    return found


def word_of(score: float, points: OperatingPoints) -> str:
    """The word that a score earns at these operating points by itself."""
    if score >= points.synthetic:
        return "synthetic"
    if score >= points.suspicious:
        return "suspicious"
    return "authentic" if score < points.authentic else "unclear"


def _differs(bundle: Bundle, why: str) -> ModelError:
    return ModelError(
        f"bundle {bundle.name}: does not give the recorded golden scores here ({why})",
        code=Code.GOLDEN_FAILED,
        hint="do not use it; try another --backend, and get it from its publisher again",
    )
