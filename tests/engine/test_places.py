from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from deepfake.detector import Detector
from deepfake.engine.places import KEY_BYTES, draw_places, keep_key
from deepfake.errors import SettingsError
from deepfake.preprocess import Box, ImagePreprocess, Pixels
from deepfake.settings import Settings, crop_key_file
from tests.media_files import scene

IMAGE = ImagePreprocess(side_pixels=64, max_windows=9)
KEY, OTHER = bytes(KEY_BYTES), bytes([1] * KEY_BYTES)


def test_places_are_of_the_pixels_and_the_key() -> None:
    pixels = scene(300, 200)
    changed = pixels.copy()
    changed[7, 7, 0] ^= 1

    def places(seen: Pixels, key: bytes) -> list[Box]:
        return IMAGE.boxes(300, 200, draw=draw_places(seen, key))

    assert places(pixels, KEY) == places(pixels.copy(), KEY)
    assert places(pixels, KEY) != places(changed, KEY)
    assert places(pixels, KEY) != places(pixels, OTHER)
    assert draw_places(pixels, None) is None


@pytest.mark.parametrize("size", [(300, 200), (64, 64), (40, 500), (1000, 70)])
def test_drawn_crops_stay_within_the_picture_and_near_their_places(size: tuple[int, int]) -> None:
    usual = IMAGE.boxes(*size)
    for seed in range(20):
        drawn = IMAGE.boxes(*size, draw=np.random.default_rng(seed))
        for one, other in zip(usual, drawn, strict=True):
            assert (other.width, other.height) == (one.width, one.height)
            assert 0 <= other.left <= size[0] - other.width
            assert 0 <= other.top <= size[1] - other.height
            assert max(abs(one.left - other.left), abs(one.top - other.top)) <= 32


def test_the_key_is_made_once_for_its_user_alone(tmp_path: Path) -> None:
    path = tmp_path / "new" / "crops.key"
    key = keep_key(path)
    assert keep_key(path) == key
    assert len(key) == KEY_BYTES
    assert path.stat().st_mode & 0o777 == 0o600
    assert [file.name for file in path.parent.iterdir()] == ["crops.key"]
    assert keep_key(tmp_path / "other.key") != key


def test_a_key_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "crops.key").write_bytes(b"short")
    with pytest.raises(SettingsError, match="delete it"):
        keep_key(tmp_path / "crops.key")
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match="cannot be made"):
        keep_key(tmp_path / "file" / "crops.key")


def test_a_picture_keeps_its_score_here_and_has_another_elsewhere(
    known_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = np.zeros((400, 400, 3), np.uint8)
    pixels[:, :, :] = np.linspace(0, 255, 400).astype(np.uint8)[:, None]
    scores = []
    for name in ("here", "here", "there"):
        monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / name))
        with Detector(Settings(models_folder=known_models, threads=1, random_crops=True)) as one:
            scores.append(one.detect(pixels).probability)
        assert crop_key_file().is_file()
    assert scores[0] == scores[1]
    assert scores[0] != scores[2]
