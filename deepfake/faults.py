"""Exceptions that nobody expected while one file was examined: that file's error, and a log entry.

A bug must not take the other files of a batch along, nor may it pass for evidence. So whatever
examines files one after another holds each in :func:`contain_faults`. An id leads from the error to
its entry in the log.
"""

from __future__ import annotations

import logging
import os
import traceback
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from .errors import DeepfakeError, InternalError
from .text import display_name, escape

LOG = logging.getLogger("deepfake")
MOST_SHOWN = 300
MOST_IN_A_LINE = 1000
MOST_LINES = 200


@contextmanager
def contain_faults(name: str | os.PathLike[str]) -> Iterator[None]:
    """Within it, an exception that is no ``DeepfakeError`` becomes that of :func:`internal_error`.

    ``name`` is that of the file in work.
    """
    try:
        yield
    except DeepfakeError:
        raise
    except Exception as fault:
        raise internal_error(name, fault) from fault


def internal_error(name: str | os.PathLike[str], fault: Exception) -> InternalError:
    """The error of the file ``name`` that met a bug.

    The bug is logged with its traceback by the logger ``deepfake``. What the exception says may
    come from the file, so it is escaped in both.
    """
    shown, fault_id = display_name(name), uuid.uuid4().hex[:8]
    LOG.error(
        "file %s: met a bug, id %s\n%s",
        shown,
        fault_id,
        _trace(fault, fault_id),
        extra={"fault": fault_id, "names": (shown,)},
    )
    text = escape("".join(traceback.format_exception_only(fault)).strip())[:MOST_SHOWN]
    return InternalError(
        f"file {shown}: met a bug of this program ({text})",
        hint=f"no other file is affected; report it with what the log has under the id {fault_id}",
        fault_id=fault_id,
    )


def _trace(fault: Exception, fault_id: str) -> str:
    """The end of the traceback, set off so that no line in it can pass for an entry of the log."""
    lines = "".join(traceback.format_exception(fault)).splitlines()[-MOST_LINES:]
    return "\n".join(f"{fault_id} | {escape(line)[:MOST_IN_A_LINE]}" for line in lines)
