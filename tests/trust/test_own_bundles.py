"""A folder with a bundle of a user's own, beside or without shipped ones."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from deepfake.bundle import Bundle
from deepfake.commands.cli import main
from deepfake.detector import Detector
from deepfake.errors import ModelError
from deepfake.settings import Settings
from deepfake.trust import registry
from deepfake.trust.registry import activate, inspect_folder, read_bundles, read_list, warn_of
from deepfake.trust.signatures import Trust
from tests.bundles import copy_bundle, ship_models, sign
from tests.media_files import image_bytes, scene


@pytest.fixture
def shipped(known_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The known bundles as those of the package."""
    folder = Path(shutil.copytree(known_models, tmp_path / "shipped"))
    activate(folder, "image-1")
    yield ship_models(folder, tmp_path, monkeypatch)
    registry.shipped_bundles.cache_clear()


@pytest.fixture
def own(shipped: Path, tmp_path: Path) -> Path:
    """A folder with ``mine-1`` of slot image alone."""
    put_own(shipped, tmp_path / "own", "mine-1")
    return tmp_path / "own"


def put_own(shipped: Path, folder: Path, name: str, *, slot: str = "image") -> Bundle:
    made = copy_bundle(shipped / f"{slot}-1", f"{slot}-77", slot=slot)
    folder.mkdir(exist_ok=True)
    place = Path(shutil.move(made.folder, folder / name))
    replace(Bundle.read(place), name=name).write(place)
    sign(place)
    return Bundle.read(place)


def test_one_bundle_answers_beside_the_shipped_ones(own: Path, shipped: Path) -> None:
    bundles = activate(own, "mine-1")
    assert bundles.keys() == read_bundles(shipped).keys()
    assert bundles["image"].name == "mine-1"
    assert bundles["audio"].folder == shipped / "audio-1"
    with Detector(Settings(models_folder=own, threads=1)) as detector:
        report = detector.detect(image_bytes(scene(90, 60)))
    assert report.versions["image"] == "mine-1"
    assert report.versions["audio"] == "audio-1"
    assert warn_of(own, bundles) == [
        "Not shipped with this version, so that nothing published describes them: mine-1."
    ]
    inspected = inspect_folder(own, Trust.read(Settings()))
    found = {one.name: (one.active, one.shipped, one.faults) for one in inspected}
    assert found["mine-1"] == (True, False, ())
    assert found["audio-1"] == (True, True, ())
    assert "image-1" not in found


def test_the_name_of_a_shipped_bundle_gives_its_slot_back(
    own: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    activate(own, "mine-1")
    assert main(["models", "activate", "image-1", "--models", str(own)]) == 0
    assert read_bundles(own)["image"].name == "image-1"
    assert main(["models", "verify", "--models", str(own)]) == 1, "nothing vouches for mine-1 now"
    assert "mine-1: neither in active.json nor shipped" in capsys.readouterr().out
    assert activate(own, "mine-1")["image"].name == "mine-1"


def test_without_a_list_an_own_word_never_answers(own: Path, shipped: Path) -> None:
    with pytest.raises(ModelError, match="holds no bundle"):
        read_bundles(own)
    shutil.copytree(shipped / "image-1", own / "image-1")
    assert read_bundles(own)["image"].name == "image-1"
    assert activate(own, "mine-1")["image"].name == "mine-1"


def test_beside_shipped_ones_nothing_is_left_to_others(shipped: Path) -> None:
    put_own(shipped, shipped, "mine-1")
    assert activate(shipped, "mine-1")["image"].name == "mine-1"
    listed = read_list(shipped)
    assert listed is not None
    assert not listed.others_shipped
    assert activate(shipped, "image-1")["image"].name == "image-1"


def test_a_list_cannot_give_a_bundle_to_another_slot(own: Path) -> None:
    activate(own, "mine-1")
    path = own / "active.json"
    values = json.loads(path.read_text())
    values["bundles"] = {"audio": values["bundles"]["image"]}
    path.write_text(json.dumps(values))
    with pytest.raises(ModelError, match=r"mine-1: is of slot image, though active\.json names it"):
        read_bundles(own)
    values["others"] = "anybody"
    path.write_text(json.dumps(values))
    with pytest.raises(ModelError, match="others are 'anybody'"):
        read_bundles(own)


def test_what_was_changed_or_lost_is_refused(own: Path) -> None:
    activate(own, "mine-1")
    bundle = Bundle.read(own / "mine-1")
    replace(bundle, licence="another").write(bundle.folder)
    with pytest.raises(ModelError, match=r"was changed since active\.json"):
        read_bundles(own)
    shutil.rmtree(own / "mine-1")
    with pytest.raises(ModelError, match=r"mine-1: missing from .* activate another one"):
        read_bundles(own)


@pytest.mark.parametrize("name", ["mine", "-1", "mine-1.partial", "a b-1", "../mine-1", "1-1"])
def test_names_that_no_bundle_has(own: Path, name: str) -> None:
    with pytest.raises(ModelError, match="or <word>-<integer> for one of your own"):
        activate(own, name)


def test_the_word_of_another_slot_is_refused(own: Path, shipped: Path) -> None:
    put_own(shipped, own, "audio-5")
    with pytest.raises(ModelError, match="the folder holds 'audio-5' of slot 'image'"):
        activate(own, "audio-5")
