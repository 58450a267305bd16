"""``deepfake data audit`` and the gate of ``deepfake train``, on media made here."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import pytest
from deepfake_training.audit import facts

from deepfake import networks
from deepfake.commands.cli import main
from deepfake.trust import registry
from tests.bundles import make_models
from tests.training.own_media import create_tiny, fill, make_start, picture

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(networks, "create", create_tiny)


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of known bundles, the one of pictures with a small network that can learn."""
    folder = make_models(tmp_path / "shipped")
    released = tmp_path / "shipped.json"
    released.write_text("{}")
    monkeypatch.setattr(registry, "SHIPPED", released)
    monkeypatch.setattr(registry, "shipped_models_folder", lambda: folder)
    registry.shipped_bundles.cache_clear()
    make_start(folder, "image")
    registry.activate(folder, "image-1")
    return folder


@pytest.fixture
def media(tmp_path: Path) -> Path:
    """Two sources a class; a wrong label in the first synthetic one, a file that is no picture,
    and one that is in both classes.
    """
    folder = tmp_path / "media"
    fill(folder, "image", files=8)
    (folder / "synthetic" / "first" / "wrong.png").write_bytes(picture(500, synthetic=False))
    (folder / "genuine" / "scanner" / "hostile.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(60))
    shutil.copy(
        folder / "genuine" / "camera" / "1.png", folder / "synthetic" / "second" / "<i>.png"
    )
    return folder


def audit(media: Path, output: Path, shipped: Path, *more: str) -> int:
    return main(
        [
            *("data", "audit", str(media), "--output", str(output)),
            *("--models", str(shipped), "--threads", "1", *more),
        ]
    )


def read_table(folder: Path) -> list[dict[str, str]]:
    with (folder / "decisions.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_a_folder_is_audited_decided_on_and_learnt_from(
    media: Path,
    shipped: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    output = tmp_path / "audits" / "mine"
    assert audit(media, output, shipped) == 1
    captured = capsys.readouterr()
    assert "perhaps a wrong label" in captured.out
    assert "the same in both classes" in captured.out
    assert "hostile.png" in captured.err
    page = (output / "audit.html").read_text(encoding="utf-8")
    assert page.count("data:image/jpeg;base64,") >= 3
    assert "&lt;i&gt;.png" in page
    assert "<i>.png" not in page
    assert "http" not in page.replace("http-equiv", "")
    rows = {Path(row["file"]).name: row for row in read_table(output)}
    assert rows["wrong.png"]["findings"] == "label"
    assert rows["wrong.png"]["counts"] == "0"
    assert "twin_classes" in rows["1.png"]["findings"]
    assert rows["<i>.png"]["source"] == "second"
    assert not any(row["decision"] for row in rows.values())

    # what was computed is not computed again, and what was decided is no finding any more
    table = output / "decisions.csv"
    drop(table, "<i>.png", "wrong.png")
    monkeypatch.setattr(facts, "read_facts", lambda opened: pytest.fail("read again"))
    assert audit(media, output, shipped, "--decisions", str(table)) == 0
    assert "the same in both classes" not in capsys.readouterr().out
    kept = {Path(row["file"]).name: row["decision"] for row in read_table(output)}
    assert kept["<i>.png"] == kept["wrong.png"] == "drop"


def drop(table: Path, *names: str) -> None:
    with table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        row["decision"] = "drop" if Path(row["file"]).name in names else row["decision"]
    with table.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


@pytest.mark.slow
def test_the_gate_of_training_tells_refuses_and_weighs_down(
    media: Path, shipped: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (media / "synthetic" / "second" / "<i>.png").unlink()
    output = tmp_path / "models" / "mine-1"
    line = [
        *("train", "--slot", "image", "--models", str(shipped), "--threads", "1"),
        *("--genuine", str(media / "genuine"), "--synthetic", str(media / "synthetic")),
        *("--output", str(output)),
    ]
    assert main([*line, "--suspicious", "refuse"]) == 1
    error = capsys.readouterr().err
    assert "training data: " in error
    assert "nothing was trained" in error
    assert not output.exists()
    review = tmp_path / "models" / "mine-1.work" / "audit"
    assert "wrong.png" in (review / "audit.html").read_text(encoding="utf-8")

    assert main([*line, "--suspicious", "weigh"]) == 0
    error = capsys.readouterr().err
    assert "files are suspicious (" in error
    assert "they count less" in error
    from deepfake.bundle import Bundle

    assert "weigh, " in Bundle.read(output).provenance["suspicious"]
    assert "--suspicious weigh" in Bundle.read(output).card()

    drop(review / "decisions.csv", *[Path(row["file"]).name for row in read_table(review)])
    other = [*line[:-1], str(tmp_path / "models" / "mine-2")]
    more = ["--suspicious", "refuse", "--decisions", str(review / "decisions.csv")]
    assert main([*other, *more]) == 0
    assert "dropped by decision" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ([], "needs one labelled folder, or --genuine and --synthetic"),
        (["x", "--genuine", "y"], "needs one labelled folder"),
        (["x", "--limit", "0"], "option --limit 0: out of range"),
        (["nowhere"], "nowhere"),
        (["x", "--decisions", "nowhere.csv"], "nowhere.csv"),
    ],
)
def test_wrong_usage_is_told(
    words: list[str], why: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["data", "audit", *words, "--output", str(tmp_path / "out")]) == 2
    assert why in capsys.readouterr().err
