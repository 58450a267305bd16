from __future__ import annotations

import pytest
from deepfake_app.waiting import STEPS, Pace, estimate_left, render_pace, word_progress

from deepfake.analyzers import shipped_analyzers
from deepfake.settings import Settings


def test_time_is_estimated_from_the_pace_so_far() -> None:
    assert estimate_left(0.25, 10.0) == pytest.approx(30.0)
    assert estimate_left(0.02, 10.0) is None  # too early to tell
    assert estimate_left(0.5, 0.1) is None


@pytest.mark.parametrize(
    ("share", "elapsed", "words"),
    [
        (0.0, 0.0, "0 s so far"),
        (0.5, 10.0, "10 s so far, about 10 s left"),
        (0.1, 7.0, "7 s so far, about 65 s left"),
        (0.1, 60.0, "60 s so far, about 9 min left"),
        (0.9, 4.0, "4 s so far, about 1 s left"),
    ],
)
def test_progress_is_said_with_its_time(share: float, elapsed: float, words: str) -> None:
    assert word_progress("face", share, elapsed) == f"Examining faces · {words}"


def test_every_analyzer_has_words_of_its_own() -> None:
    assert {analyzer.name for analyzer in shipped_analyzers(Settings())} <= set(STEPS)


def test_a_pace_counts_all_files_and_escapes_their_names() -> None:
    pace = Pace()
    pace.tell(0.5, "image")
    bar = render_pace(pace, place=1, files=4, name="<b>\u202ex.png")
    assert 'value="0.375"' in bar
    assert "38% · File 2 of 4, &lt;b&gt;x.png: Examining the picture" in bar
    assert "File" not in render_pace(pace, place=0, files=1, name="x")
