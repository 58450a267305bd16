"""From evidence to a verdict: a pure function with its rules in one place.

1. Proof (what a signer on the trust list declares) decides alone.
2. Every score is read at its own bundle's operating points. A file with several parts (picture and
   sound of a video) is as suspicious as its most suspicious part, because either part can be fake
   alone; the parts' scores are not multiplied, because they are not independent. The probability is
   that of the mandatory source, or of a suspicious other one where that is higher.
3. ``inconclusive`` when nothing could be scored, when a score lies between the limits or its
   interval spans both of them, when strong evidence disagrees, and when a mandatory source did not
   run, any source failed, the model of any source is suspended, a track was left out, a single
   frame stands out, or a clean score bears traces of an attack: these clear nothing and accuse
   nobody.
4. A claim that a generative model made the file (parameters, labels, a manifest of an unknown
   signer, an open watermark) is true more often than not, but anyone can write it, into a genuine
   file too. It makes a file ``suspicious`` that the scores do not, and never more; a hint (a mere
   name) does so only where no detector clears the file. Neither moves the probability: how often
   such claims are false is unknown, so the number stays what the detectors measured, or None.
   ``trust_claims`` lets claims (not hints) decide alone, for pipelines that know who writes into
   their files.
5. Nothing unsigned lowers anything: only the camera manifest of a trusted signer weighs against a
   detector, and that too ends in ``inconclusive``, never in ``authentic``. Against such a manifest
   unsigned claims of synthesis do not count.
6. A ruling is what somebody said of a file of which this one looks like a copy. That it was ruled
   synthetic makes a file ``suspicious`` that the scores do not, and never more, whatever is
   trusted: whoever ruled may have been wrong, and a copy may be one of which a part was changed
   back. The reason says who ruled and when. That it was ruled genuine is told, and lowers nothing:
   the picture of which a face was replaced is near to its original too. Neither moves the
   probability, and files that were ruled on differently move nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from .reasons import Code, read_code
from .types import Declares, Evidence, Kind, OperatingPoints, Reason, Status, Verdict, Weight

TRUSTED_CLAIM = 0.999
"""Probability under ``trust_claims``: that of proof, by decision and not by measurement."""
_BARS_CLEARING = (
    Code.MODEL_SUSPENDED,
    Code.SCORE_DOES_NOT_LAST,
    Code.FRAME_STANDS_OUT,
    Code.OTHER_TRACKS,
)
"""Reasons of evidence under which nothing is cleared, the one that is told first."""
_BY_CONCERN = (Verdict.AUTHENTIC, Verdict.INCONCLUSIVE, Verdict.SUSPICIOUS, Verdict.SYNTHETIC)


@dataclass(frozen=True, kw_only=True)
class Policy:
    """``mandatory`` names the sources that must have run before a file of a kind is cleared.

    ``hint_points`` are the limits for scores that come without their own. ``cautions`` are the
    reason codes under which a score is shown but not trusted with a firm word. With
    ``trust_claims`` what unsigned claims say is believed.
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
            Code.GRAPHIC_NOT_PHOTO,
            Code.CLIPPED,
            Code.TOO_NOISY,
            Code.MUSIC,
            Code.SINGING,
            Code.NOT_CALIBRATED_FOR_VIDEO,
            Code.TOO_FEW_FRAMES,
        }
    )
    trust_claims: bool = False


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
    rulings = [item for item in ran if item.weight is Weight.RULING]
    return _heed_rulings(
        rulings, ran, _decide(evidence, ran, kind=kind, policy=policy, prior=prior)
    )


def _decide(
    evidence: Sequence[Evidence],
    ran: Sequence[Evidence],
    *,
    kind: Kind,
    policy: Policy,
    prior: float,
) -> Decision:
    """The decision without what was ruled on other files."""
    proofs = [item for item in ran if item.weight is Weight.PROOF and item.declares_synthesis]
    if proofs:
        return _decide_by_proof(proofs)
    claims = [item for item in ran if item.weight is Weight.CLAIM and item.declares_synthesis]
    if claims and policy.trust_claims:
        return _decide_by_claims(claims)
    claims += [item for item in ran if item.weight is Weight.HINT]
    scored = [item for item in ran if item.weight is Weight.SCORE and item.score is not None]
    if not scored:
        reasons = _why_nothing(evidence, policy.mandatory[kind])
        return _heed(claims, ran, Decision(None, None, Verdict.INCONCLUSIVE, reasons))
    words = [_read(item, policy) for item in scored]
    verdict, reasons = _most_concerning(words, ran)
    missing = policy.mandatory[kind] - {item.source for item in ran}
    missing |= {item.source for item in evidence if item.status is Status.FAILED}
    barring = {str(item.reason): item.claim for item in reversed(evidence)}
    code = next((code for code in _BARS_CLEARING if code in barring), None)
    if verdict is Verdict.AUTHENTIC and code:
        reason = Reason(code=code, text=barring[code])
        verdict, reasons = Verdict.INCONCLUSIVE, (reason, *reasons)
    if verdict is Verdict.AUTHENTIC and missing:
        text = f"not examined: {', '.join(sorted(missing))}"
        reason = Reason(code=Code.MANDATORY_NOT_RUN, text=text)
        verdict, reasons = Verdict.INCONCLUSIVE, (reason, *reasons)
    leading = _lead(scored, policy, mandatory=policy.mandatory[kind])
    probability = _shift(leading.score or 0.0, prior)
    if verdict is Verdict.SYNTHETIC and probability < 0.5:
        text = "at the stated share of synthetic files, a genuine file is still more likely"
        verdict, reasons = Verdict.SUSPICIOUS, (Reason(code=Code.LOW_PRIOR, text=text), *reasons)
    low, high = leading.interval or (leading.score or 0.0, leading.score or 0.0)
    decision = Decision(probability, (_shift(low, prior), _shift(high, prior)), verdict, reasons)
    cleared = any(word is Verdict.AUTHENTIC for word, _ in words)
    return _heed(claims, ran, decision, cleared=cleared)


def _decide_by_proof(proofs: Sequence[Evidence]) -> Decision:
    probability = max(item.score or 0.0 for item in proofs)
    reasons = tuple(
        Reason(code=read_code(f"{item.source}_conclusive"), text=item.claim)
        for item in sorted(proofs, key=lambda item: -(item.score or 0.0))
    )
    return Decision(probability, (probability, probability), Verdict.SYNTHETIC, reasons)


def _decide_by_claims(claims: Sequence[Evidence]) -> Decision:
    reasons = tuple(
        Reason(
            code=read_code(f"{item.source}_claim_trusted"),
            text=f"{item.claim} Anyone can write this; it is believed, because claims are trusted.",
        )
        for item in claims
    )
    return Decision(TRUSTED_CLAIM, (TRUSTED_CLAIM, TRUSTED_CLAIM), Verdict.SYNTHETIC, reasons)


def _heed(
    claims: Sequence[Evidence],
    ran: Sequence[Evidence],
    decision: Decision,
    *,
    cleared: bool = False,
) -> Decision:
    """The decision with what unsigned claims and hints add to it: a word at most, never a number.

    ``cleared`` says whether a detector saw no trace.
    """
    if not claims:
        return decision
    verdict, reasons = decision.verdict, decision.reasons
    said = tuple(_word_claim(item) for item in claims)
    if verdict in (Verdict.SYNTHETIC, Verdict.SUSPICIOUS) or _is_captured(ran):
        reasons = (*reasons, *said)
    elif cleared and all(item.weight is Weight.HINT for item in claims):
        text = "the file names a generator, but no detector sees a trace of one"
        verdict = Verdict.INCONCLUSIVE
        reasons = (Reason(code=Code.EVIDENCE_DISAGREES, text=text), *said, *reasons)
    else:
        verdict, reasons = Verdict.SUSPICIOUS, (*said, *reasons)
    return replace(decision, verdict=verdict, reasons=reasons)


def _heed_rulings(
    rulings: Sequence[Evidence], ran: Sequence[Evidence], decision: Decision
) -> Decision:
    """The decision with what was ruled on a file of which this one looks like a copy."""
    if not rulings:
        return decision
    verdict = decision.verdict
    settled = verdict in (Verdict.SYNTHETIC, Verdict.SUSPICIOUS) or _is_captured(ran)
    moving = [item for item in rulings if item.declares_synthesis and not settled]
    said = tuple(
        Reason(code=read_code(str(item.reason)), text=item.claim)
        for item in rulings
        if item.reason is not None
    )
    if moving:
        return replace(decision, verdict=Verdict.SUSPICIOUS, reasons=(*said, *decision.reasons))
    return replace(decision, reasons=(*decision.reasons, *said))


def _word_claim(item: Evidence) -> Reason:
    text = f"{item.claim} Anyone can write this, so it decides nothing alone."
    return Reason(code=read_code(f"{item.source}_{item.weight.value}"), text=text)


def _is_captured(ran: Sequence[Evidence]) -> bool:
    """Whether a signer on the trust list declares a camera original."""
    return any(item.weight is Weight.PROOF and item.declares is Declares.CAPTURE for item in ran)


def _why_nothing(evidence: Sequence[Evidence], mandatory: frozenset[str]) -> tuple[Reason, ...]:
    """Failures before skips; where a mandatory source did not run, only why that did not."""
    order = {Status.FAILED: 0, Status.SKIPPED: 1}
    idle = [item for item in evidence if item.status in order and item.reason]
    idle = [item for item in idle if item.source in mandatory] or idle
    idle.sort(key=lambda item: order[item.status])
    return tuple(Reason(code=read_code(str(item.reason)), text=item.claim) for item in idle) or (
        Reason(code=Code.NOTHING_APPLIED, text="no detector applies to this file"),
    )


def _read(item: Evidence, policy: Policy) -> tuple[Verdict, Reason]:
    """The word that one score earns, and why."""
    points, score = item.points or policy.hint_points, item.score or 0.0
    low, high = item.interval or (score, score)
    if low < points.authentic and high >= points.synthetic:
        text = f"{item.source}: the score is unstable, from {low:.2f} to {high:.2f}"
        return Verdict.INCONCLUSIVE, Reason(code=Code.UNSTABLE, text=text)
    if item.reason in policy.cautions and (score >= points.synthetic or score < points.suspicious):
        firm = score >= points.synthetic
        return (
            Verdict.SUSPICIOUS if firm else Verdict.INCONCLUSIVE,
            Reason(code=read_code(str(item.reason)), text=item.claim),
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
        return Verdict.INCONCLUSIVE, Reason(code=Code.BETWEEN_LIMITS, text=text)
    return word, Reason(code=read_code(f"{item.source}_{word.value}"), text=item.claim)


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


def _most_concerning(
    words: Sequence[tuple[Verdict, Reason]], ran: Sequence[Evidence]
) -> tuple[Verdict, tuple[Reason, ...]]:
    """The most concerning word, its reasons first; a trusted camera manifest against a detector
    settles nothing.
    """
    verdict = max((word for word, _ in words), key=_BY_CONCERN.index)
    reasons = [reason for word, reason in words if word is verdict]
    reasons += [reason for word, reason in words if word is not verdict]
    if _is_captured(ran) and verdict in (Verdict.SYNTHETIC, Verdict.SUSPICIOUS):
        text = "a trusted camera manifest and a detector disagree"
        reasons.insert(0, Reason(code=Code.EVIDENCE_DISAGREES, text=text))
        verdict = Verdict.INCONCLUSIVE
    return verdict, tuple(reasons)


def _shift(score: float, prior: float) -> float:
    """P(synthetic) at another prior than the 0.5 of the calibration (Bayes' rule)."""
    if prior == 0.5:
        return score
    synthetic, genuine = score * prior, (1 - score) * (1 - prior)
    return synthetic / (synthetic + genuine)
