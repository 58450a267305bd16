"""The measurements of known media and of the watch, on a few files made here."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import known, watch
from tests.known.patterns import babble, pattern
from tests.known.test_clips import clip
from tests.media_files import image_bytes, wav_bytes


@pytest.mark.slow
def test_copies_are_found_and_others_are_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for kind, contents in {
        "image": [
            image_bytes(pattern(1)),
            image_bytes(pattern(2)),
            image_bytes(pattern(2), "jpeg"),
        ],
        "audio": [wav_bytes(babble(1)), wav_bytes(babble(2))],
        "video": [clip(1, voice=3), clip(2)],
    }.items():
        for number, content in enumerate(contents):
            path = tmp_path / kind / "real" / f"{number}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    assert known.main([str(tmp_path), "--files", "1", "--listed"]) == 0
    printed = capsys.readouterr().out
    assert "image: 1 of 3 pairs of files are taken for copies, 0 of them across" in printed
    assert "audio: 0 of 1 pairs" in printed
    assert "video: 0 of 1 pairs" in printed
    for copy in ("JPEG 30", "letterbox", "Opus 32 kbit/s", "H.264 CRF 32", "without sound, CRF 32"):
        (row,) = [line for line in printed.splitlines() if line.startswith(f"{copy}  ")]
        assert row.endswith("100.0%"), row


def test_the_bound_is_that_of_clopper_and_pearson() -> None:
    assert known.upper_bound(0, 1_000_000) == pytest.approx(3e-6, rel=0.01)
    assert known.upper_bound(5, 5) == 1.0


@pytest.mark.slow
def test_attacks_alarm_and_moderation_does_not(
    known_models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert watch.main(["--quick", "--models", str(known_models)]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    until = {row[0]: row[-4] for row in rows if row and row[0] in ("NES", "squares", "random")}
    assert until == {"random": "10", "NES": "10", "squares": "10"}
    assert [row for row in rows if row[:1] in (["1"], ["10"])] == [
        ["1", "10", "60", "0"],
        ["10", "10", "60", "0"],
    ]
