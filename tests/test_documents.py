"""The README and the documentation do what they show, and the site is built of them."""

from __future__ import annotations

import html
import re
import subprocess
import sys
from pathlib import Path

import pytest

from deepfake.reasons import Code
from deepfake.settings import DetectOptions, Limits, Settings
from docs.site import accuracy, reference
from tests.documents import (
    DOCUMENTS,
    ROOT,
    blocks,
    check,
    check_imports,
    make_folder,
    problems,
    rewrite,
    same,
)

README = ROOT / "README.md"
PICTURES = ROOT / "docs" / "pictures"
NAMES = [str(path.relative_to(ROOT)) for path in DOCUMENTS]
RUN = [
    name
    for name in NAMES
    if {"console", "python"} & {block.word for block in blocks((ROOT / name).read_text("utf-8"))}
]


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("documents")
    make_folder(folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", RUN)
def test_blocks_print_what_is_shown(name: str, samples: Path, tmp_path: Path) -> None:
    for entry in ("samples", "examples"):
        (tmp_path / entry).symlink_to(samples / entry)
    text = (ROOT / name).read_text(encoding="utf-8")
    assert rewrite(text, tmp_path) == text, "run: make outputs"


@pytest.mark.parametrize("name", NAMES)
def test_what_is_not_run_could_be(name: str) -> None:
    assert problems(ROOT / name) == []


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ("deepfake scan folder", ["does not parse"]),
        ("deepfake scan folder --output results.jsonl", []),
        ("deepfake unknown", ["does not parse"]),
        ("python -m benchmarks.unknown", ["no module benchmarks.unknown"]),
        ("python -m benchmarks.peers --files 3", []),
        ("python -m benchmarks.peers --unknown 3", ["no option --unknown"]),
        ("pip install deepfake[app]", []),
        ("pip install deepfake[unknown]", ["no extra unknown"]),
        ("make demo", []),
        ("make unknown", ["no target unknown"]),
        ("unknown", ["unknown program unknown"]),
    ],
)
def test_commands_that_do_not_exist_are_found(command: str, why: list[str]) -> None:
    assert check(command.split()) == why


def test_imports_that_do_not_exist_are_found() -> None:
    code = "import json, unknown\nfrom deepfake.scan.scan import Selection, unknown"
    assert check_imports(code) == ["no module unknown", "no deepfake.scan.scan.unknown"]


def test_outputs_are_compared_without_what_varies() -> None:
    shown = "sha256 0123456789ab… score 0.51, examined 2026-01-02T03:04:05Z in 0.41 s ▁▂▃\n"
    other = "sha256 ba9876543210… score 0.52, examined 2027-01-02T03:04:05Z in 3.99 s █▁▁\n"
    assert same(shown, other)
    assert not same(shown, other.replace("0.52", "0.62"))
    assert not same(shown, other.replace("score", "scores"))


def test_the_readme_is_short_and_shows_pictures() -> None:
    text = README.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 180
    shown = set(re.findall(r"!\[[^\]]+\]\(docs/pictures/([^)]+)\)", text))
    assert shown == {path.name for path in PICTURES.iterdir()}
    assert sum(path.stat().st_size for path in PICTURES.iterdir()) <= 400_000


@pytest.mark.parametrize("name", NAMES)
def test_links_within_the_repository_lead_somewhere(name: str) -> None:
    path = ROOT / name
    for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8")):
        assert (path.parent / link).exists(), link


def test_tables_of_accuracy_hold_the_metrics_of_the_active_bundles() -> None:
    text = accuracy.summary()
    for slot in accuracy.JUDGES:
        assert f"`{accuracy.active_names()[slot]}`" in text
    for slot in accuracy.active_names():
        assert accuracy.slot_tables(slot).startswith("| view |")
        assert len(accuracy.known_failures(slot)) > 100
    views = accuracy.read_metrics("audio")["views"]
    for row in views:
        line = next(li for li in accuracy.slot_tables("audio").splitlines() if row["view"] in li)
        assert f"| {row['files']} | {row['mean_auc']:.2f} | {row['worst_auc']:.2f} |" in line


def test_a_table_leaves_out_what_no_row_has() -> None:
    rows = [{"a": 1, "b": None, "c": 0.5}, {"a": 2, "b": float("nan"), "c": None}]
    text = accuracy.table(rows, (("a", "A"), ("b", "B"), ("c", "C")))
    assert text == "| A | C |\n| --- | --- |\n| 1 | 0.50 |\n| 2 | – |\n"


def test_reference_tables_have_a_row_for_everything() -> None:
    for table, kind in (
        (reference.options(), DetectOptions),
        (reference.settings_table(), Settings),
        (reference.limits(), Limits),
    ):
        for name in kind.__dataclass_fields__:
            assert f"| `{name}` |" in table
    assert "| – |" not in reference.limits()
    assert "`evidence[].segments[].start`" in reference.schema_table()
    assert "## deepfake scan" in reference.commands()
    assert str(ROOT) not in reference.commands()


@pytest.mark.slow
def test_the_site_is_built_without_warnings_and_loads_nothing_from_elsewhere(
    tmp_path: Path,
) -> None:
    command = ["sphinx", "--fail-on-warning", "--keep-going", "-q", "-d", str(tmp_path / "trees")]
    done = subprocess.run(
        [sys.executable, "-m", *command, "-c", "docs/site", "docs", str(tmp_path / "site")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    pages = {path: path.read_text(encoding="utf-8") for path in tmp_path.glob("site/**/*.html")}
    loaded = [
        source
        for text in pages.values()
        for tag in re.findall(r"<(?:script|link|img|iframe)\b[^>]*>", text)
        for source in re.findall(r"""(?:src|href)=["']([^"']+)""", tag)
    ]
    assert len(loaded) > 50
    assert [source for source in loaded if source.startswith(("http:", "https:", "//"))] == []
    styles = "".join(path.read_text("utf-8") for path in tmp_path.glob("site/_static/**/*.css"))
    assert re.findall(r"url\([\"']?https?:|@import", styles) == []
    codes = html.unescape(pages[tmp_path / "site" / "reference" / "reasons.html"])
    assert all(code in codes for code in Code)
    python = pages[tmp_path / "site" / "reference" / "python.html"]
    assert all(f'id="deepfake.{name}"' in python for name in ("detect", "Detector", "Report"))
