from __future__ import annotations

import fcntl
import io
import json
import os
import tempfile
from functools import cache
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from deepfake.commands.cli import main
from deepfake.errors import DeepfakeError, SettingsError
from deepfake.scan.repair import repair_results, survey_results
from tests.media_files import image_bytes, scene
from tests.scans import PROPERTY, append_lines, open_journal, read_lines

NAMES = ["a.jpg", 'quo"te.jpg', os.fsdecode(b"not-utf8-\xff.jpg"), '{"path": "b".jpg', "é\n.png"]


@cache
def lines() -> tuple[bytes, ...]:
    """Lines as a scan writes them."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "r.jsonl"
        with open_journal(output) as journal:
            append_lines(journal, NAMES)
        return tuple(output.read_bytes().splitlines(keepends=True))


def salvage(content: bytes) -> list[bytes]:
    """The lines that a repair would keep, checked against what it says is lost."""
    survey = survey_results(io.BytesIO(content))
    kept = b""
    for start, stop, ended in survey.kept:
        kept += content[start:stop] + (b"" if ended else b"\n")
    lost = sum(loss.size_bytes for loss in survey.losses)
    assert lost + sum(stop - start for start, stop, _ in survey.kept) == len(content)
    assert survey.damaged == (kept != content)
    found = [line + b"\n" for line in kept.split(b"\n")[:-1]]
    assert len(found) == survey.lines
    return [line.strip(b" \t\r\n") + b"\n" for line in found]


def untouched(start: int, stop: int) -> list[bytes]:
    """The lines that no byte of a range belongs to."""
    at, found = 0, []
    for line in lines():
        if at + len(line) <= start or at >= stop:
            found.append(line)
        at += len(line)
    return found


def is_part(wanted: list[bytes], found: list[bytes]) -> bool:
    """Whether all that is wanted was found, in its order."""
    rest = iter(found)
    return all(line in rest for line in wanted)


def owner(line: bytes) -> tuple[str, str | None]:
    values = json.loads(line)
    return values["path"], values.get("sha256")


ranges = st.tuples(*[st.integers(0, sum(map(len, lines())))] * 2).map(sorted)


@PROPERTY
@given(ranges)
@example([len(lines()[0]) - 1, len(lines()[0])])  # a line end
@example([0, len(lines()[0]) + 1])
def test_any_cut_leaves_the_other_lines(cut: list[int]) -> None:
    content = b"".join(lines())
    found = salvage(content[: cut[0]] + content[cut[1] :])
    assert is_part(untouched(*cut), found)
    assert {*map(owner, found)} <= {*map(owner, lines())}  # never parts of two as one


FILLS = st.one_of(
    st.sampled_from([b"\0", b"\n", b" ", b"{", b'"', b"\xe2\x82", b"[", b"\\", lines()[1]]),
    st.binary(min_size=1, max_size=40),
)


@PROPERTY
@given(ranges, FILLS)
@example([len(lines()[0]) - 1, len(lines()[0]) + 1], b"\0")
def test_any_overwritten_range_leaves_the_other_lines(taken: list[int], fill: bytes) -> None:
    content, (start, stop) = b"".join(lines()), taken
    filled = (fill * (stop - start))[: stop - start]
    found = salvage(content[:start] + filled + content[stop:])
    assert is_part(untouched(start, stop), found)


@PROPERTY
@given(st.integers(0, len(NAMES)), st.binary(max_size=200).filter(lambda raw: b"{" not in raw))
def test_anything_put_between_leaves_all_lines(place: int, strange: bytes) -> None:
    before, after = b"".join(lines()[:place]), b"".join(lines()[place:])
    assert salvage(before + strange + after) == [*lines()]


FIRST, SECOND, THIRD = lines()[:3]
DAMAGES = {
    "torn middle line": (FIRST + SECOND[:70] + b"\n" + THIRD, [FIRST, THIRD], 1),
    "torn middle line without its end": (FIRST + SECOND[:70] + THIRD, [FIRST, THIRD], 1),
    "NUL tail": (FIRST + SECOND + b"\0" * 4096, [FIRST, SECOND], 0),
    "NUL hole": (FIRST + SECOND[:30] + b"\0" * 9000 + SECOND[80:] + THIRD, [FIRST, THIRD], 2),
    "NUL hole of lines": (FIRST + b"\0" * 3_000_000 + THIRD, [FIRST, THIRD], 0),
    "half UTF-8": (FIRST + SECOND.replace(b"quo", b"qu\xc3") + THIRD, [FIRST, THIRD], 1),
    "lines glued": (FIRST + SECOND[:-1] + THIRD, [FIRST, SECOND, THIRD], 0),
    "all glued": (FIRST[:-1] + SECOND[:-1] + THIRD[:-1], [FIRST, SECOND, THIRD], 0),
    "a foreign line": (FIRST + b'{"name": "other"}\n' + THIRD, [FIRST, THIRD], 1),
    "an empty line": (FIRST + b"\n" + THIRD, [FIRST, THIRD], 0),
    "a torn end": (FIRST + SECOND[:-9], [FIRST], 1),
    "only a torn line": (FIRST[:90], [], 1),
    "only a torn error": (THIRD[:30], [], 1),
    "a torn first line": (FIRST[:90] + b"\n\0\0", [], 1),
}


@pytest.mark.parametrize("case", DAMAGES)
def test_whole_lines_stay_and_the_damaged_file_is_kept(tmp_path: Path, case: str) -> None:
    content, kept, torn = DAMAGES[case]
    output = tmp_path / "r.jsonl"
    output.write_bytes(content)
    output.chmod(0o640)
    for name in ("r.jsonl.damaged", "r.jsonl.damaged-2"):
        (tmp_path / name).write_text("of before")
    repair = repair_results(output)
    assert repair is not None
    assert output.read_bytes() == b"".join(kept)
    assert output.stat().st_mode & 0o777 == 0o640
    assert repair.original == tmp_path / "r.jsonl.damaged-3"
    assert repair.original.read_bytes() == content
    assert (tmp_path / "r.jsonl.damaged").read_text() == "of before"
    assert len(list(tmp_path.iterdir())) == 4
    assert (repair.survey.lines, repair.survey.torn) == (len(kept), torn)
    lost = sum(loss.size_bytes for loss in repair.survey.losses)
    assert lost == len(content) - sum(map(len, kept)) + sum(not k.ended for k in repair.survey.kept)
    for loss in repair.survey.losses:
        assert f"{loss.size_bytes:,} at byte {loss.offset:,}" in str(repair)
    with open_journal(output):
        pass
    assert repair_results(output) is None


@pytest.mark.parametrize(
    "content",
    [
        b"do not lose me\n",
        b"no newline",
        b'{"name": "other"}\n',
        b'{"path": "a"}',
        b'{"path": "a"}\n{"path": "b"\n',
        b'{"schema": "deepfake-report/1", "path": "a"}\n',
        b"\0" * 5000,
        b"PK\x03\x04" + bytes(range(256)),
    ],
)
def test_a_file_that_is_not_of_a_scan_is_refused_and_untouched(
    tmp_path: Path, content: bytes
) -> None:
    output = tmp_path / "r.jsonl"
    output.write_bytes(content)
    with pytest.raises(SettingsError, match="not of a scan"):
        repair_results(output)
    assert output.read_bytes() == content
    assert list(tmp_path.iterdir()) == [output]


def test_no_damage_is_no_repair(tmp_path: Path) -> None:
    output = tmp_path / "r.jsonl"
    assert repair_results(output) is None
    assert not output.exists()
    for content in (b"", FIRST, FIRST + SECOND):
        output.write_bytes(content)
        assert repair_results(output) is None
        assert output.read_bytes() == content
    assert list(tmp_path.iterdir()) == [output]


def test_a_file_in_use_or_no_file_is_not_repaired(tmp_path: Path) -> None:
    output = tmp_path / "r.jsonl"
    output.write_bytes(FIRST + b"\0\0" + SECOND)
    with output.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(SettingsError, match="another scan is writing it"):
            repair_results(output)
    with pytest.raises(SettingsError, match="not a regular file"):
        repair_results(Path("/dev/null"))
    with pytest.raises(DeepfakeError, match="cannot be repaired"):
        repair_results(tmp_path)
    assert list(tmp_path.iterdir()) == [output]


def test_a_link_to_the_results_stays_one(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    real, link = tmp_path / "disk" / "r.jsonl", tmp_path / "r.jsonl"
    real.write_bytes(FIRST + b"\0\0" + SECOND)
    link.symlink_to(real)
    assert repair_results(link)
    assert link.is_symlink()
    assert real.read_bytes() == FIRST + SECOND


def test_a_scan_repairs_and_goes_on(
    tmp_path: Path, known_models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, output = tmp_path / "media", tmp_path / "media" / "r.jsonl"
    root.mkdir()
    for number in range(3):
        (root / f"{number}.png").write_bytes(image_bytes(scene(seed=number)))
    command = ["scan", str(root), "--output", str(output), "--models", str(known_models)]
    command += ["--workers", "1", "--no-stability"]
    assert main(command) == 0
    first, second, third = output.read_bytes().splitlines(keepends=True)
    damaged = first + second[: len(second) // 2] + third + b"\0" * 512
    output.write_bytes(damaged)
    assert main(command) == 2
    assert "--repair" in capsys.readouterr().err
    assert output.read_bytes() == damaged
    assert main([*command, "--repair"]) == 0
    told = capsys.readouterr()
    assert "2 whole lines kept, lost 1 pieces of lines" in told.err
    assert f"at byte {len(first):,}" in told.err
    assert f"512 at byte {len(damaged) - 512:,}" in told.err
    assert (root / "r.jsonl.damaged").read_bytes() == damaged
    assert output.read_bytes().startswith(first + third)
    names = sorted(Path(line["path"]).name for line in read_lines(output))
    assert names == ["0.png", "1.png", "2.png"]  # never the damaged file
    assert main([*command, "--repair"]) == 0
    assert "nothing to repair" in capsys.readouterr().err
