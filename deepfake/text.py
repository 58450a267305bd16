"""Text that may come from a file, made fit for a person, a log or a page."""

from __future__ import annotations

import os
import unicodedata


def printable(text: str, *, most: int = 120) -> str:
    """``text`` on one line for a claim, a log or a page: at most ``most`` characters.

    Control, format (bidirectional overrides, zero width), surrogate, private and unassigned
    characters are dropped, white space is collapsed, a cut is marked with ``…``. Markup is left to
    the view that prints it.
    """
    kept = []
    for character in text[: most * 8]:
        category = unicodedata.category(character)
        if character.isspace() or category in ("Zl", "Zp"):
            kept.append(" ")
        elif category[0] != "C":
            kept.append(character)
    line = " ".join("".join(kept).split())
    cut = len(line) > most or len(text) > most * 8
    return line[: most - 1].rstrip() + "…" if cut else line


def escape(text: str) -> str:
    """``text`` with every character that is not printable as a backslash escape."""
    return "".join(map(_escape_character, text))


def display_name(path: str | bytes | os.PathLike[str]) -> str:
    """A path for people and logs: other than UTF-8 and control characters are escaped."""
    text = os.fspath(path)
    return escape(text if isinstance(text, str) else text.decode("utf-8", "surrogateescape"))


def _escape_character(character: str) -> str:
    if character.isprintable():
        return character
    if "\udc80" <= character <= "\udcff":  # a byte that is not UTF-8, see PEP 383
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")
