"""What a visitor is told of something that went wrong, and what the log is told."""

from __future__ import annotations

import logging
import re
import traceback
import uuid

from deepfake.errors import DeepfakeError
from deepfake.text import printable

LOG = logging.getLogger("deepfake.page")
MOST_LINES = 200
_FOR_DEVELOPERS = re.compile(r"(?:,? )?or raise Limits\.\w+")


def word_error(error: DeepfakeError) -> str:
    """The text of an error without what only the owner of the server could do."""
    text = str(error)
    if error.hint:
        text = text.removesuffix(f"; {error.hint}")
    hint = _FOR_DEVELOPERS.sub("", error.hint)
    return f"{text}; {hint}" if hint else text


def log_failure(error: Exception) -> str:
    """Log an exception that nobody expected, with its traceback; the id under which it is there.

    The lines are escaped, because the text of an exception may come from a file.
    """
    number = uuid.uuid4().hex[:8]
    lines = "".join(traceback.format_exception(error)).splitlines()[-MOST_LINES:]
    shown = "\n".join(
        f"{number} | {' ' * (len(line) - len(line.lstrip(' ')))}{printable(line, most=300)}"
        for line in lines
    )
    LOG.error("An examination failed unexpectedly; id %s\n%s", number, shown)
    return number
