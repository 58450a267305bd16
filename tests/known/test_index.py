"""The index of known media: its file, the forms of ThreatExchange, and what is odd in either."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest

from deepfake.errors import SettingsError
from deepfake.known.exchange import read_exchange, write_exchange
from deepfake.known.fingerprints import Fingerprint, take_fingerprint
from deepfake.known.index import Entry, Known, Ruled, changing, read_known
from deepfake.media.opening import open_media
from tests.known.patterns import pattern
from tests.media_files import image_bytes

AT = "2026-11-29T10:00:00Z"


def entry(seed: int, *, ruled: Ruled = Ruled.SYNTHETIC, by: str = "desk") -> Entry:
    with open_media(image_bytes(pattern(seed))) as media:
        found, sha256 = take_fingerprint(media), media.info.sha256
    return Entry(id=sha256, ruled=ruled, by=by, at=AT, sha256=sha256, fingerprint=found)


def test_an_index_is_kept_and_changed(tmp_path: Path) -> None:
    path = tmp_path / "new" / "known.jsonl"
    one, other = entry(1), entry(2, by="Ünal „x“\N{HEAVY BLACK HEART}")
    with changing(path) as entries:
        entries.update({(it.id, it.by): it for it in (one, other)})
    assert read_known(path).entries == (one, other)
    with contextlib.suppress(RuntimeError), changing(path) as entries:
        entries.clear()
        raise RuntimeError  # before anything is written
    with contextlib.suppress(KeyboardInterrupt), changing(path) as entries:
        assert len(entries) == 2
        entries[one.id, "desk"] = entry(1, ruled=Ruled.GENUINE)
        raise KeyboardInterrupt  # which keeps what was ruled before
    assert [it.ruled for it in read_known(path).entries] == [Ruled.GENUINE, Ruled.SYNTHETIC]
    assert {it.name for it in path.parent.iterdir()} == {"known.jsonl", "known.jsonl.lock"}


@pytest.mark.parametrize(
    "line",
    [
        "not json",
        "[]",
        "[" * 100_000,
        '{"id": "a"}',
        json.dumps(entry(1).to_dict() | {"ruled": "maybe"}),
        json.dumps(entry(1).to_dict() | {"at": "yesterday"}),
        json.dumps(entry(1).to_dict() | {"id": "a\x1b[2J"}),
        json.dumps(entry(1).to_dict() | {"sha256": None, "fingerprint": None}),
        json.dumps(entry(1).to_dict() | {"fingerprint": {"kind": "image", "pdq": ["zz"]}}),
        json.dumps(
            entry(1).to_dict()
            | {"fingerprint": {"kind": "audio", "pdq": [], "sound": "AAAAA", "parts": ""}}
        ),
        json.dumps(
            entry(1).to_dict()
            | {"fingerprint": {"kind": "audio", "pdq": [], "sound": "A" * 40_000, "parts": ""}}
        ),
        "\x00",
    ],
)
def test_a_line_that_is_no_entry_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "known.jsonl"
    path.write_text(json.dumps(entry(2).to_dict()) + "\n" + line + "\n", encoding="utf-8")
    with pytest.raises(SettingsError, match="line 2 is none"):
        read_known(path)


def test_a_place_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        read_known(tmp_path / "none.jsonl")
    with pytest.raises(SettingsError, match="cannot be read"):
        read_known(tmp_path)
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SettingsError, match="is no text"):
        read_known(tmp_path / "bytes")
    (tmp_path / "file").write_text("")
    place = changing(tmp_path / "file" / "known.jsonl")
    with pytest.raises(SettingsError, match="cannot be written"), place:
        pass


def test_the_same_bytes_come_first(tmp_path: Path) -> None:
    one = entry(1)
    named = Entry(id="x", ruled=Ruled.GENUINE, by="b", at=AT, sha256=one.sha256)
    known = Known([entry(2), one, named])
    copies = known.find(one.fingerprint, sha256=str(one.sha256))
    assert [(copy.entry.id, copy.difference) for copy in copies] == [(one.id, None), ("x", None)]
    assert known.find(None, sha256="0" * 64) == []


@pytest.mark.parametrize("name", ["known.csv", "known.json"])
def test_an_exchange_gives_back_what_it_took(tmp_path: Path, name: str) -> None:
    clip = Fingerprint.from_dict(
        {"kind": "video", "pdq": ["0f" * 32, "a5" * 32], "parts": "", "sound": ""}
    )
    sound = Fingerprint.from_dict({"kind": "audio", "pdq": [], "parts": "", "sound": "AAAB" * 80})
    entries = [
        entry(1),
        Entry(id="clip", ruled=Ruled.GENUINE, by='a "quoted", name', at=AT, fingerprint=clip),
        Entry(id="sound", ruled=Ruled.SYNTHETIC, by="desk", at=AT, fingerprint=sound, note="why"),
    ]
    path = tmp_path / name
    assert write_exchange(entries, path) == 4
    found = read_exchange(path)
    assert found.left_out == 0
    first, picture, moving, heard = found.entries
    assert (first.sha256, first.fingerprint) == (entries[0].sha256, None)
    assert picture.fingerprint is not None
    assert picture.fingerprint.wholes == entries[0].fingerprint.wholes  # type: ignore[union-attr]
    assert (moving.fingerprint, moving.ruled, moving.by) == (clip, Ruled.GENUINE, entries[1].by)
    assert (heard.fingerprint, heard.note, heard.at) == (sound, "why", AT)


def test_what_rules_on_nothing_is_left_out(tmp_path: Path) -> None:
    good = {"type": "HASH_PDQ", "status": "MALICIOUS", "added_on": "2020-07-01T18:31:15+0200"}
    pdq = "facefacefacefacefacefacefacefacefacefacefacefacefacefacefaceface"
    rows = [
        good | {"raw_indicator": pdq, "owner": {"id": "616912251743987"}},
        good | {"indicator": {"indicator": pdq}, "owner": {"name": "a\x1b[2Jb\n"}, "id": "7"},
        good | {"indicator": pdq, "added_on": 1601513796},
        good | {"indicator": pdq, "status": "UNKNOWN"},
        good | {"indicator": pdq, "type": "HASH_TMK"},
        good | {"indicator": pdq[:-1]},
        good | {"indicator": pdq, "added_on": "soon"},
        good | {"indicator": pdq, "added_on": 10**30},
        good | {"type": "HASH_VIDEO_VPDQ", "indicator": "[" * 50_000},
        None,
    ]
    path = tmp_path / "descriptors.json"
    path.write_text(json.dumps({"data": rows}))
    found = read_exchange(path)
    assert [(it.by, it.at) for it in found.entries] == [
        ("616912251743987", "2020-07-01T16:31:15Z"),
        ("a[2Jb", "2020-07-01T16:31:15Z"),
        ("ThreatExchange", "2020-10-01T00:56:36Z"),
    ]
    assert found.left_out == 7


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.json", "{"),
        ("a.json", "[" * 100_000),
        ("a.json", '{"data": 7}'),
        ("a.csv", "a,b\n1,2\n"),
        ("a.csv", ""),
    ],
)
def test_what_is_no_exchange_is_told(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(SettingsError, match="cannot be read"):
        read_exchange(tmp_path / name)
