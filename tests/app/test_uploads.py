from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from app.uploads import claimed, read_options
from deepfake.errors import MediaError, SettingsError
from deepfake.settings import DetectOptions

from .media import sent


def test_an_upload_belongs_to_one_request_and_is_deleted(tmp_path: Path) -> None:
    file = sent(tmp_path, b"content", "../../a/photo.jpg")
    with claimed(file) as upload:
        assert upload.name == "photo.jpg"
        assert upload.path.read_bytes() == b"content"
        assert not Path(file["path"]).exists()
        with pytest.raises(MediaError, match="no longer here"), claimed(file):
            pass
    assert list(tmp_path.iterdir()) == []


def test_an_upload_is_deleted_when_its_examination_fails(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), claimed(sent(tmp_path, b"content", "a.jpg")):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_another_upload_beside_it_stays(tmp_path: Path) -> None:
    file = sent(tmp_path, b"content", "a.jpg")
    other = Path(file["path"]).with_name("other")
    other.write_bytes(b"other")
    with claimed(file):
        pass
    assert list(tmp_path.rglob("*")) == [other.parent, other]


@pytest.mark.parametrize("nothing", [None, {}, {"path": ""}])
def test_no_upload_is_said_so(nothing: dict[str, str] | None) -> None:
    with pytest.raises(MediaError, match="no file was chosen") as caught, claimed(nothing):
        pass
    assert caught.value.code == "no_file"


def test_options_come_in_the_order_of_their_fields() -> None:
    options = read_options((True, False, 0.25, 70.0, 60, True))
    assert options == DetectOptions(
        heatmap=True,
        stability=False,
        prior=0.25,
        max_frames_per_minute=70,
        max_audio_seconds=60.0,
        trust_claims=True,
    )
    assert isinstance(options.max_frames_per_minute, int)
    assert read_options([None] * len(fields(DetectOptions))) == DetectOptions()


@pytest.mark.parametrize(
    "values",
    [
        (True, True, 2.0, 32, 600.0, False),
        (True, True, 0.5, float("nan"), 600.0, False),
        (True, True, 0.5, float("inf"), 600.0, False),
        (True, True, 0.5, [1], 600.0, False),
        (True, True, "many", 32, 600.0, False),
        ("yes", True, 0.5, 32, 600.0, False),
    ],
)
def test_options_that_do_not_fit_are_refused(values: tuple[object, ...]) -> None:
    with pytest.raises(SettingsError, match="option"):
        read_options(values)
