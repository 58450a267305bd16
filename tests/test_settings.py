from __future__ import annotations

from pathlib import Path

import pytest

from deepfake.errors import MissingDependency, SettingsError
from deepfake.settings import DetectOptions, Settings, megapixels


@pytest.mark.parametrize(
    "values",
    [
        {"prior": 0.0},
        {"prior": float("nan")},
        {"max_frames_per_minute": 0},
        {"max_frames_per_minute": "many"},
        {"heatmap": "yes"},
        {"max_audio_seconds": -1.0},
        {"effort": "most"},
        {"effort": None},
    ],
)
def test_wrong_options_name_the_remedy(values: dict[str, object]) -> None:
    with pytest.raises(SettingsError, match=next(iter(values))):
        DetectOptions(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize("values", [{"backend": "tensorrt"}, {"device": "tpu"}])
def test_wrong_settings_list_the_choices(values: dict[str, str]) -> None:
    with pytest.raises(SettingsError, match="choose"):
        Settings(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize("seconds", [0, -1.0, float("nan")])
def test_a_time_limit_is_positive_or_none(seconds: float) -> None:
    with pytest.raises(SettingsError, match="file_seconds"):
        Settings(file_seconds=seconds)
    assert Settings(file_seconds=None).file_seconds is None
    assert Settings().file_seconds == 600


def test_shipped_models_are_found() -> None:
    assert Path(Settings().models_folder).is_dir()


def test_missing_dependency_names_the_extra() -> None:
    error = MissingDependency("gradio", extra="app")
    assert str(error) == 'package gradio: not installed; run: pip install "deepfake[app]"'
    assert error.code == "missing_dependency"


@pytest.mark.parametrize(
    ("pixels", "words"),
    [(120_000_000, "120"), (200_500_000, "200.5"), (307_200, "0.3072"), (12_000_000_000, "12,000")],
)
def test_pixels_are_counted_as_people_do(pixels: int, words: str) -> None:
    assert megapixels(pixels) == words
