"""From evidence to a verdict: a pure function with its rules in one place.

1. Conclusive evidence (a valid manifest that declares AI generation, generator parameters, a
   decoded watermark) decides alone.
2. Every other score is read at its own bundle's operating points. A file with several parts
   (picture and sound of a video) is as suspicious as its most suspicious part, because either part
   can be fake alone; the parts' scores are not multiplied, because they are not independent. The
   probability is that of the mandatory source, or of a suspicious other one where that is higher.
3. ``inconclusive`` when nothing could be scored, when a score lies between the limits or its
   interval spans both of them, when strong evidence disagrees, and when a mandatory source did not
   run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from .types import Evidence, Kind, OperatingPoints, Reason, Status, Verdict

_BY_CONCERN = (Verdict.AUTHENTIC, Verdict.INCONCLUSIVE, Verdict.SUSPICIOUS, Verdict.SYNTHETIC)


@dataclass(frozen=True, kw_only=True)
class Policy:
    """``mandatory`` names the sources that must have run before a file of a kind is cleared.

    ``hint_points`` are the limits for scores that come without their own (metadata hints).
    ``cautions`` are the reason codes under which a score is shown but not trusted with a firm word.
    """

    mandatory: dict[Kind, frozenset[str]] = field(
        default_factory=lambda: {
            Kind.IMAGE: frozenset({"image"}),
            Kind.AUDIO: frozenset({"audio"}),
            Kind.VIDEO: frozenset({"video"}),
        }
    )
    hint_points: OperatingPoints = field(
        default_factory=lambda: OperatingPoints(authentic=0.1, suspicious=0.5, synthetic=1.0)
    )
    cautions: frozenset[str] = frozenset(
        {
            "graphic_not_photo",
            "clipped",
            "too_noisy",
            "music",
            "not_calibrated_for_video",
            "too_few_frames",
        }
    )


@dataclass(frozen=True)
class Decision:
    probability: float | None
    interval: tuple[float, float] | None
    verdict: Verdict
    reasons: tuple[Reason, ...]


def decide(
    evidence: Sequence[Evidence], *, kind: Kind, policy: Policy, prior: float = 0.5
) -> Decision:
    """Fuse the evidence about one file. ``prior`` is the share of synthetic files expected."""
    ran = [item for item in evidence if item.status is Status.OK]
    proofs = [item for item in ran if item.conclusive and item.score is not None]
    if proofs:
        return _decide_by_proof(proofs)
    scored = [item for item in ran if item.score is not None]
    if not scored:
        return Decision(
            None, None, Verdict.INCONCLUSIVE, _why_nothing(evidence, policy.mandatory[kind])
        )
    words = [_read(item, policy) for item in scored]
    verdict = max((word for word, _ in words), key=_BY_CONCERN.index)
    reasons = [reason for word, reason in words if word is verdict]
    reasons += [reason for word, reason in words if word is not verdict]
    leading = _lead(scored, policy, mandatory=policy.mandatory[kind])
    verdict, reasons = _weigh_disagreement(ran, words, verdict, reasons)
    missing = policy.mandatory[kind] - {item.source for item in ran}
    if verdict is Verdict.AUTHENTIC and missing:
        verdict = Verdict.INCONCLUSIVE
        names = ", ".join(sorted(missing))
        reasons.insert(0, Reason(code="mandatory_not_run", text=f"not examined: {names}"))
    probability = _shift(leading.score or 0.0, prior)
    if verdict is Verdict.SYNTHETIC and probability < 0.5:
        verdict = Verdict.SUSPICIOUS
        text = "at the stated share of synthetic files, a genuine file is still more likely"
        reasons.insert(0, Reason(code="low_prior", text=text))
    low, high = leading.interval or (leading.score or 0.0, leading.score or 0.0)
    return Decision(probability, (_shift(low, prior), _shift(high, prior)), verdict, tuple(reasons))


def _decide_by_proof(proofs: Sequence[Evidence]) -> Decision:
    probability = max(item.score or 0.0 for item in proofs)
    reasons = tuple(
        Reason(code=f"{item.source}_conclusive", text=item.claim)
        for item in sorted(proofs, key=lambda item: -(item.score or 0.0))
    )
    return Decision(probability, (probability, probability), Verdict.SYNTHETIC, reasons)


def _why_nothing(evidence: Sequence[Evidence], mandatory: frozenset[str]) -> tuple[Reason, ...]:
    """Failures before skips; where a mandatory source did not run, only why that did not."""
    order = {Status.FAILED: 0, Status.SKIPPED: 1}
    idle = [item for item in evidence if item.status in order and item.reason]
    idle = [item for item in idle if item.source in mandatory] or idle
    idle.sort(key=lambda item: order[item.status])
    return tuple(Reason(code=str(item.reason), text=item.claim) for item in idle) or (
        Reason(code="nothing_applied", text="no detector applies to this file"),
    )


def _read(item: Evidence, policy: Policy) -> tuple[Verdict, Reason]:
    """The word that one score earns, and why."""
    points, score = item.points or policy.hint_points, item.score or 0.0
    low, high = item.interval or (score, score)
    if low < points.authentic and high >= points.synthetic:
        text = f"{item.source}: the score is unstable, from {low:.2f} to {high:.2f}"
        return Verdict.INCONCLUSIVE, Reason(code="unstable", text=text)
    if item.reason in policy.cautions and (score >= points.synthetic or score < points.suspicious):
        firm = score >= points.synthetic
        return (
            Verdict.SUSPICIOUS if firm else Verdict.INCONCLUSIVE,
            Reason(code=str(item.reason), text=item.claim),
        )
    if score >= points.synthetic:
        word = Verdict.SYNTHETIC
    elif score >= points.suspicious:
        word = Verdict.SUSPICIOUS
    elif score < points.authentic:
        word = Verdict.AUTHENTIC
    else:
        text = (
            f"{item.source}: the score {score:.2f} lies where genuine and synthetic files overlap"
        )
        return Verdict.INCONCLUSIVE, Reason(code="between_limits", text=text)
    return word, Reason(code=f"{item.source}_{word.value}", text=item.claim)


def _lead(scored: Sequence[Evidence], policy: Policy, *, mandatory: frozenset[str]) -> Evidence:
    """Whose score is the file's: the highest of the mandatory sources and of those that are
    suspicious. Below their limits the others say little, and the highest of several would mostly be
    the noise of the weakest. Of equal scores the one with the wider interval leads.
    """

    def tells(item: Evidence) -> bool:
        points = item.points or policy.hint_points
        return item.source in mandatory or (item.score or 0.0) >= points.suspicious

    def rank(item: Evidence) -> tuple[float, float, float]:
        score = item.score or 0.0
        low, high = item.interval or (score, score)
        return score, -low, high

    telling = [item for item in scored if tells(item)]
    return max(telling or scored, key=rank)


def _weigh_disagreement(
    ran: Sequence[Evidence],
    words: Sequence[tuple[Verdict, Reason]],
    verdict: Verdict,
    reasons: list[Reason],
) -> tuple[Verdict, list[Reason]]:
    """A trusted camera manifest against a detector, or a hint against one, settles nothing."""
    captured = any(
        item.details.get("declares") == "capture" and item.details.get("state") == "trusted"
        for item in ran
    )
    hints = any(item.score is not None and item.points is None for item in ran)
    cleared = any(word is Verdict.AUTHENTIC for word, _ in words)
    if captured and verdict in (Verdict.SYNTHETIC, Verdict.SUSPICIOUS):
        text = "a trusted camera manifest and a detector disagree"
    elif hints and cleared and verdict is Verdict.SUSPICIOUS:
        text = "the file names a generator, but no detector sees a trace of one"
    else:
        return verdict, reasons
    return Verdict.INCONCLUSIVE, [Reason(code="evidence_disagrees", text=text), *reasons]


def _shift(score: float, prior: float) -> float:
    """P(synthetic) at another prior than the 0.5 of the calibration (Bayes' rule)."""
    if prior == 0.5:
        return score
    synthetic, genuine = score * prior, (1 - score) * (1 - prior)
    return synthetic / (synthetic + genuine)
