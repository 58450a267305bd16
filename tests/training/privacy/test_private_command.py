"""``deepfake train --dp-epsilon`` from folders to a bundle that states what it promises, and the
quick form of its study, on media made here.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deepfake.bundle import Bundle
from deepfake.commands.cli import main
from tests.training.own_media import fill
from tests.training.test_own import command, shipped, start_with, tiny

__all__ = ["shipped", "tiny"]
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.slow,
    pytest.mark.usefixtures("traced_graphs"),
]


def test_the_bundle_and_its_card_say_what_is_inside_of_the_guarantee(
    shipped: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start_with(shipped, "image")
    media = fill(tmp_path / "media", "image", files=6)
    output = tmp_path / "models" / "mine-1"
    line = command(shipped, "image", *media, "--start", "fresh", "--output", str(output))
    assert main([*line, "--dp-epsilon", "20", "--dp-delta", "0.05"]) == 2
    error = capsys.readouterr().err
    assert "option --dp-delta 0.05: with 24 files it must be above 0 and below 4.2e-02" in error
    assert main([*line, "--dp-epsilon", "20", "--suspicious", "weigh"]) == 2
    assert "do not go together" in capsys.readouterr().err
    assert main([*line, "--dp-epsilon", "20", "--dp-delta", "1e-4"]) == 0
    assert "at δ 0.0001 of one file, for the head; calibration" in capsys.readouterr().out

    bundle = Bundle.read(output)
    bundle.verify()
    stated = json.loads((output / "bundle.json").read_text(encoding="utf-8"))["provenance"]
    assert 19.9 < stated["privacy"]["epsilon"] <= 20
    assert stated["privacy"]["delta"] == 1e-4
    assert stated["privacy"]["steps"] > 1
    assert stated["suspicious"] == "warn, 0 files counted less"
    assert (output.with_name("mine-1.work") / "audit" / "audit.html").exists()
    assert stated["data_sha256"] is None, "it could tell whether a file is among them"
    card = " ".join(bundle.card().split())
    epsilon = stated["privacy"]["epsilon"]
    assert f"**Privacy: ε = {epsilon:.2f} at δ = 0.0001** (accountant of Opacus), for one" in card
    assert "**Outside of it**, made from the same files without noise: the calibration" in card
    assert "--dp-epsilon 20.0 --dp-delta 0.0001" in card

    work = output.with_name("mine-1.work")
    sources = ["--genuine", str(media[0]), "--synthetic", str(media[1])]
    more = ["--models", str(shipped), "--threads", "1"]

    def study(action: str) -> list[list[str]]:
        line = ["study", action, *sources, "--work", str(work), "--quick", *more]
        assert main(line) == 0
        lines = capsys.readouterr().out.splitlines()
        table = [row.strip("| ").split(" | ") for row in lines if row.startswith("|")]
        assert len({len(row) for row in [table[0], *table[2:]]}) == 1
        return table[2:]

    rows = study("private")
    assert [row[1] for row in rows] == ["–", "–", "–", "1", "8"]
    assert all(0 <= float(row[3]) <= 1 for row in rows)
    assert [row[0] for row in study("answers")] == ["full", "rounded", "verdict"]
    assert [row[1] for row in study("inversion")] == ["20", "20", "20"]
    rows = study("federated")
    assert rows[1][0] == "in one place, logistic regression"
    assert {row[1] for row in rows} == {"–", "fedavg", "median", "trimmed", "krum"}
    line = ["study", "copies", *sources, "--work", str(work), "--quick", *more]
    assert main(line) == 2
    assert "2 folds of them are too few" in capsys.readouterr().err
