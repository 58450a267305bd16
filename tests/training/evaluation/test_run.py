"""The whole way: files, detector, peers, journal, result, page."""

from __future__ import annotations

import json
import re
import threading
from pathlib import Path

import jsonschema
import pytest
from deepfake_training.evaluation.journal import Journal
from deepfake_training.evaluation.peers import Peer
from deepfake_training.evaluation.result import EVALUATION_SCHEMA, read_result
from deepfake_training.evaluation.run import Examination, Outcome

from deepfake.commands.cli import main
from deepfake.detector import Detector
from deepfake.errors import SettingsError

from .labelled import make_folder, make_picture, make_sample


def evaluate(material: Path, output: Path, models: Path, *more: str) -> int:
    return main(
        [
            *("evaluate", str(material), "--output", str(output), "--models", str(models)),
            *("--draws", "40", "--threads", "1", *more),
        ]
    )


@pytest.mark.slow
def test_a_folder_becomes_a_result_a_page_and_tables(
    tmp_path: Path, known_models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    material, output = make_folder(tmp_path / "mine"), tmp_path / "out"
    (material / "genuine" / "camera" / "bad.jpg").write_bytes(b"\xff\xd8\xff broken")
    (material / "synthetic" / "alpha" / "<b>note.txt").write_text("no picture, a text of words")
    peer = ["--peer", f"size=python:{__name__}:count_bytes", "--views", "as-is,screenshot"]
    assert evaluate(material, output, known_models, *peer) == 1
    text = capsys.readouterr().out
    for words in ("pictures: each system", "genuine source", "deepfake: 2 failures", "bad.jpg"):
        assert words in text

    values = json.loads((output / "evaluation.json").read_text())
    jsonschema.validate(values, EVALUATION_SCHEMA)
    assert values["failures"] == {"deepfake": 2, "size": 1}
    assert values["material"]["files"] == 14
    assert values["bundles"]["image"]["name"] == "image-1"
    assert values["views"]["screenshot"] == {"image": "on a page of a screen 1080 pixels wide, PNG"}
    rows = {(row["view"], row["source"]): row for row in values["rows"]}
    alpha = rows["as-is", "alpha"]
    assert alpha["files"] == 3
    # Of the six genuine pictures one is as bright as the bright ones.
    assert alpha["scores"]["image"]["auc"][0] == pytest.approx(5 / 6, abs=1e-4)
    assert alpha["scores"]["image"]["genuine"] == 6
    assert alpha["verdicts"]["synthetic"] == [1.0, pytest.approx(0.29, abs=0.01), 1.0]
    assert rows["as-is", "phone"]["verdicts"]["synthetic"][0] == pytest.approx(1 / 3, abs=1e-4)
    low, high = rows["as-is", "all files"]["scores"]["fused"]["auc"][1:]
    assert 0.3 < low < high <= 1
    assert {row["label"] for row in values["rows"]} == {"synthetic", "genuine"}
    assert {one["first"] for one in values["comparisons"]} == {"peer:size"}

    page = (output / "evaluation.html").read_text()
    assert page.count("<svg") == 2
    assert "&lt;b&gt;note.txt" in page
    assert "<b>note" not in page
    assert "http" not in page.replace("http-equiv", "").replace("http://www.w3.org", "")

    public, stored = tmp_path / "public.json", output / "evaluation.json"
    shown = ["--markdown", "--publish", str(public)]
    assert evaluate(stored, tmp_path / "again", known_models, *shown) == 1
    tables = capsys.readouterr().out
    assert "| as-is | alpha | 3 |" in tables
    assert "| as-is | genuine | 6 | 0.17 (0.00…" in tables
    assert json.loads(public.read_text()) == values | {"outcomes": []}
    shown = ["--markdown", "summary", "--publish", str(public)]
    assert evaluate(public, tmp_path / "public", known_models, *shown) == 1
    assert {row.source for row in read_result(public).rows} == {"all files", "all sources alike"}
    assert capsys.readouterr().out in tables.partition("Pictures: each system")[0]
    assert (tmp_path / "again" / "evaluation.html").read_text() == page
    assert read_result(output / "evaluation.json").to_dict() == values


def count_bytes(path: Path) -> float:
    """A peer for the test above, which one picture does not please."""
    if path.name == "1.png" and path.parent.name == "beta":
        raise ValueError("not this one")
    return float(path.stat().st_size)


def test_a_stopped_run_goes_on_where_it_was(tmp_path: Path, known_detector: Detector) -> None:
    paths = []
    for number in range(5):
        paths.append(tmp_path / f"{number}.png")
        paths[-1].write_bytes(make_picture(40 * number, seed=number))
    samples = [make_sample(path) for path in paths]
    asked: list[str] = []
    stop = threading.Event()

    def score(path: Path) -> float:
        asked.append(path.name)
        return 0.5

    def halt(outcomes: list[Outcome]) -> None:
        if outcomes[0].name == "2.png":
            stop.set()

    def run(**options: object) -> list[Outcome]:
        with Journal(tmp_path / "journal.jsonl") as journal:
            peers = [Peer("p", "p", score)]
            examination = Examination(known_detector, journal, peers=peers)
            return examination.examine(samples, workers=1, **options)  # type: ignore[arg-type]

    with pytest.raises(KeyboardInterrupt):
        run(progress=halt, stop=stop)
    before = [*asked]
    assert 3 <= len(before) < 5
    with (tmp_path / "journal.jsonl").open("a") as journal:
        journal.write('{"key": "torn')
    outcomes = run()
    assert asked == [f"{number}.png" for number in range(5)]
    assert [one.name for one in outcomes] == asked
    assert all(one.verdict and one.scores["peer:p"] == 0.5 for one in outcomes)

    paths[4].write_bytes(make_picture(250))
    changed = run()
    assert asked[5:] == ["4.png"]
    assert changed[4].scores["fused"] > outcomes[4].scores["fused"]
    assert changed[:4] == outcomes[:4]


def test_a_failure_of_a_peer_is_tried_again_a_broken_file_is_not(
    tmp_path: Path, known_detector: Detector
) -> None:
    good, bad, gone = tmp_path / "a.png", tmp_path / "b.png", tmp_path / "c.png"
    good.write_bytes(make_picture(90))
    bad.write_bytes(b"\x89PNG\r\n\x1a\n broken")
    fails = [True]

    def score(path: Path) -> float:
        if fails.pop() if fails else False:
            raise RuntimeError("out of memory")
        return 1.0

    def run() -> list[Outcome]:
        with Journal(tmp_path / "journal.jsonl") as journal:
            examination = Examination(known_detector, journal, peers=[Peer("p", "p", score)])
            return examination.examine([make_sample(path) for path in (good, bad, gone)])

    first = run()
    assert "out of memory" in first[0].problems["p"]
    assert first[0].verdict
    assert first[1].error is not None
    assert first[1].verdict is None
    assert "c.png" in str(first[2].error)
    lines = (tmp_path / "journal.jsonl").read_text()
    second = run()
    assert second[0].scores["peer:p"] == 1.0
    assert second[1] == first[1]
    added = (tmp_path / "journal.jsonl").read_text().removeprefix(lines)
    assert added.count("\n") == 1


def test_two_runs_do_not_share_a_journal(tmp_path: Path) -> None:
    with Journal(tmp_path / "j") as journal:
        journal.add("a", {"score": 1.0})
        with pytest.raises(SettingsError, match="another run"), Journal(tmp_path / "j"):
            pass
    with Journal(tmp_path / "j") as journal:
        assert journal.get("a") == {"score": 1.0}
    (tmp_path / "j").write_text('{"key": "a"}\n{"key": "b", "found": {}}\n')
    with pytest.raises(SettingsError, match="line 1 is damaged"), Journal(tmp_path / "j"):
        pass


def test_one_class_alone_tells_of_wrong_accusations(
    tmp_path: Path, known_models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    material = make_folder(tmp_path / "mine")
    for path in (material / "synthetic").rglob("*.png"):
        path.unlink()
    assert evaluate(material, tmp_path / "out", known_models, "--limit", "2") == 0
    result = read_result(tmp_path / "out" / "evaluation.json")
    assert result.files == 4
    (row,) = [row for row in result.rows if row.source == "camera"]
    assert row.scores["fused"].auc is None
    assert row.verdicts["synthetic"][0] == 0
    assert "camera" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "why"),
    [
        (["--views", "fax"], "view 'fax'"),
        (["--workers", "0"], "option workers 0"),
        (["--peer", "nothing"], "peer 'nothing'"),
        (["--peer", "a=x", "--peer", "a=y"], "two have one name"),
        (["--compare", "nowhere.json"], "nowhere.json"),
        (["--models", "nowhere"], "nowhere"),
    ],
)
def test_wrong_usage_is_told_before_a_file_is_examined(
    tmp_path: Path,
    known_models: Path,
    capsys: pytest.CaptureFixture[str],
    more: list[str],
    why: str,
) -> None:
    material = make_folder(tmp_path / "mine")
    assert evaluate(material, tmp_path / "out", known_models, *more) == 2
    assert why in capsys.readouterr().err
    assert not (tmp_path / "out" / "evaluation.json").exists()


def test_without_the_extra_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(name: str) -> None:
        raise ModuleNotFoundError("No module named 'scipy'", name="scipy")

    monkeypatch.setattr("deepfake.commands.evaluate.importlib.import_module", refuse)
    assert main(["evaluate", str(tmp_path)]) == 2
    assert 'pip install "deepfake[train]"' in capsys.readouterr().err


def test_the_example_of_the_documentation_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (Path(__file__).parents[3] / "docs" / "evaluation.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    make_folder(tmp_path / "my-files")
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "evaluation.md", "exec"), {"__name__": "example"})
    result = read_result(tmp_path / "evaluation.json")
    assert result.files == 12
    assert {*result.failures} == set()
    assert {row.view for row in result.rows} == {"as-is", "web"}
    assert result.peers == {"theirs": "version 1"}
