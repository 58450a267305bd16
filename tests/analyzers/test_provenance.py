from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from deepfake.analyzers.provenance import (
    TRUST_LIST_DATE,
    Provenance,
    declaration,
    judge,
    read_trust_anchors,
)
from deepfake.errors import SettingsError
from deepfake.media.opening import open_media
from deepfake.settings import DetectOptions
from deepfake.types import Evidence, Kind, Status, Weight
from examples import samples
from tests import evidence_files as files

Sign = Callable[..., bytes]


@pytest.fixture(scope="module")
def signer() -> samples.Signer:
    return samples.make_signer()


@pytest.fixture(scope="module")
def sign(signer: samples.Signer) -> Sign:
    def signed(*steps: dict[str, Any], parent: bytes | None = None) -> bytes:
        return samples.sign(files.image("JPEG"), samples.actions(*steps), signer, parent=parent)

    return signed


def find(data: bytes, anchors: str | None = None) -> Evidence:
    with open_media(data) as media:
        (evidence,) = Provenance(anchors).analyze(media, None, DetectOptions())
    return evidence


def edited(kind: str, action: str = "c2pa.edited") -> dict[str, Any]:
    return samples.created(kind) | {"action": action}


def test_covers_every_kind() -> None:
    assert Provenance().kinds == set(Kind)


def test_absent_means_nothing() -> None:
    evidence = find(files.image("JPEG"))
    assert (evidence.status, evidence.reason) == (Status.SKIPPED, "no_manifest")
    assert (evidence.score, evidence.weight) == (None, Weight.SCORE)
    assert "says nothing" in evidence.claim
    assert judge({}).reason == "no_manifest"


def test_a_valid_declaration_by_an_unknown_signer_is_a_claim(sign: Sign) -> None:
    evidence = find(sign(samples.created("trainedAlgorithmicMedia", agent="Model X")))
    assert (evidence.score, evidence.weight) == (None, Weight.CLAIM)
    assert evidence.details["state"] == "valid"
    assert (evidence.declares, evidence.details["generator"]) == ("generated", "Model X")
    assert "made by a generative model with Model X" in evidence.claim
    assert "valid C2PA manifest of an unknown signer (Sample signer" in evidence.claim


def test_trusted_ai_declaration_names_the_trusted_signer(
    sign: Sign, signer: samples.Signer
) -> None:
    evidence = find(sign(samples.created("trainedAlgorithmicMedia")), signer.root)
    assert (evidence.details["state"], evidence.weight) == ("trusted", Weight.PROOF)
    assert evidence.score == 0.999
    assert "valid C2PA manifest of a trusted signer (Sample signer" in evidence.claim


@pytest.mark.parametrize(
    "steps",
    [
        [samples.created("compositeWithTrainedAlgorithmicMedia")],
        [samples.created("digitalCapture"), edited("compositeWithTrainedAlgorithmicMedia")],
        [samples.created("digitalCapture"), edited("trainedAlgorithmicMedia")],
    ],
)
def test_edited_by_ai_is_told_from_made_by_ai(
    sign: Sign, signer: samples.Signer, steps: list[dict[str, Any]]
) -> None:
    evidence = find(sign(*steps), signer.root)
    assert (evidence.declares, evidence.weight) == ("edited", Weight.PROOF)
    assert "edited by, or composed with" in evidence.claim


def test_capture_is_weak_when_valid_and_strong_when_trusted(
    sign: Sign, signer: samples.Signer
) -> None:
    for kind in ("digitalCapture", "computationalCapture"):
        data = sign(samples.created(kind, agent="Camera Y"))
        for anchors, strength, weight in (
            (None, "weak", Weight.CLAIM),
            (signer.root, "strong", Weight.PROOF),
        ):
            evidence = find(data, anchors)
            assert (evidence.score, evidence.weight) == (None, weight)
            assert evidence.declares == "capture"
            assert evidence.details["strength"] == strength
            assert f"{strength} evidence of a camera original" in evidence.claim


@pytest.mark.parametrize(
    ("action", "weight"),
    [
        ("c2pa.published", Weight.PROOF),
        ("c2pa.converted", Weight.PROOF),
        ("c2pa.resized", Weight.PROOF),
        ("c2pa.cropped", Weight.CLAIM),
        ("c2pa.drawing", Weight.CLAIM),
        ("c2pa.unknown", Weight.CLAIM),
        ("org.example.filled", Weight.CLAIM),
    ],
)
def test_a_capture_that_was_changed_is_no_original(
    sign: Sign, signer: samples.Signer, action: str, weight: Weight
) -> None:
    evidence = find(sign(samples.created("digitalCapture"), {"action": action}), signer.root)
    assert (evidence.declares, evidence.weight) == ("capture", weight)
    assert ("may have been changed since" in evidence.claim) == (weight is Weight.CLAIM)


@pytest.mark.parametrize("step", [{"action": "c2pa.edited"}, edited("digitalCapture")])
def test_a_captured_parent_makes_no_original(
    sign: Sign, signer: samples.Signer, step: dict[str, Any]
) -> None:
    evidence = find(sign(step, parent=sign(samples.created("digitalCapture"))), signer.root)
    assert (evidence.declares, evidence.weight) == ("capture", Weight.CLAIM)
    assert (evidence.details["state"], evidence.details["strength"]) == ("trusted", "weak")


def test_a_capture_with_something_placed_in_it_is_no_original(signer: samples.Signer) -> None:
    placed = samples.sign(files.image("JPEG"), samples.actions({"action": "c2pa.created"}), signer)
    steps = samples.actions(samples.created("digitalCapture"))
    whole = samples.sign(files.image("JPEG"), steps, signer, component=placed)
    evidence = find(whole, signer.root)
    assert (evidence.declares, evidence.weight) == ("capture", Weight.CLAIM)


@pytest.mark.parametrize("kind", ["algorithmicMedia", "digitalCreation", "humanEdits"])
def test_other_source_types_declare_neither(sign: Sign, kind: str) -> None:
    evidence = find(sign(samples.created(kind)))
    assert (evidence.status, evidence.score, evidence.weight) == (Status.OK, None, Weight.SCORE)
    assert evidence.declares is None


def test_tampered_proves_nothing(sign: Sign, signer: samples.Signer) -> None:
    signed = sign(samples.created("trainedAlgorithmicMedia"))
    evidence = find(samples.transplant(signed, files.image("JPEG", quality=30)), signer.root)
    assert (evidence.details["state"], evidence.declares) == ("tampered", None)
    assert evidence.details["unverified"] == "generated"
    assert (evidence.score, evidence.weight) == (None, Weight.SCORE)
    assert "an invalid C2PA manifest" in evidence.claim
    assert "neither proves nor disproves" in evidence.claim


def test_a_link_to_a_manifest_counts_for_nothing(signer: samples.Signer) -> None:
    linked = samples.sign(
        files.image("JPEG"), samples.actions(), signer, remote="http://127.0.0.1:9/m.c2pa"
    )
    evidence = find(linked, signer.root)
    assert evidence.details["state"] == "present"
    assert evidence.details["remote"] == "http://127.0.0.1:9/m.c2pa"
    assert (evidence.score, evidence.weight) == (None, Weight.SCORE)


def test_a_generated_parent_counts_as_own_making(sign: Sign, signer: samples.Signer) -> None:
    parent = sign(samples.created("trainedAlgorithmicMedia", agent="Model X"))
    child = sign({"action": "c2pa.color_adjustments"}, parent=parent)
    for anchors, weight in ((None, Weight.CLAIM), (signer.root, Weight.PROOF)):
        evidence = find(child, anchors)
        assert (evidence.declares, evidence.weight) == ("generated", weight)


@pytest.mark.parametrize(
    ("kind", "word"), [("trainedAlgorithmicMedia", "generated"), ("digitalCapture", "capture")]
)
def test_a_trusted_program_does_not_vouch_for_an_unknown_parent(
    sign: Sign, kind: str, word: str
) -> None:
    parent = sign(samples.created(kind))
    editor = samples.make_signer()
    steps = samples.actions({"action": "c2pa.color_adjustments"})
    child = samples.sign(parent, steps, editor, parent=parent)
    evidence = find(child, editor.root)
    assert evidence.details["state"] == "trusted"
    assert (evidence.declares, evidence.weight) == (word, Weight.CLAIM)
    assert (evidence.score, "does not vouch" in evidence.claim) == (None, True)


@pytest.mark.parametrize(
    ("kind", "word"), [("trainedAlgorithmicMedia", "generated"), ("digitalCapture", "capture")]
)
def test_an_unknown_signer_vouches_for_nobody(sign: Sign, kind: str, word: str) -> None:
    unknown, program = samples.make_signer(), samples.make_signer()
    other, empty = files.image("JPEG", quality=30), samples.actions({"action": "c2pa.created"})
    parent = sign(samples.created(kind))
    # Recorded as trusted, because its signer built with an authority of his own.
    own = samples.sign(parent, samples.actions(samples.created(kind)), unknown)
    voucher = samples.sign(other, empty, unknown, component=own, anchors=unknown.root)
    steps = samples.actions({"action": "c2pa.edited"})
    child = samples.sign(other, steps, program, parent=own, component=voucher, anchors=program.root)
    evidence = find(child, program.root)
    assert evidence.details["state"] == "trusted"
    assert (evidence.declares, evidence.weight) == (word, Weight.CLAIM)


@pytest.mark.parametrize("anchored", [True, False])
def test_a_trusted_signer_vouches_for_one_whom_he_knows(anchored: bool) -> None:
    program = samples.make_signer()
    anchors = program.root if anchored else None
    made = samples.actions(samples.created("trainedAlgorithmicMedia"))
    first = samples.sign(files.image("JPEG"), made, program)
    steps = samples.actions({"action": "c2pa.edited"})
    for _ in range(2):
        first = samples.sign(files.image("JPEG"), steps, program, parent=first, anchors=anchors)
    evidence = find(first, program.root)
    assert (evidence.declares, evidence.weight) == ("generated", Weight.PROOF)


def test_an_edit_by_a_trusted_program_is_proof_whatever_its_parent_is(sign: Sign) -> None:
    parent = sign(samples.created("trainedAlgorithmicMedia"))
    editor = samples.make_signer()
    steps = samples.actions(edited("trainedAlgorithmicMedia"))
    evidence = find(samples.sign(parent, steps, editor, parent=parent), editor.root)
    assert (evidence.declares, evidence.weight) == ("edited", Weight.PROOF)


def test_metadata_copied_into_a_trusted_manifest_stay_a_claim() -> None:
    data = {"Iptc4xmpExt:DigitalSourceType": samples.SOURCE_TYPES + "trainedAlgorithmicMedia"}
    found = {"state": "trusted", "manifest": {"assertions": [{"label": "stds.iptc", "data": data}]}}
    assert judge(found).weight is Weight.CLAIM


def test_a_generated_component_counts_as_an_edit() -> None:
    made = {
        "assertions": [
            {
                "label": "c2pa.actions.v2",
                "data": {"actions": [samples.created("trainedAlgorithmicMedia")]},
            }
        ]
    }
    whole = {"ingredients": [{"relationship": "componentOf", "active_manifest": "a"}]}
    assert declaration(whole, {"a": made}) == ("edited", "trainedAlgorithmicMedia", False, False)
    vouched = declaration(whole, {"a": made}, trusted={"a"})
    assert vouched == ("edited", "trainedAlgorithmicMedia", True, False)
    used = {"ingredients": [{"relationship": "inputTo", "active_manifest": "a"}]}
    assert declaration(used, {"a": made}) is None


def test_a_tampered_ingredient_counts_for_nothing() -> None:
    data = {"actions": [samples.created("trainedAlgorithmicMedia")]}
    made = {"assertions": [{"label": "c2pa.actions", "data": data}]}
    failure = [{"code": "assertion.dataHash.mismatch"}]
    ingredient = {"relationship": "parentOf", "active_manifest": "a"}
    found = declaration({"ingredients": [ingredient]}, {"a": made})
    assert found is not None
    assert found.word == "generated"
    ingredient["validation_results"] = {"activeManifest": {"failure": failure}}
    assert declaration({"ingredients": [ingredient]}, {"a": made}) is None


def test_a_captured_component_does_not_make_a_camera_original() -> None:
    data = {"actions": [samples.created("digitalCapture")]}
    photo = {"assertions": [{"label": "c2pa.actions", "data": data}]}
    whole = {"ingredients": [{"relationship": "componentOf", "active_manifest": "a"}]}
    assert declaration(whole, {"a": photo}) is None


def test_circular_and_tangled_ancestors_end() -> None:
    labels = [f"m{i}" for i in range(32)]
    links = [
        {"relationship": role, "active_manifest": label}
        for label in labels
        for role in ("parentOf", "componentOf")
    ]
    ancestors = {label: {"ingredients": links} for label in labels}
    assert declaration({"ingredients": links}, ancestors) is None


def test_permission_for_training_is_no_sign_of_ai() -> None:
    entries = {"c2pa.ai_generative_training": {"use": "notAllowed"}}
    found = {
        "state": "trusted",
        "manifest": {
            "assertions": [{"label": "c2pa.training-mining", "data": {"entries": entries}}],
            "claim_generator": "Adobe Firefly is not what made this",
        },
    }
    evidence = judge(found)
    assert (evidence.score, evidence.weight) == (None, Weight.SCORE)


@pytest.mark.parametrize(
    "broken", [None, 7, "x", [], {"assertions": {"a": 1}}, {"assertions": [3]}]
)
def test_odd_manifests_are_survived(broken: Any) -> None:
    evidence = judge({"state": "valid", "manifest": broken, "ancestors": broken})
    assert evidence.declares is None


def test_names_from_the_manifest_are_cleaned(sign: Sign) -> None:
    agent = "Evil\u202e\x1b[2J\nModel" + "x" * 500
    evidence = find(sign(samples.created("trainedAlgorithmicMedia", agent=agent)))
    assert "\u202e" not in evidence.claim
    assert "\x1b" not in evidence.claim
    assert "\n" not in evidence.claim
    assert len(evidence.details["generator"]) <= 60


# Trust lists


def test_trust_anchors_come_from_a_pem_file(tmp_path: Path, signer: samples.Signer) -> None:
    path = tmp_path / "trust.pem"
    path.write_text(signer.root)
    assert read_trust_anchors(path) == signer.root


def test_the_list_of_c2pa_is_shipped_with_its_date() -> None:
    text = read_trust_anchors(None)
    authorities = x509.load_pem_x509_certificates(text.encode())
    assert len(authorities) >= 30
    listed = date.fromisoformat(TRUST_LIST_DATE)
    for authority in authorities:
        assert (
            authority.not_valid_before_utc.date() <= listed <= authority.not_valid_after_utc.date()
        )
        assert authority.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_the_shipped_list_makes_nobody_else_trusted(sign: Sign) -> None:
    data = sign(samples.created("trainedAlgorithmicMedia"))
    assert find(data, read_trust_anchors(None)).details["state"] == "valid"


@pytest.mark.parametrize("content", [b"", b"text", b"\xff\xfe\x00"])
def test_a_wrong_trust_list_is_an_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "trust.pem"
    path.write_bytes(content)
    with pytest.raises(SettingsError, match="trust anchors"):
        read_trust_anchors(path)


def test_a_missing_trust_list_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="No such file"):
        read_trust_anchors(tmp_path / "none.pem")
    with pytest.raises(SettingsError):
        read_trust_anchors(tmp_path)
