from __future__ import annotations

from pathlib import Path

import pytest
from deepfake_training.evaluation.material import digest_files, limit_each, read_material

from deepfake.errors import SettingsError

from .labelled import make_folder


def test_a_folder_names_class_and_source(tmp_path: Path) -> None:
    make_folder(tmp_path)
    (tmp_path / "genuine" / ".hidden").write_bytes(b"x")
    (tmp_path / "genuine" / "loose.png").write_bytes(b"x")
    (tmp_path / "notes" / "more").mkdir(parents=True)
    (tmp_path / "notes" / "more" / "a.txt").write_text("no class")
    found = read_material(tmp_path)
    assert len(found) == 13
    assert {(one.synthetic, one.source) for one in found} == {
        *((False, "camera"), (False, "phone"), (False, "genuine (no folder)")),
        *((True, "alpha"), (True, "beta")),
    }
    assert found[0].name == "genuine/camera/0.png"


@pytest.mark.parametrize(("suffix", "separator"), [("tsv", "\t"), ("csv", ",")])
def test_a_manifest_names_them_in_columns(tmp_path: Path, suffix: str, separator: str) -> None:
    rows = [
        ["path", "label", "system", "repo"],
        ['a"b.png', "fake", "x", "one/two"],
        ["c.png", "genuine", "y", ""],
    ]
    text = "\n".join(separator.join(row) for row in rows)
    manifest = tmp_path / f"manifest.{suffix}"
    manifest.write_text(text.replace('a"b', "ab") if suffix == "csv" else text)
    first, second = read_material(tmp_path)
    assert (first.synthetic, first.source, first.group) == (True, "x", "one/two")
    assert (second.synthetic, second.source, second.group) == (False, "y", "y")
    assert first.path.parent == tmp_path
    assert read_material(manifest) == [first, second]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("path\tsource\na\tb\n", "lacks a column"),
        ("path\tlabel\tsource\na\tmaybe\tb\n", "line 2: label maybe is unknown"),
        ("path\tlabel\tsource\na\tfake\n", "line 2: cells"),
        ("path\tlabel\tsource\n", "no labelled file"),
        ("\xff", "cannot be read"),
    ],
)
def test_what_is_no_material_is_refused(tmp_path: Path, text: str, why: str) -> None:
    manifest = tmp_path / "list.tsv"
    manifest.write_bytes(text.encode("latin-1"))
    with pytest.raises(SettingsError, match=why):
        read_material(manifest)
    with pytest.raises(SettingsError, match="has no labelled file"):
        read_material(tmp_path)
    with pytest.raises(SettingsError, match="does not exist"):
        read_material(tmp_path / "nowhere")


def test_a_limit_takes_the_same_files_whatever_else_there_is(tmp_path: Path) -> None:
    samples = read_material(make_folder(tmp_path))
    some = limit_each(samples, most=2, seed=1)
    assert len(some) == 8
    fewer = [one for one in samples if one.source != "alpha"]
    assert limit_each(fewer, most=2, seed=1) == [one for one in some if one.source != "alpha"]
    assert limit_each(samples, most=2, seed=2) != some
    assert limit_each(samples, most=0, seed=1) == samples


def test_the_digest_is_of_content_and_label_not_of_order() -> None:
    files = [("aa", True, "x"), ("bb", False, "y")]
    assert digest_files(files) == digest_files(reversed(files))
    assert digest_files(files) != digest_files([("aa", False, "x"), ("bb", False, "y")])
