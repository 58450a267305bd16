"""What is planted in a file is read from it, and the pixels stay."""

from __future__ import annotations

import io

import numpy as np
import pytest
from deepfake_training.attacks import framing
from deepfake_training.attacks.laundering import encode_picture
from PIL import Image

from deepfake.analyzers.watermark import PAYLOADS
from deepfake.detector import Detector
from deepfake.types import Declares, Report, Weight
from examples.samples import embed_watermark, landscape
from tests.media_files import scene, speech, wav_bytes

PIXELS = scene(96, 64)


def found(report: Report, source: str) -> list[tuple[Weight, Declares | None]]:
    return [(one.weight, one.declares) for one in report.evidence if one.source == source]


def decoded(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


def test_parameters_and_labels_are_claims(known_detector: Detector) -> None:
    for plant in (framing.plant_parameters, framing.plant_label):
        content = plant(PIXELS)
        assert np.array_equal(decoded(content), PIXELS)
        report = known_detector.detect(content)
        assert (Weight.CLAIM, Declares.GENERATED) in found(report, "metadata")


def test_a_camera_is_claimed(known_detector: Detector) -> None:
    report = known_detector.detect(framing.plant_camera(PIXELS))
    assert (Weight.CLAIM, Declares.CAPTURE) in found(report, "metadata")


@pytest.mark.parametrize("source", [framing.GENERATED, framing.CAPTURED])
def test_manifests_of_nobody_are_valid_and_not_trusted(
    known_detector: Detector, source: str
) -> None:
    picture = framing.plant_manifest(encode_picture(PIXELS), mime="image/png", source=source)
    sound = framing.plant_manifest(wav_bytes(speech(1.0)), mime="audio/wav", source=source)
    wanted = Declares.GENERATED if source == framing.GENERATED else Declares.CAPTURE
    for content in (picture, sound):
        (evidence,) = [
            one for one in known_detector.detect(content).evidence if one.source == "provenance"
        ]
        assert evidence.details["state"] == "valid"
        assert evidence.weight is not Weight.PROOF
        assert evidence.declares is wanted
    assert np.array_equal(decoded(picture), PIXELS)


def test_a_planted_watermark_is_that_of_the_generator(known_detector: Detector) -> None:
    pixels = landscape(seed=8, width=320, height=256)
    marked = framing.plant_watermark(pixels)
    sdxl = next(one for one in PAYLOADS if one.generator == "SDXL")
    assert np.mean(marked != embed_watermark(pixels, sdxl.bits)) < 0.01
    report = known_detector.detect(encode_picture(marked))
    before = known_detector.detect(encode_picture(pixels))
    assert (before.verdict, report.verdict) == ("inconclusive", "suspicious")
    assert report.reasons[0].code == "watermark_claim"


def test_the_software_of_a_sound_is_named(known_detector: Detector) -> None:
    content = framing.plant_software(wav_bytes(speech(1.0)))
    report = known_detector.detect(content)
    assert (Weight.HINT, None) in found(report, "metadata") or any(
        one.declares_synthesis for one in report.evidence if one.source == "metadata"
    )
    assert "ElevenLabs" in str(report.to_dict())
