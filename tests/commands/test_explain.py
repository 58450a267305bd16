from __future__ import annotations

import pytest

from deepfake.commands.cli import main
from deepfake.commands.explain import render_tables
from deepfake.reasons import Code, Group


def test_codes_are_explained_in_their_order(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "worker_died", "No-Face"]) == 0
    text = capsys.readouterr().out
    for code in (Code.WORKER_DIED, Code.NO_FACE):
        assert code.meaning in text
        assert code.remedy in text
    assert text.index("worker_died\n") < text.index("no_face\n")


def test_without_a_code_all_are_listed_in_groups(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain"]) == 0
    blocks = capsys.readouterr().out.strip().split("\n\n")
    assert len(blocks) == len(Group)
    for group, block in zip(Group, blocks, strict=True):
        heading, *rows = block.splitlines()
        assert heading.lower() == group.value.lower()
        assert [row.split()[0] for row in rows] == [code for code in Code if code.group is group]


def test_a_former_code_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "metadata_conclusive"]) == 0
    assert "No longer given" in capsys.readouterr().out


def test_an_unknown_code_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "no_face", "worker_dide"]) == 2
    captured = capsys.readouterr()
    assert "worker_died" in captured.err
    assert captured.out == ""
    assert main(["explain", "\x1b[2Jzzzz"]) == 2
    captured = capsys.readouterr()
    assert "did you mean" not in captured.err
    assert "\x1b" not in captured.err


def test_the_tables_have_a_row_for_every_code() -> None:
    lines = render_tables().splitlines()
    assert [line[3:].lower() for line in lines if line.startswith("## ")] == [
        group.value.lower() for group in Group
    ]
    rows = [line for line in lines if line.startswith("| `")]
    assert rows == [row for group in Group for row in rows if _of(row).group is group]
    for row in rows:
        assert _of(row).meaning in row
        assert _of(row).remedy in row
    assert {_of(row) for row in rows} == set(Code)


def _of(row: str) -> Code:
    return Code(row.split("`")[1])
