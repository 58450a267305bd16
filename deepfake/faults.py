"""Exceptions that nobody expected while one file was examined: that file's error, and a log entry.

A bug must not take the other files of a batch along, nor may it pass for evidence. So whatever
examines files one after another holds each in :func:`contain_faults`.
"""

from __future__ import annotations

import logging
import os
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from .errors import DeepfakeError
from .reasons import Code
from .text import display_name, escape

LOG = logging.getLogger("deepfake")
MOST_SHOWN = 300
MOST_IN_A_LINE = 1000


@contextmanager
def contain_faults(name: str | os.PathLike[str]) -> Iterator[None]:
    """Within it, an exception that is no ``DeepfakeError`` becomes one: see :func:`internal_error`.

    ``name`` is that of the file in work.
    """
    try:
        yield
    except DeepfakeError:
        raise
    except Exception as fault:
        raise internal_error(name, fault) from fault


def internal_error(name: str | os.PathLike[str], fault: Exception) -> DeepfakeError:
    """The error, of code ``internal``, of the file ``name`` that met a bug.

    The bug is logged with its traceback by the logger ``deepfake``. What the exception says may
    come from the file, so it is escaped in both.
    """
    shown = display_name(name)
    LOG.error("file %s: met a bug\n%s", shown, _trace(fault))
    text = escape("".join(traceback.format_exception_only(fault)).strip())[:MOST_SHOWN]
    return DeepfakeError(
        f"file {shown}: met a bug of this program ({text})",
        code=Code.INTERNAL,
        hint="no other file is affected; report it with the traceback in the log",
    )


def _trace(fault: Exception) -> str:
    """The traceback, set off so that no line in it can pass for an entry of the log."""
    lines = "".join(traceback.format_exception(fault)).splitlines()
    return "\n".join(f"  | {escape(line)[:MOST_IN_A_LINE]}" for line in lines)
