from __future__ import annotations

from typing import Any

import pytest

from deepfake.fusion import Policy, decide
from deepfake.reasons import Code
from deepfake.types import (
    Declares,
    Evidence,
    Kind,
    OperatingPoints,
    Reason,
    Status,
    Verdict,
    Weight,
)

POINTS = OperatingPoints(authentic=0.2, suspicious=0.6, synthetic=0.9)
POLICY = Policy()


def scored(source: str, score: float, **values: Any) -> Evidence:
    values = {"points": POINTS, "interval": (score, score), "claim": f"{source} says", **values}
    return Evidence(source=source, status=Status.OK, score=score, **values)


def told(
    source: str, weight: Weight, declares: str | None = "generated", **values: Any
) -> Evidence:
    """What a file says of itself."""
    return Evidence(
        source=source,
        status=Status.OK,
        claim=f"{source} tells.",
        weight=weight,
        declares=declares and Declares(declares),
        **values,
    )


def skipped(source: str, reason: str) -> Evidence:
    return Evidence(source=source, status=Status.SKIPPED, reason=reason, claim="not run")


@pytest.mark.parametrize(
    ("score", "verdict", "code"),
    [
        (0.95, Verdict.SYNTHETIC, "image_synthetic"),
        (0.90, Verdict.SYNTHETIC, "image_synthetic"),
        (0.70, Verdict.SUSPICIOUS, "image_suspicious"),
        (0.40, Verdict.INCONCLUSIVE, "between_limits"),
        (0.10, Verdict.AUTHENTIC, "image_authentic"),
    ],
)
def test_one_score_is_read_at_its_own_points(score: float, verdict: Verdict, code: str) -> None:
    decision = decide([scored("image", score)], kind=Kind.IMAGE, policy=POLICY)
    assert (decision.verdict, decision.probability) == (verdict, score)
    assert decision.reasons[0].code == code


def test_proof_decides_against_a_detector() -> None:
    proof = told("provenance", Weight.PROOF, score=0.999)
    decision = decide([scored("image", 0.05), proof], kind=Kind.IMAGE, policy=POLICY)
    assert decision.verdict is Verdict.SYNTHETIC
    assert decision.reasons[0].code == "provenance_conclusive"


@pytest.mark.parametrize("score", [0.05, 0.4, 0.7])
def test_a_watermark_that_anybody_can_plant_decides_nothing_alone(score: float) -> None:
    evidence = [scored("image", score), told("watermark", Weight.CLAIM)]
    decision = decide(evidence, kind=Kind.IMAGE, policy=POLICY)
    assert (decision.verdict, decision.probability) == (Verdict.SUSPICIOUS, score)
    assert "watermark_claim" in [reason.code for reason in decision.reasons]


@pytest.mark.parametrize(
    ("video", "face", "probability"),
    [(0.3, 0.55, 0.3), (0.3, 0.65, 0.65), (0.7, 0.65, 0.7), (0.1, 0.05, 0.1)],
)
def test_other_sources_count_once_they_are_suspicious(
    video: float, face: float, probability: float
) -> None:
    evidence = [scored("face", face), scored("video", video)]
    assert decide(evidence, kind=Kind.VIDEO, policy=POLICY).probability == probability
    alone = decide([scored("face", face)], kind=Kind.VIDEO, policy=POLICY)
    assert alone.probability == face


def test_nothing_applied_has_no_probability() -> None:
    evidence = [skipped("provenance", "no_manifest"), skipped("image", "image_too_small")]
    decision = decide(evidence, kind=Kind.IMAGE, policy=POLICY)
    assert (decision.verdict, decision.probability) == (Verdict.INCONCLUSIVE, None)
    assert decision.reasons[0].code == "image_too_small"
    nothing = decide([], kind=Kind.IMAGE, policy=POLICY)
    assert nothing.reasons[0].code == "nothing_applied"


def test_failed_detector_is_named_before_what_was_skipped() -> None:
    failed = Evidence(source="image", status=Status.FAILED, reason="backend", claim="broke")
    decision = decide([skipped("audio", "no_sound"), failed], kind=Kind.IMAGE, policy=POLICY)
    assert decision.reasons[0].code == "backend"


def test_unstable_score_is_inconclusive() -> None:
    decision = decide([scored("image", 0.5, interval=(0.1, 0.95))], kind=Kind.IMAGE, policy=POLICY)
    assert decision.verdict is Verdict.INCONCLUSIVE
    assert decision.reasons[0].code == "unstable"


@pytest.mark.parametrize(("score", "verdict"), [(0.95, Verdict.SUSPICIOUS), (0.1, "inconclusive")])
def test_caution_softens_both_firm_words(score: float, verdict: str) -> None:
    evidence = [scored("image", score, reason="graphic_not_photo")]
    decision = decide(evidence, kind=Kind.IMAGE, policy=POLICY)
    assert decision.verdict == verdict
    assert decision.reasons[0].code == "graphic_not_photo"


def test_a_video_is_as_suspicious_as_its_most_suspicious_part() -> None:
    evidence = [scored("video", 0.05), scored("audio", 0.95)]
    decision = decide(evidence, kind=Kind.VIDEO, policy=POLICY)
    assert (decision.verdict, decision.probability) == (Verdict.SYNTHETIC, 0.95)
    assert [reason.code for reason in decision.reasons] == ["audio_synthetic", "video_authentic"]


def test_a_video_is_not_cleared_by_its_sound_alone() -> None:
    evidence = [skipped("video", "image_too_small"), scored("audio", 0.05)]
    decision = decide(evidence, kind=Kind.VIDEO, policy=POLICY)
    assert decision.verdict is Verdict.INCONCLUSIVE
    assert decision.reasons[0].code == "mandatory_not_run"


@pytest.mark.parametrize(
    ("kind", "looked", "broke"), [(Kind.VIDEO, "video", "audio"), (Kind.IMAGE, "image", "face")]
)
def test_what_failed_on_a_file_bars_clearing_it(kind: Kind, looked: str, broke: str) -> None:
    """Whoever can make one detector fail must not gain by it."""
    failed = Evidence(source=broke, status=Status.FAILED, reason="decoder_failed", claim="broke")
    clean = decide([scored(looked, 0.05), failed], kind=kind, policy=POLICY)
    assert (clean.verdict, clean.probability) == (Verdict.INCONCLUSIVE, 0.05)
    assert clean.reasons[0] == Reason(code=Code.MANDATORY_NOT_RUN, text=f"not examined: {broke}")
    passed_over = decide([scored(looked, 0.05), skipped(broke, "none")], kind=kind, policy=POLICY)
    assert passed_over.verdict is Verdict.AUTHENTIC
    assert decide([scored(looked, 0.95), failed], kind=kind, policy=POLICY).verdict == "synthetic"


def test_a_track_that_was_left_out_bars_clearing_and_nothing_else() -> None:
    left = skipped("tracks", "other_tracks")
    clean = decide([scored("video", 0.05), left], kind=Kind.VIDEO, policy=POLICY)
    assert (clean.verdict, clean.probability) == (Verdict.INCONCLUSIVE, 0.05)
    assert clean.reasons[0].code == "other_tracks"
    loud = decide([scored("video", 0.95), left], kind=Kind.VIDEO, policy=POLICY)
    assert loud.verdict is Verdict.SYNTHETIC


def test_a_frame_that_stands_out_bars_clearing_and_nothing_else() -> None:
    words = [
        decide(
            [scored("video", score, reason="frame_stands_out")], kind=Kind.VIDEO, policy=POLICY
        ).verdict
        for score in (0.05, 0.95)
    ]
    assert words == [Verdict.INCONCLUSIVE, Verdict.SYNTHETIC]


def test_trusted_camera_against_detector_is_a_disagreement() -> None:
    camera = told("provenance", Weight.PROOF, "capture")
    decision = decide([camera, scored("image", 0.95)], kind=Kind.IMAGE, policy=POLICY)
    assert decision.verdict is Verdict.INCONCLUSIVE
    assert decision.reasons[0].code == "evidence_disagrees"
    assert decision.probability == 0.95


@pytest.mark.parametrize("score", [0.95, 0.7, 0.4, 0.05])
@pytest.mark.parametrize("source", ["metadata", "provenance"])
def test_an_unsigned_camera_claim_changes_nothing(source: str, score: float) -> None:
    alone = decide([scored("image", score)], kind=Kind.IMAGE, policy=POLICY)
    camera = told(source, Weight.CLAIM, "capture")
    trusting = Policy(trust_claims=True)
    for policy in (POLICY, trusting):
        assert decide([camera, scored("image", score)], kind=Kind.IMAGE, policy=policy) == alone


def test_a_hint_without_trace_is_a_disagreement() -> None:
    hint = told("metadata", Weight.HINT, None)
    decision = decide([hint, scored("image", 0.05)], kind=Kind.IMAGE, policy=POLICY)
    assert (decision.verdict, decision.probability) == (Verdict.INCONCLUSIVE, 0.05)
    assert [reason.code for reason in decision.reasons[:2]] == [
        "evidence_disagrees",
        "metadata_hint",
    ]
    both = decide([hint, scored("image", 0.4)], kind=Kind.IMAGE, policy=POLICY)
    assert (both.verdict, both.probability) == (Verdict.SUSPICIOUS, 0.4)


@pytest.mark.parametrize("declares", ["generated", "edited"])
@pytest.mark.parametrize(
    ("score", "verdict"),
    [(0.05, "suspicious"), (0.4, "suspicious"), (0.7, "suspicious"), (0.95, "synthetic")],
)
def test_an_unsigned_claim_is_suspicious_at_most(score: float, verdict: str, declares: str) -> None:
    evidence = [told("metadata", Weight.CLAIM, declares), scored("image", score)]
    decision = decide(evidence, kind=Kind.IMAGE, policy=POLICY)
    assert (decision.verdict, decision.probability) == (verdict, score)
    assert decision.interval == (score, score)
    reasons = {reason.code: reason.text for reason in decision.reasons}
    assert "Anyone can write this" in reasons["metadata_claim"]
    if score < 0.6:
        assert decision.reasons[0].code == "metadata_claim"


def test_a_claim_alone_is_suspicious_without_a_number() -> None:
    evidence = [told("metadata", Weight.CLAIM), skipped("image", "image_too_small")]
    decision = decide(evidence, kind=Kind.IMAGE, policy=POLICY)
    assert (decision.verdict, decision.probability) == (Verdict.SUSPICIOUS, None)
    assert [reason.code for reason in decision.reasons] == ["metadata_claim", "image_too_small"]


def test_a_trusted_camera_outweighs_an_unsigned_claim() -> None:
    evidence = [
        told("provenance", Weight.PROOF, "capture"),
        told("metadata", Weight.CLAIM),
        scored("image", 0.05),
    ]
    decision = decide(evidence, kind=Kind.IMAGE, policy=POLICY)
    assert (decision.verdict, decision.probability) == (Verdict.AUTHENTIC, 0.05)
    assert decision.reasons[-1].code == "metadata_claim"


def test_a_policy_may_trust_claims_but_not_hints() -> None:
    policy = Policy(trust_claims=True)
    image = scored("image", 0.05)
    firm = decide([told("metadata", Weight.CLAIM), image], kind=Kind.IMAGE, policy=policy)
    assert (firm.verdict, firm.probability) == (Verdict.SYNTHETIC, 0.999)
    assert firm.reasons[0].code == "metadata_claim_trusted"
    hint = decide([told("metadata", Weight.HINT), image], kind=Kind.IMAGE, policy=policy)
    assert hint.verdict is Verdict.INCONCLUSIVE


def test_prior_moves_the_probability_by_bayes_rule() -> None:
    even = decide([scored("image", 0.95)], kind=Kind.IMAGE, policy=POLICY)
    rare = decide([scored("image", 0.95)], kind=Kind.IMAGE, policy=POLICY, prior=0.01)
    assert even.probability == 0.95
    assert rare.probability == pytest.approx(0.95 * 0.01 / (0.95 * 0.01 + 0.05 * 0.99))
    assert rare.verdict is Verdict.SUSPICIOUS
    assert rare.reasons[0].code == "low_prior"


SYNTHETIC_RULED = told("known", Weight.RULING, reason=Code.KNOWN_SYNTHETIC)
GENUINE_RULED = told("known", Weight.RULING, None, reason=Code.KNOWN_GENUINE)
DISPUTED = told("known", Weight.RULING, None, reason=Code.KNOWN_DISPUTED)


@pytest.mark.parametrize(
    ("score", "verdict"),
    [
        (0.95, Verdict.SYNTHETIC),
        (0.70, Verdict.SUSPICIOUS),
        (0.40, Verdict.SUSPICIOUS),
        (0.10, Verdict.SUSPICIOUS),
    ],
)
@pytest.mark.parametrize("policy", [POLICY, Policy(trust_claims=True)])
def test_a_copy_of_what_was_ruled_synthetic_is_suspicious_at_most(
    score: float, verdict: Verdict, policy: Policy
) -> None:
    evidence = [scored("image", score), SYNTHETIC_RULED]
    decision = decide(evidence, kind=Kind.IMAGE, policy=policy)
    assert (decision.verdict, decision.probability) == (verdict, score)
    place = 0 if score < 0.6 else -1
    assert decision.reasons[place].code is Code.KNOWN_SYNTHETIC


def test_a_ruling_alone_has_no_probability() -> None:
    decision = decide([SYNTHETIC_RULED], kind=Kind.IMAGE, policy=POLICY)
    assert (decision.verdict, decision.probability) == (Verdict.SUSPICIOUS, None)


@pytest.mark.parametrize("score", [0.95, 0.70, 0.40, 0.10])
@pytest.mark.parametrize("ruled", [GENUINE_RULED, DISPUTED])
def test_other_rulings_are_told_and_move_nothing(score: float, ruled: Evidence) -> None:
    alone = decide([scored("image", score)], kind=Kind.IMAGE, policy=POLICY)
    decision = decide([scored("image", score), ruled], kind=Kind.IMAGE, policy=POLICY)
    assert (decision.verdict, decision.probability) == (alone.verdict, alone.probability)
    assert decision.reasons == (*alone.reasons, Reason(code=str(ruled.reason), text=ruled.claim))


def test_a_trusted_camera_outweighs_a_ruling() -> None:
    camera = told("provenance", Weight.PROOF, "capture")
    evidence = [scored("image", 0.1), camera, SYNTHETIC_RULED]
    assert decide(evidence, kind=Kind.IMAGE, policy=POLICY).verdict is Verdict.AUTHENTIC
