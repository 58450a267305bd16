"""Tables of what the code declares: options, settings, limits, commands, codes, JSON schema."""

from __future__ import annotations

import argparse
import ast
import inspect
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import Field, fields
from itertools import pairwise
from types import ModuleType
from typing import Any

from deepfake import quiet, settings
from deepfake.commands.cli import build_parser
from deepfake.commands.explain import render_tables
from deepfake.schema import REPORT_SCHEMA
from deepfake.settings import DetectOptions, Limits, Settings, shipped_models_folder

from .accuracy import table

COLUMNS_OF_HELP = 88


def codes() -> str:
    """Every reason code with its meaning and remedy, in groups."""
    return render_tables()


def options() -> str:
    """The fields of ``DetectOptions``, which are flags and controls of the page as well."""
    rows = []
    for option in fields(DetectOptions):
        flag = f"--{option.name.replace('_', '-')}"
        switch = isinstance(option.default, bool)
        if choices := option.metadata.get("choices"):
            span = ", ".join(f"`{choice}`" for choice in choices)
        elif switch:
            span = "yes or no"
        else:
            span = f"{option.metadata['minimum']:g} … {option.metadata['maximum']:g}"
        rows.append(
            {
                "name": f"`{option.name}`",
                "flag": f"`{flag}`, `--no-{flag[2:]}`" if switch else f"`{flag}`",
                "default": f"`{option.default}`",
                "range": span,
                "meaning": option.metadata["help"],
            }
        )
    heads = ("field", "flag", "default", "range", "meaning")
    return table(rows, tuple(zip(rows[0], heads, strict=True)))


def settings_table() -> str:
    """The fields of ``Settings`` with the flag that sets each, where there is one."""
    flags = set(_subcommands()["detect"]._option_string_actions)
    rows = []
    for setting in fields(Settings):
        flag = FLAGS.get(setting.name, f"--{setting.name.replace('_', '-')}")
        rows.append(
            {
                "name": f"`{setting.name}`",
                "flag": f"`{flag}`" if flag in flags else None,
                "default": _word_default(setting),
                "type": f"`{setting.type}`",
            }
        )
    heads = ("field", "flag", "default", "type")
    return table(rows, tuple(zip(rows[0], heads, strict=True)))


FLAGS = {"models_folder": "--models"}
"""Flags that are not called as their field is."""


FACTORIES = {
    "models_folder": "the shipped bundles",
    "trusted_keys": "`DEEPFAKE_TRUSTED_KEYS`",
    "allow_unsigned": "`DEEPFAKE_ALLOW_UNSIGNED`",
}
"""What defaults are that are found when a ``Settings`` is made."""


def limits() -> str:
    """The fields of ``Limits``."""
    notes = attribute_notes(settings, "Limits")
    rows = [
        {
            "name": f"`{limit.name}`",
            "default": f"{limit.default:,}",
            "note": notes.get(limit.name),
        }
        for limit in fields(Limits)
    ]
    return table(rows, (("name", "field"), ("default", "default"), ("note", "meaning")))


def attribute_notes(module: ModuleType, name: str) -> dict[str, str]:
    """The texts that stand below the fields of a class."""
    tree = ast.parse(inspect.getsource(module))
    body = next(n.body for n in tree.body if isinstance(n, ast.ClassDef) and n.name == name)
    notes = {}
    for field, text in pairwise(body):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            match text:
                case ast.Expr(value=ast.Constant(value=str(note))):
                    notes[field.target.id] = " ".join(note.split())
    return notes


def switches() -> str:
    """The environment variables that every process of ours sets, so that nothing reports home."""
    rows = [{"name": f"`{name}`", "value": f"`{value}`"} for name, value in quiet.SWITCHES.items()]
    return table(rows, (("name", "variable"), ("value", "set to")))


def commands() -> str:
    """What ``--help`` prints, of the program and of every command."""
    with _width(COLUMNS_OF_HELP):
        parts = [f"## deepfake\n\n```text\n{build_parser().format_help()}```\n"]
        for name, parser in _subcommands().items():
            parts.append(f"## deepfake {name}\n\n```text\n{parser.format_help()}```\n")
            for inner, nested in _subcommands_of(parser).items():
                parts.append(f"### deepfake {name} {inner}\n\n```text\n{nested.format_help()}```\n")
    return "\n".join(parts).replace(str(shipped_models_folder()), "MODELS")


def schema_table() -> str:
    """The keys of a report, one a line, with what their values are."""
    rows = list(_walk(REPORT_SCHEMA, ""))
    heads = (("key", "key"), ("type", "value"), ("always", "in every report"), ("note", "meaning"))
    return table(rows, heads)


def schema_json() -> str:
    """The JSON Schema itself."""
    return f"```json\n{json.dumps(REPORT_SCHEMA, indent=2, ensure_ascii=False)}\n```\n"


def _walk(schema: Mapping[str, Any], prefix: str) -> Iterator[dict[str, str | None]]:
    """A row for each key of an object, and for those of the objects and lists within it."""
    for key, value in schema.get("properties", {}).items():
        path = f"{prefix}{key}"
        yield {
            "key": f"`{path}`",
            "type": _word_type(value),
            "always": "yes" if key in schema.get("required", ()) else "no",
            "note": value.get("description"),
        }
        yield from _walk(value, f"{path}.")
        yield from _walk(value.get("items", {}), f"{path}[].")


def _word_type(schema: Mapping[str, Any]) -> str:
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return ", ".join(f"`{json.dumps(value)}`" for value in schema["enum"])
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    word = " or ".join(kinds)
    if "maximum" in schema:
        return f"{word}, {schema['minimum']} … {schema['maximum']}"
    return f"{word}, at least {schema['minimum']}" if "minimum" in schema else word


def _word_default(field: Field[Any]) -> str:
    if isinstance(field.default, Limits):
        return "`Limits()`"
    if callable(field.default_factory):
        return FACTORIES[field.name]
    return f"`{field.default!r}`"


def _subcommands() -> dict[str, argparse.ArgumentParser]:
    return _subcommands_of(build_parser())


def _subcommands_of(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return {}


@contextmanager
def _width(columns: int) -> Iterator[None]:
    """``argparse`` asks the environment how wide a line may be."""
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = str(columns)
    try:
        yield
    finally:
        if before is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = before
