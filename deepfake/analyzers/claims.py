"""How the neural analyzers put a score into words."""

from __future__ import annotations

from ..reasons import Code
from ..types import Evidence, FaceFinding, OperatingPoints, Status

MISSING = "missing_tier"
"""In ``details``: the full tier that would have been asked and is not installed."""
ONLY_MUSIC = "No speech was found in the sound, only music, and only speech can be judged."


def word_score(
    score: float,
    points: OperatingPoints,
    *,
    where: str,
    caution: Code | None,
    traces: str = "of a generative model",
) -> str:
    """One sentence for a score at its operating points, and one for a caution."""
    if score >= points.synthetic:
        found = "Clear traces"
    elif score >= points.suspicious:
        found = "Possible traces"
    elif score < points.authentic:
        found = "No traces"
    else:
        found = "Unclear traces"
    sentence = f"{found} {traces} in {where} (score {score:.2f})."
    return f"{sentence} {caution.meaning}" if caution else sentence


def word_full_tier(quick_score: float, *, asked: bool, counted: bool) -> str:
    """Why the full tier judged: because it was ``asked`` for, or because this score of the quick
    one settled nothing; and whether that is ``counted`` in.
    """
    why = "as was asked" if asked else "because the quick one did not settle it"
    if asked and counted:
        why += ", with the quick one counted in"
    return f"The full tier judged, {why} (score {quick_score:.2f})."


def skip(
    source: str, reason: Code, *, claim: str | None = None, faces: tuple[FaceFinding, ...] = ()
) -> Evidence:
    """Evidence that could not be had, and why: without a ``claim`` in the words of the code."""
    return Evidence(
        source=source,
        status=Status.SKIPPED,
        reason=reason,
        claim=claim or reason.meaning,
        faces=faces,
    )
