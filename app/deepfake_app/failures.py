"""What a visitor is told of something that went wrong."""

from __future__ import annotations

import re

from deepfake.errors import DeepfakeError

_FOR_DEVELOPERS = re.compile(r"(?:,? )?or raise Limits\.\w+")


def word_error(error: DeepfakeError) -> str:
    """The text of an error without what only the owner of the server could do."""
    text = str(error)
    if error.hint:
        text = text.removesuffix(f"; {error.hint}")
    hint = _FOR_DEVELOPERS.sub("", error.hint)
    return f"{text}; {hint}" if hint else text
