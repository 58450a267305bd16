from __future__ import annotations

from dataclasses import fields

import pytest
from deepfake_app.uploads import read_options

from deepfake.errors import SettingsError
from deepfake.settings import DetectOptions


def test_options_come_in_the_order_of_their_fields() -> None:
    options = read_options((True, False, 0.25, 70.0, 60, True, "quick"))
    assert options == DetectOptions(
        heatmap=True,
        stability=False,
        prior=0.25,
        max_frames_per_minute=70,
        max_audio_seconds=60.0,
        trust_claims=True,
        effort="quick",
    )
    assert isinstance(options.max_frames_per_minute, int)
    assert read_options([None] * len(fields(DetectOptions))) == DetectOptions()


@pytest.mark.parametrize(
    "values",
    [
        (True, True, 2.0, 32, 600.0, False, "auto"),
        (True, True, 0.5, float("nan"), 600.0, False, "auto"),
        (True, True, 0.5, float("inf"), 600.0, False, "auto"),
        (True, True, 0.5, [1], 600.0, False, "auto"),
        (True, True, "many", 32, 600.0, False, "auto"),
        ("yes", True, 0.5, 32, 600.0, False, "auto"),
        (True, True, 0.5, 32, 600.0, False, "most"),
        (True, True, 0.5, 32, 600.0, False, ["full"]),
    ],
)
def test_options_that_do_not_fit_are_refused(values: tuple[object, ...]) -> None:
    with pytest.raises(SettingsError, match="option"):
        read_options(values)
