from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.readme import CONSOLE, PYTHON, README, blur, make_samples, rewrite


@pytest.mark.timeout(200)
def test_the_blocks_of_the_readme_do_what_it_shows(tmp_path: Path) -> None:
    text = README.read_text(encoding="utf-8")
    assert len(CONSOLE.findall(text)) >= 3
    assert len(PYTHON.findall(text)) >= 2
    make_samples(tmp_path)
    assert blur(rewrite(text, tmp_path)) == blur(text)


def test_the_files_that_the_readme_links_exist() -> None:
    text = README.read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#:]+)\)", text)
    assert len(links) >= 4
    for link in links:
        assert (README.parent / link).exists(), link
