from __future__ import annotations

import sys
import wave
from pathlib import Path

import numpy as np
import pytest

from deepfake.analyzers.metadata import Metadata
from deepfake.analyzers.provenance import Provenance
from deepfake.analyzers.watermark import Watermark
from deepfake.media.opening import open_media
from deepfake.settings import DetectOptions
from deepfake.types import Evidence, Kind, Weight
from examples import samples


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("samples")
    assert samples.write_samples(folder) == []
    return folder


def look(path: Path, anchors: str | None = None) -> dict[str, Evidence]:
    """What speaks of synthesis, by source."""
    with open_media(path) as media:
        return {
            evidence.source: evidence
            for analyzer in (Provenance(anchors), Metadata(), Watermark())
            if media.info.kind in analyzer.kinds
            for evidence in analyzer.analyze(media, None, DetectOptions())
            if evidence.declares_synthesis
        }


@pytest.mark.parametrize(
    ("name", "weights"),
    [
        ("camera.jpg", {}),
        ("camera.png", {}),
        ("sdxl.png", {"watermark": "claim"}),
        ("parameters.png", {"metadata": "claim"}),
        ("signed.jpg", {"provenance": "claim"}),
        ("tampered.jpg", {}),
        ("speech.wav", {}),
        ("clip.mp4", {}),
    ],
)
def test_each_sample_carries_its_one_kind_of_evidence(
    folder: Path, name: str, weights: dict[str, str]
) -> None:
    found = look(folder / name)
    assert {source: evidence.weight.value for source, evidence in found.items()} == weights


def test_the_authority_makes_the_signed_sample_trusted(folder: Path) -> None:
    anchors = (folder / "trust.pem").read_text()
    signed = look(folder / "signed.jpg", anchors)["provenance"]
    assert (signed.details["state"], signed.weight) == ("trusted", Weight.PROOF)


def test_the_camera_sample_is_recognised(folder: Path) -> None:
    with open_media(folder / "camera.jpg") as media:
        camera = Metadata().analyze(media, None, DetectOptions())[1]
    assert camera.details["camera"] == "Sample Optics Sample Camera 1"


def test_the_tampered_sample_shows_other_pixels(folder: Path) -> None:
    with open_media(folder / "signed.jpg") as one, open_media(folder / "tampered.jpg") as other:
        assert np.abs(one.image().astype(int) - other.image()).max() > 30


def test_sound_and_video_play(folder: Path) -> None:
    with wave.open(str(folder / "speech.wav")) as file:
        assert file.getnframes() == 4 * 16_000
    with open_media(folder / "clip.mp4") as media:
        assert (media.info.kind, media.info.has_audio) == (Kind.VIDEO, True)
        assert len(list(media.frames(most=4))) == 4
        assert np.abs(media.audio(sample_rate=16_000, max_seconds=9)).max() > 0.1


def test_all_but_signatures_are_the_same_in_every_run() -> None:
    assert samples.png(samples.landscape()) == samples.png(samples.landscape())
    assert samples.wav(samples.speech()) == samples.wav(samples.speech())
    assert samples.mp4(seconds=0.5) == samples.mp4(seconds=0.5)


def test_without_cryptography_the_rest_is_made_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "cryptography", None)
    assert samples.main([str(tmp_path)]) == 0
    assert "signed.jpg, tampered.jpg and trust.pem: left out" in capsys.readouterr().out
    assert {path.name for path in tmp_path.iterdir()} == {
        "camera.jpg",
        "camera.png",
        "sdxl.png",
        "parameters.png",
        "speech.wav",
        "clip.mp4",
    }


def test_wrong_arguments() -> None:
    assert samples.main([]) == 2
