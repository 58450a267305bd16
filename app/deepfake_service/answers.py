"""How much of a report a key sees: less tells less to whoever searches for what passes.

``full``: all of it. ``rounded``: the verdict with scores to one digit, without intervals, heat
maps, timelines, places, fingerprint, times of the examination and sentences that hold a score.
``verdict``: the verdict and the codes of its reasons.
"""

from __future__ import annotations

from dataclasses import replace

from deepfake.reasons import find_code
from deepfake.types import Evidence, Reason, Report, Weight

from .store.keys import Policy

DIGITS = 1


def redact(report: Report, policy: Policy) -> Report:
    """The report as a key with this policy may see it."""
    if policy is Policy.FULL:
        return report
    bare = replace(
        report,
        probability=None,
        interval=None,
        reasons=tuple(Reason(code=it.code, text=_meaning(it.code)) for it in report.reasons),
        evidence=(),
        seconds_by_step={},
        fingerprint=None,
    )
    if policy is Policy.VERDICT:
        return replace(bare, warnings=())
    return replace(
        bare,
        probability=_round(report.probability),
        evidence=tuple(map(_round_evidence, report.evidence)),
    )


def _round_evidence(evidence: Evidence) -> Evidence:
    """What is left of an evidence; the sentence of one with a score says only what it is."""
    scored = evidence.weight is Weight.SCORE
    return Evidence(
        source=evidence.source,
        status=evidence.status,
        claim=_word(evidence) if scored else evidence.claim,
        reason=evidence.reason,
        score=_round(evidence.score),
        weight=evidence.weight,
        declares=evidence.declares,
        bundle=evidence.bundle,
    )


def _word(evidence: Evidence) -> str:
    if evidence.reason is not None:
        return _meaning(evidence.reason)
    if evidence.score is None:
        return f"The {evidence.source} evidence has no score."
    return f"The score of the {evidence.source} evidence is about {_round(evidence.score)}."


def _meaning(code: str) -> str:
    known = find_code(code)
    return code if known is None else known.meaning


def _round(score: float | None) -> float | None:
    return None if score is None else round(score, DIGITS)
