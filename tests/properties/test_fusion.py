from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from deepfake.fusion import Decision, Policy, decide
from deepfake.types import Declares, Evidence, Kind, OperatingPoints, Status, Verdict, Weight

POLICY = Policy()
ROUNDING = 1e-12
SOURCES = ("image", "face", "audio", "video", "lips", "metadata")
CONCERN = [Verdict.AUTHENTIC, Verdict.INCONCLUSIVE, Verdict.SUSPICIOUS, Verdict.SYNTHETIC]

probabilities = st.floats(0.0, 1.0) | st.sampled_from([0.0, 0.001, 0.1, 0.5, 0.999, 1.0])
priors = st.sampled_from([0.0001, 0.01, 0.5, 0.9999]) | st.floats(0.0001, 0.9999)
kinds = st.sampled_from(Kind)
points = st.tuples(*[st.floats(0.01, 0.99)] * 3).map(
    lambda three: OperatingPoints(**dict(zip(NAMES, sorted(three), strict=True)))
)
NAMES = ("authentic", "suspicious", "synthetic")
reasons = st.none() | st.sampled_from(sorted(POLICY.cautions)) | st.just("low_light")


@st.composite
def scored(draw: st.DrawFn) -> Evidence:
    """What a detector says of a file, its interval around its score."""
    low, score, high = sorted(draw(st.tuples(*[probabilities] * 3)))
    return Evidence(
        source=draw(st.sampled_from(SOURCES)),
        status=Status.OK,
        claim="a detector says so",
        reason=draw(reasons),
        score=score,
        interval=draw(st.sampled_from([None, (low, high)])),
        points=draw(points),
    )


@st.composite
def idle(draw: st.DrawFn) -> Evidence:
    """What ran and has no score, was skipped, or failed."""
    status = draw(st.sampled_from(Status))
    capture = (Weight.PROOF, Declares.CAPTURE)
    weight, declares = draw(st.sampled_from([(Weight.SCORE, None), capture]))
    return Evidence(
        source=draw(st.sampled_from(SOURCES)),
        status=status,
        claim="no score",
        reason=None if status is Status.OK else draw(st.sampled_from(["no_face", "corrupt"])),
        weight=weight,
        declares=declares,
    )


files = st.lists(scored() | idle(), max_size=6, unique_by=lambda item: item.source)


def proof(score: float) -> Evidence:
    return Evidence(
        source="provenance",
        status=Status.OK,
        claim="a signer on the trust list says so",
        score=score,
        weight=Weight.PROOF,
        declares=Declares.GENERATED,
    )


def scores_of(evidence: list[Evidence]) -> list[Evidence]:
    return [item for item in evidence if item.score is not None]


@given(files, kinds, priors)
def test_probability_lies_in_its_interval(
    evidence: list[Evidence], kind: Kind, prior: float
) -> None:
    decision = decide(evidence, kind=kind, policy=POLICY, prior=prior)
    assert (decision.probability is None) == (decision.interval is None)
    assert (decision.probability is None) == (not scores_of(evidence))
    assert decision.reasons
    if decision.probability is not None and decision.interval is not None:
        low, high = decision.interval
        assert low >= 0
        assert low - ROUNDING <= decision.probability <= high + ROUNDING
        assert high <= 1


@given(files, kinds, priors)
def test_the_verdict_keeps_to_the_policy(
    evidence: list[Evidence], kind: Kind, prior: float
) -> None:
    decision = decide(evidence, kind=kind, policy=POLICY, prior=prior)
    limits = [(item.score, item.points) for item in evidence if item.score is not None]
    match decision.verdict:
        case Verdict.SYNTHETIC:
            assert decision.probability is not None
            assert decision.probability >= 0.5
            assert any(score >= its.synthetic for score, its in limits if its)
        case Verdict.SUSPICIOUS:
            assert any(score >= its.suspicious for score, its in limits if its)
        case Verdict.AUTHENTIC:
            assert all_ran(evidence, kind)
            assert all(score < its.authentic for score, its in limits if its)
        case Verdict.INCONCLUSIVE:
            cleared = all(is_cleared(item) for item in scores_of(evidence))
            assert not (cleared and all_ran(evidence, kind) and scores_of(evidence))


def is_cleared(item: Evidence) -> bool:
    """Whether a score lies below its limit, without a caution or an interval across all limits."""
    assert item.points is not None
    assert item.score is not None
    high = item.interval[1] if item.interval else item.score
    low_score = item.score < item.points.authentic
    return low_score and high < item.points.synthetic and item.reason not in POLICY.cautions


def all_ran(evidence: list[Evidence], kind: Kind) -> bool:
    return POLICY.mandatory[kind] <= {i.source for i in evidence if i.status is Status.OK}


def without_order(decision: Decision) -> tuple[Any, ...]:
    said = sorted((reason.code, reason.text) for reason in decision.reasons)
    return decision.verdict, decision.probability, decision.interval, said


@given(st.data(), files, kinds, priors)
def test_the_order_of_evidence_does_not_matter(
    data: st.DataObject, evidence: list[Evidence], kind: Kind, prior: float
) -> None:
    shuffled = data.draw(st.permutations(evidence))
    first = decide(evidence, kind=kind, policy=POLICY, prior=prior)
    second = decide(shuffled, kind=kind, policy=POLICY, prior=prior)
    assert without_order(first) == without_order(second)


@given(files, st.lists(scored(), min_size=2, max_size=2), kinds)
def test_more_evidence_never_clears_a_file(
    evidence: list[Evidence], two: list[Evidence], kind: Kind
) -> None:
    """Where the mandatory source has a score already, another one only raises the concern."""
    (needed,) = POLICY.mandatory[kind]
    mandatory, further = replace(two[0], source=needed), replace(two[1], source="further")
    evidence = [mandatory, *(item for item in evidence if item.source != needed)]
    before = decide(evidence, kind=kind, policy=POLICY)
    after = decide([*evidence, further], kind=kind, policy=POLICY)
    lowest = min(CONCERN.index(before.verdict), CONCERN.index(Verdict.INCONCLUSIVE))
    assert CONCERN.index(after.verdict) >= lowest
    assert after.probability is not None
    assert before.probability is not None
    assert after.probability >= before.probability - ROUNDING


@given(files, kinds, priors, st.floats(0.9, 0.999))
def test_proof_decides_whatever_else_is_there(
    evidence: list[Evidence], kind: Kind, prior: float, score: float
) -> None:
    decision = decide([*evidence, proof(score)], kind=kind, policy=POLICY, prior=prior)
    assert (decision.verdict, decision.probability) == (Verdict.SYNTHETIC, score)
    assert decision.reasons[0].code == "provenance_conclusive"


@given(scored(), priors, priors)
def test_a_higher_prior_means_a_higher_probability(
    item: Evidence, one: float, other: float
) -> None:
    item = replace(item, source="image")
    found = [
        decide([item], kind=Kind.IMAGE, policy=POLICY, prior=prior).probability
        for prior in sorted((one, other))
    ]
    assert found[0] is not None
    assert found[1] is not None
    assert found[0] <= found[1] + ROUNDING
