"""A quick and a full tier in a models folder: named, listed, paired, and found with the user."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from deepfake.bundle import Bundle, parse_name
from deepfake.commands.cli import main
from deepfake.errors import ModelError
from deepfake.preprocess import ImagePreprocess
from deepfake.settings import user_models_folder
from deepfake.trust.registry import (
    activate,
    digest_bundles,
    missing_tiers,
    read_bundles,
    read_list,
    ship,
    shipped_bundles,
    warn_of,
)
from tests.bundles import add_full_tier, copy_bundle, ship_models


@pytest.fixture
def models(known_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A list that names both tiers; the user's own folder is empty."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    folder = Path(shutil.copytree(known_models, tmp_path / "models"))
    add_full_tier(folder, share=0.5)
    activate(folder, "image-1-large")
    return folder


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("image-3", ("image", 3)),
        ("image-3-large", ("image-large", 3)),
        ("face-finder-12", ("face-finder", 12)),
        ("video-3-large", None),  # no analyzer asks one
        ("image-large", None),
        ("image-large-3", None),
        ("image-3-large-large", None),
        ("image-", None),
        ("../image-3", None),
    ],
)
def test_names_tell_slot_and_number(name: str, parts: tuple[str, int] | None) -> None:
    assert parse_name(name) == parts


def test_both_tiers_answer_and_count_in_the_digest(models: Path) -> None:
    bundles = read_bundles(models)
    assert bundles["image-large"].name == "image-1-large"
    assert missing_tiers(models) == {}
    few = {slot: one for slot, one in bundles.items() if slot != "image-large"}
    assert digest_bundles(bundles) != digest_bundles(few)


def test_a_full_tier_may_be_missing(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(models / "image-1-large")
    assert "image-large" not in read_bundles(models)
    assert missing_tiers(models) == {"image-large": "image-1-large"}
    assert main(["models", "verify", "--models", str(models)]) == 0
    assert "not installed" in capsys.readouterr().out
    assert main(["models", "list", "--models", str(models)]) == 0
    text = capsys.readouterr().out
    assert "image-1-large is not installed" in text
    (row,) = [line.split() for line in text.splitlines() if line.startswith("image-1-large  ")]
    assert row[-2:] == ["missing", "no"]
    assert "deepfake models install" in text
    shutil.rmtree(models / "audio-1")
    with pytest.raises(ModelError, match="audio-1: missing"):
        read_bundles(models)
    assert main(["doctor", "--models", str(models)]) == 1
    text = " ".join(capsys.readouterr().out.split())
    assert "full tier image-1-large not installed (deepfake models install brings it)" in text


def test_it_is_looked_for_with_the_user(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = user_models_folder() / "image-1-large"
    own.parent.mkdir(parents=True)
    shutil.move(models / "image-1-large", own)
    assert read_bundles(models)["image-large"].folder == own
    assert main(["models", "list", "--models", str(models)]) == 0
    text = capsys.readouterr().out
    (row,) = [line.split() for line in text.splitlines() if line.startswith("image-1-large  ")]
    assert row[-2:] == ["yes", "no"]
    assert f"image-1-large lies in {own.parent}" in text.replace("\n", "")
    (own / "golden.npz").write_bytes(b"damaged")
    assert main(["models", "verify", "--models", str(models)]) == 1
    assert "image-1-large: file golden.npz differs" in capsys.readouterr().out
    values = json.loads((own / "bundle.json").read_text())
    values["calibration"]["intercept"] = 9
    (own / "bundle.json").write_text(json.dumps(values))
    with pytest.raises(ModelError, match=r"was changed since active\.json.*install it again"):
        read_bundles(models)


def test_a_quick_tier_of_another_number_takes_both_places(models: Path) -> None:
    copy_bundle(models / "image-1", "image-2")
    activate(models, "image-2")
    assert "image-large" not in read_list(models).bundles
    with pytest.raises(ModelError, match="full tier of image-1, which is not active"):
        activate(models, "image-1-large")
    activate(models, "image-1")
    assert activate(models, "image-1-large")["image-large"].name == "image-1-large"


def test_a_fused_tier_wants_the_very_network_that_it_was_fused_with(
    models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    quick = Bundle.read(models / "image-1")
    cautious = replace(quick, calibration=replace(quick.calibration, intercept=-1.0), settled=None)
    cautious.write(quick.folder)
    activate(models, "image-1")  # what the logit means may change
    changed = replace(quick, preprocess=ImagePreprocess(side_pixels=32, max_windows=6))
    changed.write(quick.folder)
    with pytest.raises(ModelError, match="was fused with another image-1"):
        activate(models, "image-1")
    recorded = json.loads((models / "active.json").read_text())
    recorded["bundles"]["image"]["sha256"] = Bundle.read(quick.folder).sha256
    (models / "active.json").write_text(json.dumps(recorded))
    with pytest.raises(ModelError, match="was fused with another image-1"):
        read_bundles(models)
    assert main(["models", "verify", "--models", str(models)]) == 1
    assert "image-1-large: was fused with another image-1" in capsys.readouterr().out


def test_without_a_list_the_full_tier_of_the_newest_answers(models: Path) -> None:
    (models / "active.json").unlink()
    assert read_bundles(models)["image-large"].name == "image-1-large"
    copy_bundle(models / "image-1", "image-2")
    assert "image-large" not in read_bundles(models)


def test_a_release_ships_both_tiers_of_one_number(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ship_models(models, tmp_path, monkeypatch)
    try:
        assert warn_of(models, read_bundles(models)) == []
        ship(models, "image-1")
        assert "image-1-large" in shipped_bundles()
        shutil.rmtree(models / "image-1-large")
        assert "image-large" not in read_bundles(models), "the shipped folder need not have it"
        copy_bundle(models / "image-1", "image-2")
        ship(models, "image-2")
        assert "image-1-large" not in shipped_bundles()
        assert "image-2" in shipped_bundles()
    finally:
        shipped_bundles.cache_clear()
