"""The table of codes: whole, in use, and the only place where codes are written."""

from __future__ import annotations

import ast
import json
import pickle
import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest

from deepfake.errors import Corrupt, DeepfakeError
from deepfake.fusion import Policy, decide
from deepfake.media.wire import error_from_dict, error_to_dict
from deepfake.reasons import Code, Group, find_code, read_code
from deepfake.types import Declares, Evidence, Kind, OperatingPoints, Reason, Report, Status, Weight
from tests.reports import make_report

ROOT = Path(__file__).resolve().parents[1]
TABLE = ROOT / "deepfake" / "reasons.py"
SOURCES = sorted(
    path
    for folder in ("deepfake", "app/deepfake_app", "app/deepfake_service")
    for path in (ROOT / folder).rglob("*.py")
    if path != TABLE
)
POINTS = OperatingPoints(authentic=0.2, suspicious=0.5, synthetic=0.9)
NAMES = {"code", "reason", "caution"}
"""Of parameters, attributes and variables that hold codes."""
PLACES = {"skip": 1, "evidence": 1, "error_line": 1, "_problem": 1, "read_code": 0, "find_code": 0}
"""Functions that take a code without its name, and the place where."""
OUTCOMES = {("gallery.py", "not_media")}
"""Texts of a code that are something else: how a row of the results is sorted and worded."""


def written_codes(tree: ast.AST) -> Iterator[str]:
    """Texts that stand where only a code may stand, and those that are one."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and "_" in str(node.value) and find_code(str(node.value)):
            yield node.value
        if isinstance(node, ast.keyword) and node.arg in NAMES:
            yield from texts(node.value)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if node.value and any(name_of(target) in NAMES for target in targets):
                yield from texts(node.value)
        elif isinstance(node, ast.Compare) and any(
            name_of(side) in NAMES for side in (node.left, *node.comparators)
        ):
            yield from (text for side in (node.left, *node.comparators) for text in texts(side))
        elif isinstance(node, ast.Call) and name_of(node.func) in PLACES:
            place = PLACES[name_of(node.func)]
            yield from (text for value in node.args[place : place + 1] for text in texts(value))
        elif isinstance(node, ast.FunctionDef) and names_code(node.returns):
            returned = (one.value for one in ast.walk(node) if isinstance(one, ast.Return))
            yield from (text for value in returned if value for text in texts(value))


def name_of(node: ast.AST) -> str:
    """What a name, an attribute, ``values["code"]`` or ``values.get("code")`` is called."""
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case ast.Subscript(slice=ast.Constant(value=str(name))):
            return name
        case ast.Call(func=ast.Attribute(attr="get"), args=[ast.Constant(value=str(name)), *_]):
            return name
    return ""


def names_code(node: ast.AST | None) -> bool:
    return node is not None and any(name_of(part) == "Code" for part in ast.walk(node))


def texts(node: ast.AST) -> Iterator[str]:
    """The literal texts that the value of an expression can be; none is the empty one."""
    match node:
        case ast.Constant(value=str(text)) if text:
            yield text
        case ast.IfExp(body=one, orelse=other):
            yield from (*texts(one), *texts(other))
        case ast.BoolOp(values=parts) | ast.Tuple(elts=parts) | ast.Set(elts=parts):
            for part in parts:
                yield from texts(part)


def named_codes(tree: ast.AST) -> Iterator[str]:
    """The members of the table that are named in a module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and name_of(node.value) == "Code":
            yield node.attr


def fused_codes() -> set[str]:
    """The codes that fusion puts together, from every source that says something of its kind."""
    evidence = [
        Evidence(source=source, status=Status.OK, claim="Said.", score=score, points=POINTS)
        for source, score in product(("image", "face", "audio", "video"), (0.05, 0.6, 0.95))
    ]
    declared = {"declares": Declares.GENERATED, "status": Status.OK, "claim": "Said."}
    for source, weight in (
        ("metadata", Weight.HINT),
        *product(("metadata", "provenance", "watermark"), (Weight.CLAIM,)),
        ("provenance", Weight.PROOF),
    ):
        evidence.append(Evidence(source=source, weight=weight, **declared))
    for reason in (Code.KNOWN_SYNTHETIC, Code.KNOWN_GENUINE, Code.KNOWN_DISPUTED):
        evidence.append(Evidence(source="known", weight=Weight.RULING, reason=reason, **declared))
    policies = (Policy(), replace(Policy(), trust_claims=True))
    return {
        reason.code
        for one, policy in product(evidence, policies)
        for reason in decide([one], kind=Kind.IMAGE, policy=policy).reasons
    }


@pytest.mark.parametrize("code", list(Code))
def test_a_row_is_whole(code: Code) -> None:
    assert re.fullmatch("[a-z]+(_[a-z]+)*", code)
    assert code.name == code.upper()
    for sentence in (code.meaning, code.remedy):
        assert sentence.endswith(".")
        assert len(sentence) > 15
        assert sentence[0].isupper()
        assert "|" not in sentence


def test_codes_are_written_in_the_table_alone() -> None:
    written = {
        (path.name, text)
        for path in SOURCES
        for text in written_codes(ast.parse(path.read_text(encoding="utf-8")))
    }
    assert written == OUTCOMES


def test_the_walk_finds_what_it_looks_for() -> None:
    samples = (
        'Evidence(source="a", reason="made_up")',
        'MediaError("a", code="made_up" if b else None)',
        'code = "made_up"',
        'self.reason = "made_up"',
        'if error.code == "made_up": pass',
        'if line["error"]["code"] == "made_up": pass',
        'if line.get("error", {}).get("code") in ("made_up",): pass',
        'skip("image", "made_up")',
        'def why() -> Code | None:\n    return "made_up"',
    )
    for sample in samples:
        assert list(written_codes(ast.parse(sample))) == ["made_up"], sample
    assert list(written_codes(ast.parse('frozenset({"no_face", "other"})'))) == ["no_face"]


def test_every_row_is_given_by_something_unless_it_is_former() -> None:
    named = {
        name
        for path in SOURCES
        for name in named_codes(ast.parse(path.read_text(encoding="utf-8")))
    }
    given = {Code[name] for name in named} | fused_codes()
    assert {code for code in Code if not code.former} == given & set(Code)
    assert not [code for code in fused_codes() if not isinstance(code, Code)]


def test_the_former_codes_of_stored_reports_stay() -> None:
    assert {code for code in Code if code.former} == {
        "metadata_conclusive",
        "metadata_suspicious",
        "watermark_conclusive",
    }


def test_a_code_is_its_text_in_json_and_after_pickling() -> None:
    assert json.dumps({"code": Code.NO_FACE}) == '{"code": "no_face"}'
    assert pickle.loads(pickle.dumps(Code.NO_FACE)) is Code.NO_FACE
    assert find_code("no_face") is Code.NO_FACE
    assert find_code("nonsense") is find_code("nonsense_synthetic") is None
    assert read_code("mine_synthetic") == "mine_synthetic"


def test_reports_keep_their_codes_and_those_of_other_versions() -> None:
    report = replace(
        make_report(),
        reasons=(
            Reason(code=Code.METADATA_CONCLUSIVE, text="because"),
            Reason(code="of_tomorrow", text="because"),
        ),
    )
    values = json.loads(json.dumps(report.to_dict()))
    assert [one["code"] for one in values["reasons"]] == ["metadata_conclusive", "of_tomorrow"]
    assert all(type(one["code"]) is str for one in report.to_dict()["reasons"])
    again = Report.from_dict(values)
    assert again == report
    assert again.reasons[0].code is Code.METADATA_CONCLUSIVE


def test_the_source_of_somebody_else_keeps_its_own_words() -> None:
    own = Evidence(source="mine", status=Status.OK, claim="Seen.", score=0.95, points=POINTS)
    assert decide([own], kind=Kind.IMAGE, policy=Policy()).reasons[0].code == "mine_synthetic"


def test_errors_have_codes_of_the_table_also_from_the_decoder() -> None:
    for error in (DeepfakeError("a"), Corrupt("a"), Corrupt("a", code=Code.NO_FRAMES)):
        assert isinstance(error.code, Code)
    error = error_from_dict(error_to_dict(Corrupt("a", code=Code.NO_FRAMES)))
    assert error.code is Code.NO_FRAMES
    hostile = error_to_dict(Corrupt("a")) | {"code": "\x1b[31mmade up"}
    assert error_from_dict(hostile).code is Code.CORRUPT
    hostile |= {"text": "file a: \x1b[2Jgone", "hint": "\x1b]0;owned\x07\u202e"}
    error = error_from_dict(hostile)
    assert str(error) == r"file a: \x1b[2Jgone; \x1b]0;owned\x07\u202e"
    assert error.hint == r"\x1b]0;owned\x07\u202e"


def test_every_group_has_codes() -> None:
    assert {code.group for code in Code} == set(Group)
