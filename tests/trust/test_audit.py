"""The audit log: whole as it was written, and nothing of it can be changed, moved or taken away."""

from __future__ import annotations

import csv
import json
import multiprocessing
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from deepfake.bundle import Bundle
from deepfake.commands.cli import main
from deepfake.errors import SettingsError
from deepfake.trust import audit
from deepfake.trust.audit import (
    AuditLog,
    Tampered,
    list_parts,
    search_entries,
    verify_log,
)
from deepfake.trust.envelopes import canonical
from deepfake.trust.keys import (
    PrivatePair,
    PublicPair,
    index_pairs,
    make_pair,
    read_private_pair,
)
from tests.bundles import keys_of_tests
from tests.media_files import image_bytes, scene

Lines = list[bytes]


@pytest.fixture
def pair() -> PrivatePair:
    return read_private_pair(keys_of_tests())


@pytest.fixture
def trusted(pair: PrivatePair) -> dict[str, PublicPair]:
    return index_pairs([pair.public])


@pytest.fixture
def log(tmp_path: Path, pair: PrivatePair, known_models: Path) -> Path:
    """Two sessions of two entries, each with its checkpoint: six lines."""
    path = tmp_path / "audit.jsonl"
    bundles = {"image": Bundle.read(known_models / "image-1")}
    for who in ("ada", "grace"):
        with AuditLog(path, pair, who=who) as log:
            log.append("detect", media="a" * 64, bundles=bundles, verdict="synthetic")
            log.append("detect", error="corrupt")
    return path


def read(path: Path) -> Lines:
    return path.read_bytes().splitlines(keepends=True)


def test_a_log_holds_who_asked_what_and_no_more(
    log: Path, trusted: dict[str, PublicPair], known_models: Path
) -> None:
    verified = verify_log(log, trusted)
    assert (verified.files, verified.entries, verified.checkpoints) == (1, 4, 2)
    assert verified.unsigned == 0
    first = json.loads(read(log)[0])
    assert set(first) == audit.FIELDS
    image = Bundle.read(known_models / "image-1")
    assert first["bundles"] == {"image": {"name": "image-1", "sha256": image.sha256}}
    assert (first["who"], first["verdict"], first["media"]) == ("ada", "synthetic", "a" * 64)
    assert verify_log(log, trusted, expect=verified.head) == verified
    found = list(search_entries(log, who="grace", verdict="synthetic", bundle="image-1"))
    assert [one["number"] for one in found] == [4]
    assert list(search_entries(log, bundle=image.sha256, since="2999")) == []
    assert len(list(search_entries(log, media="a" * 64, until=first["time"][:4]))) == 2


@pytest.mark.slow
def test_every_changed_byte_is_noticed(
    tmp_path: Path, pair: PrivatePair, trusted: dict[str, PublicPair]
) -> None:
    log = tmp_path / "audit.jsonl"
    with AuditLog(log, pair, who="ada") as opened:
        opened.append("detect", media="a" * 64, verdict="synthetic")
        opened.append("detect", error="corrupt")
    for path in (log, log.with_name("audit.jsonl.head")):
        content = path.read_bytes()
        with path.open("rb+", buffering=0) as file:
            for place, byte in enumerate(content):
                os.pwrite(file.fileno(), bytes([byte ^ (place % 255 + 1)]), place)
                with pytest.raises(Tampered):
                    verify_log(log, trusted)
                os.pwrite(file.fileno(), bytes([byte]), place)
    verify_log(log, trusted)


def test_a_log_that_was_cut_anywhere_is_noticed(log: Path, trusted: dict[str, PublicPair]) -> None:
    content = log.read_bytes()
    for end in range(0, len(content), 97):
        log.write_bytes(content[:end])
        with pytest.raises(Tampered):
            verify_log(log, trusted)


def without_the_first(lines: Lines) -> Lines:
    return lines[1:]


def without_one(lines: Lines) -> Lines:
    return [*lines[:1], *lines[2:]]


def without_a_checkpoint(lines: Lines) -> Lines:
    return [*lines[:2], *lines[3:]]


def without_the_last(lines: Lines) -> Lines:
    return lines[:-1]


def back_to_the_first_checkpoint(lines: Lines) -> Lines:
    return lines[:3]


def moved(lines: Lines) -> Lines:
    return [lines[1], lines[0], *lines[2:]]


def sessions_swapped(lines: Lines) -> Lines:
    return [*lines[3:], *lines[:3]]


def repeated(lines: Lines) -> Lines:
    return [*lines[:1], *lines]


def chained_anew(lines: Lines) -> Lines:
    """Another verdict, with a right chain of hashes after it: only the signatures tell."""
    return chain([{**json.loads(lines[0]), "verdict": "authentic"}, *map(json.loads, lines[1:])])


def inserted(lines: Lines) -> Lines:
    """One more entry of the same form, with a right chain of hashes after it."""
    values = [*map(json.loads, lines)]
    return chain([values[0], *values])


def emptied(lines: Lines) -> Lines:
    return []


def chain(values: list[dict]) -> Lines:
    import hashlib

    previous, found = audit.FIRST, []
    for number, one in enumerate(values, 1):
        found.append(canonical({**one, "number": number, "previous": previous}) + b"\n")
        previous = hashlib.sha256(found[-1]).hexdigest()
    return found


CHANGES = (
    without_the_first,
    without_one,
    without_a_checkpoint,
    without_the_last,
    back_to_the_first_checkpoint,
    moved,
    sessions_swapped,
    repeated,
    chained_anew,
    inserted,
    emptied,
)


@pytest.mark.parametrize("change", CHANGES)
def test_edits_insertions_moves_and_cuts_are_noticed(
    log: Path, trusted: dict[str, PublicPair], change: Callable[[Lines], Lines]
) -> None:
    log.write_bytes(b"".join(change(read(log))))
    with pytest.raises(Tampered, match=r"line [0-9]"):
        verify_log(log, trusted)


def test_what_is_cut_with_all_beside_it_is_told_by_a_hash_kept_elsewhere(
    log: Path, trusted: dict[str, PublicPair]
) -> None:
    head = verify_log(log, trusted).head
    lines = read(log)
    log.write_bytes(b"".join(lines[:3]))
    import hashlib

    values = {"lines": 3, "last": hashlib.sha256(lines[2]).hexdigest()}
    log.with_name("audit.jsonl.head").write_bytes(canonical(values) + b"\n")
    assert verify_log(log, trusted).entries == 2, "which is what --expect is for"
    with pytest.raises(Tampered, match="no line has the expected hash"):
        verify_log(log, trusted, expect=head)


def test_checkpoints_of_others_do_not_hold(log: Path, tmp_path: Path) -> None:
    other = make_pair(tmp_path / "other", "other")
    with pytest.raises(Tampered, match="line 3 is a checkpoint, but is not signed by a trusted"):
        verify_log(log, index_pairs([other.public]))


def test_without_its_head_a_log_is_not_whole(log: Path, trusted: dict[str, PublicPair]) -> None:
    log.with_name("audit.jsonl.head").unlink()
    with pytest.raises(Tampered, match=r"audit\.jsonl\.head is missing or damaged"):
        verify_log(log, trusted)
    with pytest.raises(SettingsError, match="not found"):
        list(search_entries(log.with_name("none")))


def write_many(path: Path, keys: Path, who: str, most_bytes: int) -> None:
    with AuditLog(path, read_private_pair(keys), who=who, most_bytes=most_bytes) as log:
        for _ in range(20):
            log.append("scan", media="b" * 64, verdict="authentic")


def test_several_processes_write_one_chain_through_rotations(
    tmp_path: Path, trusted: dict[str, PublicPair]
) -> None:
    path = tmp_path / "audit.jsonl"
    context = multiprocessing.get_context("spawn")
    writers = [
        context.Process(target=write_many, args=(path, keys_of_tests(), f"writer-{n}", 12_000))
        for n in range(3)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    verified = verify_log(path, trusted)
    assert verified.entries == 60
    assert verified.files == len(list_parts(path)) >= 2
    assert [one["who"] for one in search_entries(path)].count("writer-1") == 20
    parts = list_parts(path)
    content = parts[0].read_bytes()
    parts[0].unlink()
    with pytest.raises(Tampered):
        verify_log(path, trusted)
    parts[0].write_bytes(content[:-1])
    with pytest.raises(Tampered):
        verify_log(path, trusted)


def test_the_oldest_part_is_missed_right_after_a_rotation_too(
    tmp_path: Path, trusted: dict[str, PublicPair]
) -> None:
    path = tmp_path / "audit.jsonl"
    for _ in range(3):
        write_many(path, keys_of_tests(), "writer", 6_000)
    first, second, *later = list_parts(path)
    assert path in later, "there are several old parts"
    path.unlink(missing_ok=True)
    first.unlink()
    with pytest.raises(Tampered, match="is missing"):
        verify_log(path, trusted)
    for part in (second, *later):
        part.unlink(missing_ok=True)
    with pytest.raises(SettingsError, match="not found"):
        verify_log(path, trusted)


def test_what_a_killed_writer_left_half_is_cut_off(
    log: Path, pair: PrivatePair, trusted: dict[str, PublicPair]
) -> None:
    with log.open("ab") as file:
        file.write(b'{"bundles":{},"error":nu')
    with pytest.raises(Tampered, match="line 7 is not as it was written"):
        verify_log(log, trusted)
    with AuditLog(log, pair, who="later") as later:
        later.append("detect", media="c" * 64, verdict="inconclusive")
    assert verify_log(log, trusted).entries == 5


def test_entries_after_the_last_checkpoint_are_told(
    log: Path, pair: PrivatePair, trusted: dict[str, PublicPair]
) -> None:
    AuditLog(log, pair, who="killed").append("detect", media="c" * 64, verdict="inconclusive")
    assert verify_log(log, trusted).unsigned == 1


def test_nothing_but_hashes_and_words_is_taken(log: Path, pair: PrivatePair) -> None:
    before = log.read_bytes()
    opened = AuditLog(log, pair, who="ada\x1b[31m\n")
    assert opened.who == "ada[31m"
    for values in ({"media": "/home/ada/photo.jpg"}, {"verdict": "photo.jpg"}, {"error": "a b"}):
        with pytest.raises(ValueError, match=r"sha256 alone|no word of a log"):
            opened.append("detect", **values)
    assert log.read_bytes() == before
    other = log.with_name("notes.txt")
    other.write_text("no log\n")
    with (
        pytest.raises(Tampered, match="last line is not one of a log"),
        AuditLog(other, pair, who="ada"),
    ):
        pass
    link = log.with_name("link.jsonl")
    link.symlink_to(log)
    with pytest.raises(SettingsError, match="cannot be written"):
        AuditLog(link, pair, who="ada").append("detect")


@pytest.fixture
def files(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "secret-place"
    folder.mkdir()
    (folder / "photo.png").write_bytes(image_bytes(scene(200, 120)))
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(60))
    yield folder
    shutil.rmtree(folder)


def test_commands_write_and_read_it(
    files: Path, known_models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log, place = tmp_path / "audit.jsonl", ["--models", str(known_models)]
    keys = ["--audit-keys", str(keys_of_tests())]
    written = ["--audit", str(log), *keys, "--audit-who", "=ada"]
    paths = [str(files / "photo.png"), str(files / "broken.png")]
    assert main(["detect", *paths, *place, *written]) == 1
    output = ["--output", str(tmp_path / "results.jsonl"), "--workers", "1"]
    assert main(["scan", str(files), *output, *place, *written]) == 1
    assert main(["scan", str(files), *output, *place, *written]) == 1, "nothing is examined anew"
    text = log.read_text()
    assert "photo" not in text
    assert "secret-place" not in text
    capsys.readouterr()
    assert main(["audit", "verify", str(log)]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == "whole: 4 entries and 2 checkpoints in 1 file(s)"
    assert main(["audit", "verify", str(log), "--expect", shown[1]]) == 0
    capsys.readouterr()
    assert main(["audit", "search", str(log), "--bundle", "image-1", "--who", "=ada"]) == 0
    entries = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert sorted((one["what"], one["error"] or "") for one in entries) == [
        ("detect", ""),
        ("detect", "corrupt"),
        ("scan", ""),
        ("scan", "corrupt"),
    ]
    assert len({one["media"] for one in entries if one["verdict"]}) == 1
    table = tmp_path / "audit.csv"
    assert main(["audit", "export", str(log), "--output", str(table)]) == 0
    rows = list(csv.DictReader(table.read_text(encoding="utf-8").splitlines()))
    assert [row["who"] for row in rows] == ["'=ada"] * 4
    assert main(["audit", "export", str(log)]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 4
    log.write_bytes(log.read_bytes().replace(b"corrupt", b"healthy", 1))
    assert main(["audit", "verify", str(log)]) == 1
    assert "does not follow the one before" in capsys.readouterr().err
    assert main(["audit", "export", str(log)]) == 1
    assert main(["detect", paths[0], *place, *keys]) == 2, "keys without a log"
