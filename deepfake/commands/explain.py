"""``deepfake explain``: what a code of a report or an error means, and what to do about it."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from typing import Any

from ..errors import SettingsError
from ..reasons import Code, Group, find_code
from ..text import printable

FORMER = "No longer given; found in older reports."


def add_explain(commands: Any) -> argparse.ArgumentParser:
    """Add the command; its ``run`` is left to set."""
    command: argparse.ArgumentParser = commands.add_parser(
        "explain", help="what the codes in reports and errors mean, and what to do"
    )
    command.add_argument(
        "codes", nargs="*", metavar="CODE", help="as no_face; without one, all of them in groups"
    )
    return command


def explain(options: argparse.Namespace) -> int:
    """Print the codes that were asked for. Raises ``SettingsError`` for one that is unknown."""
    if options.codes:
        print("\n\n".join(map(word_code, [look_up(text) for text in options.codes])))
    else:
        print("\n\n".join(word_group(group) for group in Group))
    return 0


def look_up(text: str) -> Code:
    """The code of that text, which may be written with blanks, hyphens or capitals."""
    code = find_code(text) or find_code("_".join(text.lower().replace("-", " ").split()))
    if code is None:
        import difflib

        near = difflib.get_close_matches(text.lower(), map(str, Code), n=3)
        hint = f"did you mean {' or '.join(near)}? " if near else ""
        raise SettingsError(
            f"code {printable(text)!r}: unknown", hint=f"{hint}deepfake explain lists all"
        )
    return code


def word_code(code: Code) -> str:
    """A code with its sentences, on lines of their own."""
    lines = [code, f"  {code.meaning}", f"  What to do: {code.remedy}", f"  ({code.group})"]
    return "\n".join([*lines, f"  {FORMER}"] if code.former else lines)


def word_group(group: Group) -> str:
    """The heading of a group and the meanings of its codes."""
    width = max(map(len, Code)) + 2
    rows = (f"  {code:<{width}}{code.meaning}" for code in of_group(group))
    return "\n".join([_heading(group), *rows])


def render_tables() -> str:
    """Every code with its meaning and remedy in Markdown, a heading and a table for each group."""
    return "\n".join(_tables(Group))


def _tables(groups: Iterable[Group]) -> Iterator[str]:
    for group in groups:
        yield f"## {_heading(group)}\n\n| code | meaning | what to do |\n|---|---|---|"
        for code in of_group(group):
            note = f" *{FORMER}*" if code.former else ""
            yield f"| `{code}` | {code.meaning}{note} | {code.remedy} |"
        yield ""


def of_group(group: Group) -> list[Code]:
    return [code for code in Code if code.group is group]


def _heading(group: Group) -> str:
    return group[0].upper() + group[1:]
