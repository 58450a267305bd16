from __future__ import annotations

import re
from pathlib import Path

import pytest
from deepfake_app.explanations import explain

import deepfake
from deepfake.analyzers.claims import EXPLANATIONS
from deepfake.fusion import Policy


def codes_of_sources() -> set[str]:
    """The reason codes that the package's text gives to evidence and to fusion."""
    folder = Path(deepfake.__file__).parent
    files = [*folder.glob("analyzers/*.py"), folder / "fusion.py"]
    text = "".join(path.read_text(encoding="utf-8") for path in files)
    return set(re.findall(r'(?:reason|code)="([a-z_]+)"', text))


@pytest.mark.parametrize("code", sorted({*EXPLANATIONS, *Policy().cautions, *codes_of_sources()}))
def test_every_code_has_a_meaning_and_a_remedy(code: str) -> None:
    found = explain(code)
    assert found
    for sentence in found:
        assert sentence.endswith(".")
        assert len(sentence) > 15


@pytest.mark.parametrize("source", ["image", "face", "audio", "video"])
@pytest.mark.parametrize("word", ["synthetic", "suspicious", "authentic"])
def test_the_words_of_every_source_are_explained(source: str, word: str) -> None:
    found = explain(f"{source}_{word}")
    assert found
    assert "{" not in found.meaning


def test_an_unknown_code_has_none() -> None:
    assert explain("nonsense") is None
    assert explain("nonsense_synthetic") is None
