from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from deepfake_training.evaluation.compare import compare_results
from deepfake_training.evaluation.run import Outcome

from deepfake.errors import SettingsError
from tests.bundles import make_models

from .labelled import make_folder, make_outcome
from .test_run import evaluate


def make_outcomes(*, shift: float, seed: int = 1) -> list[Outcome]:
    """Eighty files of eight groups; ``shift`` moves the synthetic ones up."""
    rng = np.random.default_rng(seed)
    found = []
    for number in range(80):
        synthetic = number % 2 == 0
        score = float(np.clip(0.5 + 0.15 * rng.standard_normal() + shift * synthetic, 0, 1))
        group = f"group-{number % 8}"
        found.append(make_outcome(f"{number}.png", synthetic=synthetic, score=score, group=group))
    return found


def test_an_improvement_is_told_with_its_size() -> None:
    before, after = make_outcomes(shift=0.1), make_outcomes(shift=0.45)
    pairing = compare_results(before, after, draws=300, seed=1)
    fused, own = pairing.comparisons
    assert (fused.first, own.second) == ("fused before", "image now")
    assert fused.second_auc > 0.95 > fused.first_auc
    assert fused.gain[1] > 0
    assert max(fused.p_sources, fused.p_files) < 0.05
    assert "fused now ranks better than fused before" in fused.text
    synthetic, genuine = pairing.flips
    assert synthetic.raised > 10
    assert synthetic.dropped == 0
    assert synthetic.p < 0.01
    assert "an improvement" in synthetic.text
    assert genuine.raised == genuine.dropped == 0
    assert "nothing changed" in genuine.text
    assert (pairing.paired, pairing.missing) == (80, 0)
    back = compare_results(after, before, draws=300, seed=1)
    assert "fused before ranks better than fused now" in back.comparisons[0].text
    assert "for the worse" in back.flips[0].text


def test_chance_is_called_chance() -> None:
    before, after = make_outcomes(shift=0.1), make_outcomes(shift=0.1, seed=2)
    found = compare_results(before, after[:70], draws=300, seed=1)
    assert "may be chance" in found.comparisons[0].text
    assert found.missing == 10


def test_other_files_or_labels_cannot_be_compared() -> None:
    before = make_outcomes(shift=0.1)
    other = [make_outcome("x", synthetic=True, score=0.5)]
    with pytest.raises(SettingsError, match="no file and view in common"):
        compare_results(before, other, draws=10, seed=1)
    turned = [make_outcome("0.png", synthetic=False, score=0.5)]
    with pytest.raises(SettingsError, match=r"label 0\.png differently"):
        compare_results(before, turned, draws=10, seed=1)


def test_two_models_are_compared_from_the_command_line(
    tmp_path: Path, known_models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    material = make_folder(tmp_path / "mine")
    worse = make_models(tmp_path / "models", gain=-4.0)
    assert evaluate(material, tmp_path / "before", known_models) == 0
    first = tmp_path / "before" / "evaluation.json"
    assert evaluate(material, tmp_path / "now", worse, "--compare", str(first)) == 0
    text = capsys.readouterr().out
    assert "12 views of files in both, 0 in one alone" in text
    assert "image, as-is: image before ranks better than image now" in text
    assert "Before and now" not in (tmp_path / "before" / "evaluation.html").read_text()
    assert "Before and now" in (tmp_path / "now" / "evaluation.html").read_text()
