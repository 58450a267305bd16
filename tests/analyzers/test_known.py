"""What a report says of copies of media that were ruled on."""

from __future__ import annotations

from pathlib import Path

import pytest

from deepfake.analyzers.known import look_up
from deepfake.commands.cli import main
from deepfake.detector import Detector
from deepfake.known import fingerprints
from deepfake.known.fingerprints import Fingerprint
from deepfake.known.index import Entry, Known, Ruled, read_known
from deepfake.media.opening import Media
from deepfake.reasons import Code
from deepfake.settings import Settings
from deepfake.types import Report, Verdict, Weight
from tests.faulty import Endless
from tests.known.patterns import pattern
from tests.known.test_index import entry
from tests.media_files import image_bytes


def test_nothing_is_said_where_nothing_is_known_or_alike() -> None:
    assert look_up(None, Known(), sha256="0" * 64) == []
    (said,) = look_up(entry(2).fingerprint, Known([entry(1)]), sha256="0" * 64)
    assert (said.weight, said.declares_synthesis) == (Weight.SCORE, False)
    assert "no copy" in said.claim


def test_who_ruled_and_when_is_named() -> None:
    one = entry(1)
    (same,) = look_up(one.fingerprint, Known([one]), sha256=str(one.sha256))
    assert same.claim.startswith("This is the file that desk ruled synthetic on 2026-11-29.")
    (near,) = look_up(one.fingerprint, Known([one]), sha256="0" * 64)
    assert near.claim.startswith("It looks like a copy of a file that desk ruled synthetic on")
    assert near.declares_synthesis
    assert near.details["copies"][0]["id"] == one.id


def test_files_that_were_ruled_on_differently_are_disputed() -> None:
    one = entry(1)
    other = Entry(**vars(one) | {"ruled": Ruled.GENUINE, "by": "press"})
    (said,) = look_up(one.fingerprint, Known([one, other]), sha256="0" * 64)
    assert said.reason is Code.KNOWN_DISPUTED
    assert not said.declares_synthesis
    assert "desk" in said.claim
    assert "press" in said.claim


def test_ctrl_c_keeps_what_was_ruled_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("first.png").write_bytes(image_bytes(pattern(1)))
    Path("second.png").write_bytes(image_bytes(pattern(2)))
    take = fingerprints.take_fingerprint
    prints = iter([take, None])

    def stopped(media: Media) -> Fingerprint | None:
        if (step := next(prints)) is None:
            raise KeyboardInterrupt
        return step(media)

    monkeypatch.setattr(fingerprints, "take_fingerprint", stopped)
    assert main(["known", "add", "--ruled", "synthetic", "first.png", "second.png"]) == 130
    assert "first.png" in capsys.readouterr().out
    assert [it.id for it in read_known(Path("known.jsonl")).entries] == [entry(1).id]


def test_the_command_keeps_what_the_detector_recognises(
    known_models: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("forged.png").write_bytes(image_bytes(pattern(1)))
    Path("text.png").write_text("no picture")
    copy = image_bytes(pattern(1)[8:-4, 5:-9], "jpeg", quality=50)
    rule = ["known", "add", "--by", "desk", "--ruled"]
    assert main([*rule, "synthetic", "forged.png", "text.png", "none.png"]) == 1
    assert "text.png" in capsys.readouterr().err
    settings = Settings(models_folder=known_models, threads=1, known=Path("known.jsonl"))
    with Detector(settings, analyzers=(Endless(),)) as detector:
        report = detector.detect(copy)
        assert report.verdict is Verdict.SUSPICIOUS
        assert report.reasons[0].code is Code.KNOWN_SYNTHETIC
        assert Report.from_dict(report.to_dict()).fingerprint == report.fingerprint
        assert detector.detect(copy, known=Known()).verdict is not Verdict.SUSPICIOUS
        assert detector.detect(image_bytes(pattern(2))).verdict is not Verdict.SUSPICIOUS
    assert main(["known", "export", "shared.csv"]) == 0
    assert main(["known", "import", "shared.csv", "--index", "theirs.jsonl"]) == 0
    assert main(["known", "list", "--index", "theirs.jsonl"]) == 0
    assert "2 imported, 0 left out" in capsys.readouterr().out
    assert main([*rule, "genuine", "forged.png"]) == 0
    assert main(["known", "list"]) == 0
    assert "genuine" in capsys.readouterr().out
    id = entry(1).id
    assert main(["known", "remove", id[:7]]) == 2
    assert main(["known", "remove", id[:8]]) == 0
    assert Path("known.jsonl").read_text() == ""
    assert main(["known", "export", "none/shared.csv"]) == 2
