"""Groups that are accused more often than others, and groups that are not."""

from __future__ import annotations

import io
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from deepfake_training.evaluation.fairness import compare_groups, warn_of_groups
from deepfake_training.evaluation.material import read_material
from deepfake_training.evaluation.result import EVALUATION_SCHEMA, read_result
from deepfake_training.evaluation.run import Outcome
from PIL import Image

from deepfake.commands.cli import main
from tests.training.evaluation.labelled import make_outcome, make_picture


def outcomes(rates: dict[str, float], *, each: int, seed: int = 1) -> list[Outcome]:
    """Genuine files, of each language so many, that are called suspicious at the given rates, and
    synthetic ones that are all found but those in French.
    """
    rng = np.random.default_rng(seed)
    found = []
    for language, rate in rates.items():
        for number in range(each):
            alarm = rng.random() < rate
            word = "suspicious" if alarm else "authentic"
            traits = {"language": language, "device": f"device {number % 3}"}
            name = f"{language} {number}"
            one = make_outcome(name, synthetic=False, score=0.1, verdict=word, traits=traits)
            missed = "authentic" if language == "fr" else "synthetic"
            other = make_outcome(name, synthetic=True, score=0.9, verdict=missed, traits=traits)
            found += [one, other]
    return found


def test_a_group_that_is_accused_more_often_is_told_with_a_warning() -> None:
    groups = compare_groups(
        outcomes({"en": 0.02, "sw": 0.25, "fr": 0.02}, each=150), draws=100, seed=1
    )
    unfair = [it for it in groups if it.unfair]
    assert [(it.trait, it.value) for it in unfair] == [("language", "sw")]
    (swahili,) = unfair
    assert swahili.genuine == swahili.synthetic == 150
    assert swahili.alarmed is not None
    value, low, high = swahili.alarmed
    assert low < value < high
    assert low < 0.25 < high
    assert swahili.accused is not None
    assert swahili.accused[0] == 0.0
    french = next(it for it in groups if it.value == "fr")
    assert french.missed is not None
    assert french.missed[0] == 1.0
    (warning,) = warn_of_groups(groups)
    assert "language sw" in warning


def test_chance_gives_few_warnings_however_many_groups_there_are() -> None:
    rates = {f"language {number}": 0.15 for number in range(8)}
    warned = sum(
        bool(warn_of_groups(compare_groups(outcomes(rates, each=30, seed=seed), draws=1, seed=1)))
        for seed in range(60)
    )
    assert warned <= 8  # of 60 at 5 %; more would be chance in 1 of 300


def test_a_trait_with_one_value_and_files_without_a_verdict_are_no_groups() -> None:
    one = outcomes({"en": 0.5}, each=9)
    assert {it.trait for it in compare_groups(one, draws=1, seed=1)} == {"device"}
    failed = [make_outcome("x", synthetic=False, score=0.1, verdict=None, traits={"sex": "f"})]
    assert compare_groups(failed, draws=1, seed=1) == []


def test_folders_state_groups_too(tmp_path: Path) -> None:
    for part in ("genuine/news/language=sw", "genuine/news/other=x", "synthetic/gan/camera=B/day"):
        (tmp_path / part).mkdir(parents=True)
        (tmp_path / part / "a.png").write_bytes(b"x")
    (tmp_path / "genuine" / "news" / "language=c.png").write_bytes(b"x")
    found = {sample.name: sample.traits for sample in read_material(tmp_path)}
    assert found["genuine/news/language=sw/a.png"] == {"language": "sw"}
    assert found["synthetic/gan/camera=B/day/a.png"] == {"camera": "B"}
    assert [traits for traits in found.values() if not traits] == [{}, {}]


def test_groups_can_be_measured(
    tmp_path: Path, known_models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(4):
        folder = tmp_path / "genuine" / "one"
        folder.mkdir(parents=True, exist_ok=True)
        png = make_picture(40 * number, seed=number)
        (folder / f"{number}.png").write_bytes(png)
        with Image.open(io.BytesIO(png)) as picture:
            large = picture.convert("RGB").resize((1200, 900))
            large.save(folder / f"{number}.jpg")
    out = tmp_path / "out"
    words = ["evaluate", str(tmp_path), "--output", str(out), "--models", str(known_models)]
    assert main([*words, "--draws", "20"]) == 0
    assert not read_result(out / "evaluation.json").groups
    assert main([*words, "--draws", "20", "--measured-groups"]) == 0
    assert "format" in capsys.readouterr().out
    groups = {
        (it.trait, it.value): it.genuine for it in read_result(out / "evaluation.json").groups
    }
    assert groups == {
        ("format", "jpeg"): 4,
        ("format", "png"): 4,
        ("size", "under 0.3 MP"): 4,
        ("size", "1 to 4 MP"): 4,
    }


def test_the_manifest_states_groups_and_the_command_shows_them(
    tmp_path: Path, known_models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = ["path,label,source,camera,note"]
    for number in range(6):
        (tmp_path / f"{number}.png").write_bytes(make_picture(40 * number, seed=number))
        maker = '"Maker, ""A"" <b>"' if number % 2 else "B"
        rows.append(f"{number}.png,{'genuine' if number < 4 else 'fake'},one,{maker},x")
    (tmp_path / "manifest.csv").write_text("\n".join(rows) + "\n")
    assert read_material(tmp_path)[1].traits == {"camera": 'Maker, "A" <b>'}
    out = tmp_path / "out"
    words = ["evaluate", str(tmp_path), "--output", str(out), "--models", str(known_models)]
    assert main([*words, "--draws", "20"]) == 0
    assert "groups: false accusations and misses" in capsys.readouterr().out
    page = (out / "evaluation.html").read_text()
    assert "Maker, &#34;A&#34; &lt;b&gt;" in page
    result = read_result(out / "evaluation.json")
    assert {it.value for it in result.groups} == {'Maker, "A" <b>', "B"}
    assert sum(it.genuine for it in result.groups) == 4
    jsonschema.validate(result.to_dict(), EVALUATION_SCHEMA)
    again = ["evaluate", str(out / "evaluation.json"), "--output", str(tmp_path / "again")]
    assert main([*again, "--markdown"]) == 0
    assert "camera B" in capsys.readouterr().out
