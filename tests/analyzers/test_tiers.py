"""Two tiers of the image slot: which of them speaks, what it says, and what the report tells."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from deepfake.bundle import Bundle
from deepfake.commands.cli import main
from deepfake.detector import Detector
from deepfake.errors import ModelError
from deepfake.settings import DetectOptions, Settings
from deepfake.trust.registry import activate
from deepfake.types import Evidence, Report
from tests.bundles import add_full_tier
from tests.media_files import image_bytes, scene
from tests.scans import read_lines, run_scan

Open = Callable[[], Detector]


@pytest.fixture
def models(known_models: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(known_models, tmp_path / "models"))


@pytest.fixture
def opened(models: Path) -> Iterator[Open]:
    """Opens detectors of ``models``, as it then is, and closes them."""
    with ExitStack() as stack:
        yield lambda: stack.enter_context(Detector(Settings(models_folder=models, threads=1)))


def grey(value: float) -> np.ndarray:
    """A picture with a little noise of which the known quick tier has the logit 4 ``value``."""
    level = 127.5 * (value + 1)
    noise = np.random.default_rng(0).normal(0, 4, (120, 160, 3))
    noise -= noise.mean()
    return (level + noise).round().clip(0, 255).astype(np.uint8)


def examine(detector: Detector, value: float, effort: str = "auto") -> Evidence:
    report = detector.detect(grey(value), DetectOptions(effort=effort))
    return of_image(report)


def of_image(report: Report) -> Evidence:
    (found,) = [one for one in report.evidence if one.source == "image"]
    return found


def score_of(odds: float) -> float:
    return float(1 / (1 + np.exp(-odds)))


UNCLEAR, CLEAR = 0.1, 0.8


def test_auto_asks_the_full_tier_only_where_the_quick_one_is_unsure(
    models: Path, opened: Open
) -> None:
    add_full_tier(models)
    detector = opened()
    clear = examine(detector, CLEAR)
    assert clear.bundle == "image-1"
    assert clear.details["tier"] == "quick"
    assert "tier" not in clear.claim
    assert "image-1-large" not in detector.engine._queues, "nothing was loaded in vain"
    unclear = examine(detector, UNCLEAR)
    assert unclear.bundle == "image-1-large"
    assert unclear.score == pytest.approx(score_of(8 * UNCLEAR), abs=0.02)
    assert unclear.runtime is not None
    assert unclear.details["tier"] == "full"
    assert unclear.details["quick_bundle"] == "image-1"
    assert unclear.details["quick_score"] == pytest.approx(score_of(4 * UNCLEAR), abs=0.02)
    assert unclear.details["windows"] == 1
    assert "because the quick one did not settle it (score 0.6" in unclear.claim
    assert detector.versions["image-large"] == "image-1-large"


def test_effort_forces_one_tier(models: Path, opened: Open) -> None:
    add_full_tier(models)
    detector = opened()
    assert examine(detector, UNCLEAR, "quick").bundle == "image-1"
    forced = examine(detector, CLEAR, "full")
    assert forced.bundle == "image-1-large"
    assert "The full tier judged alone, as was asked." in forced.claim


def test_the_quick_logit_counts_in_a_fused_score(models: Path, opened: Open) -> None:
    add_full_tier(models, share=0.5, slope=0.25)
    detector = opened()
    for effort in ("auto", "full"):
        found = examine(detector, UNCLEAR, effort)
        fused = 0.5 * 4 * UNCLEAR + 0.25 * 8 * UNCLEAR
        assert found.score == pytest.approx(score_of(fused), abs=0.01)
        assert found.bundle == "image-1-large"
        assert found.interval is not None
        low, high = found.interval
        again = found.details["recompressed_score"]
        assert low <= min(found.score or 0, again) <= max(found.score or 0, again) <= high
        assert again == pytest.approx(found.score, abs=0.05)


def test_a_quick_tier_without_limits_settles_nothing(models: Path, opened: Open) -> None:
    add_full_tier(models, settled=None)
    assert examine(opened(), CLEAR).bundle == "image-1-large"


def test_a_score_that_does_not_hold_is_not_settled(
    models: Path, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_full_tier(models)
    detector = opened()
    monkeypatch.setattr(
        "deepfake.analyzers.image.recompress",
        lambda pixels, box: np.zeros((box.height, box.width, 3), np.uint8),
    )
    assert examine(detector, CLEAR).bundle == "image-1-large"
    plain = detector.detect(grey(CLEAR), DetectOptions(stability=False))
    assert of_image(plain).bundle == "image-1"


def test_a_picture_too_small_for_the_full_tier_is_judged_by_the_quick_one(
    models: Path, opened: Open
) -> None:
    add_full_tier(models, min_side_pixels=1000)
    detector = opened()
    for effort in ("auto", "full"):
        found = examine(detector, UNCLEAR, effort)
        assert found.bundle == "image-1"
        assert "too small for the full one" in found.claim


def test_the_heat_map_is_that_of_the_quick_tier(models: Path, opened: Open) -> None:
    plain = opened().detect(grey(UNCLEAR), DetectOptions(heatmap=True))
    add_full_tier(models)
    both = opened().detect(grey(UNCLEAR), DetectOptions(heatmap=True))
    assert of_image(both).bundle == "image-1-large"
    assert of_image(both).heatmaps == of_image(plain).heatmaps


def lose_full_tier(models: Path) -> Path:
    """A list that names a full tier which is not installed; where its folder is."""
    add_full_tier(models)
    activate(models, "image-1-large")
    return Path(shutil.move(models / "image-1-large", models.parent / "elsewhere"))


def test_a_full_tier_that_is_not_installed_is_told_where_it_was_needed(
    models: Path, opened: Open
) -> None:
    lose_full_tier(models)
    detector = opened()
    report = detector.detect(grey(UNCLEAR))
    (warning,) = [text for text in report.warnings if "image-1-large" in text]
    assert warning.endswith("[full_tier_missing]")
    assert "deepfake models install" in warning
    assert of_image(report).bundle == "image-1"
    assert of_image(report).reason == "full_tier_missing"
    for quiet in (
        detector.detect(grey(CLEAR)),
        detector.detect(grey(UNCLEAR), DetectOptions(effort="quick")),
    ):
        assert not [text for text in quiet.warnings if "image-1-large" in text]
        assert of_image(quiet).reason is None
    with pytest.raises(ModelError, match="image-1-large is not installed; run: deepfake models"):
        detector.detect_many([grey(CLEAR)], DetectOptions(effort="full"))


@pytest.mark.parametrize("listed", [True, False])
def test_without_a_full_tier_effort_full_ends_before_the_first_file(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], listed: bool
) -> None:
    if listed:
        lose_full_tier(models)
    picture, output = tmp_path / "a.png", tmp_path / "results.jsonl"
    picture.write_bytes(image_bytes(scene(120, 90)))
    place = ["--effort", "full", "--models", str(models)]
    words = "image-1-large is not installed" if listed else "no slot has a full tier"
    for command in (["detect", str(picture)], ["scan", str(picture), "--output", str(output)]):
        assert main([*command, *place]) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert f"effort full: {words}" in captured.err
    assert not output.exists()


def test_what_cannot_be_loaded_ends_detect(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    full = add_full_tier(models)
    values = json.loads((full.folder / "bundle.json").read_text())
    (full.folder / "model.onnx").write_bytes(b"no graph")
    digest = "30fd8ac8b6d5f6a0da5d8e4ff7e5ee0a7e2c8e3c7d1ce9dcf0d9c1cfc9d6a0f5"
    values["files"]["model.onnx"]["sha256"] = digest
    (full.folder / "bundle.json").write_text(json.dumps(values))
    picture = tmp_path / "a.png"
    picture.write_bytes(image_bytes(grey(UNCLEAR)))
    command = ["detect", str(picture), "--models", str(models)]
    assert main(command) == 2
    assert "image-1-large: bundle.json was changed since it was" in capsys.readouterr().err
    assert main([*command, "--allow-unsigned"]) == 2
    assert "image-1-large: file model.onnx differs" in capsys.readouterr().err


def test_a_scan_asks_both_tiers_and_starts_again_when_one_comes(
    models: Path, tmp_path: Path
) -> None:
    folder, output = tmp_path / "pictures", tmp_path / "results.jsonl"
    folder.mkdir()
    for name, value in (("clear", CLEAR), ("unclear", UNCLEAR)):
        (folder / f"{name}.png").write_bytes(image_bytes(grey(value)))
    apart = lose_full_tier(models)
    assert run_scan(folder, output=output, models=models).scanned == 2
    assert run_scan(folder, output=output, models=models).resumed == 2
    shutil.move(apart, models / "image-1-large")
    assert run_scan(folder, output=output, models=models).scanned == 2
    bundles = {}
    for line in read_lines(output)[2:]:
        (found,) = [one for one in line["evidence"] if one["source"] == "image"]
        bundles[Path(line["path"]).stem] = found["bundle"]
        assert line["versions"]["image-large"] == "image-1-large"
    assert bundles == {"clear": "image-1", "unclear": "image-1-large"}


def test_crops_of_several_files_share_batches_of_the_full_tier(models: Path) -> None:
    add_full_tier(models)
    settings = Settings(models_folder=models, threads=1, batch_wait_seconds=0.5)
    with Detector(settings) as detector:
        full = detector.engine.active["image-large"]
        backend, sizes = detector.engine.backend(full), []
        plain = backend.run

        def run(batch: np.ndarray) -> np.ndarray:
            sizes.append(len(batch))
            return plain(batch)

        backend.run = run  # type: ignore[method-assign]
        values = [UNCLEAR, CLEAR, UNCLEAR, CLEAR, UNCLEAR, UNCLEAR]
        options = DetectOptions(stability=False)
        found = list(detector.detect_many(map(grey, values), options, workers=6))
    assert [of_image(one).details["tier"] for one in found if isinstance(one, Report)] == [
        "full" if value == UNCLEAR else "quick" for value in values
    ]
    assert sum(sizes) == 4
    assert len(sizes) < 4


def test_a_bundle_keeps_its_limits_and_its_share(models: Path) -> None:
    full = add_full_tier(models, share=0.5)
    quick = Bundle.read(models / "image-1")
    assert quick.settled is not None
    assert (quick.settled.low, quick.settled.high) == (0.2, 0.8)
    assert full.calibration.quick is not None
    assert full.calibration.quick.sha256 == quick.logit_sha256
    values = json.loads((models / "audio-1" / "bundle.json").read_text())
    assert "settled" not in values
    assert "quick" not in values["calibration"]
