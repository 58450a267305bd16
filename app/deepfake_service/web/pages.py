"""Long lists in pages: each names the cursor of the next."""

from __future__ import annotations

import base64
import re
from typing import Annotated

from fastapi import Query

from deepfake.errors import ServiceError

Cursor = Annotated[str | None, Query(max_length=40, description="`next` of the page before")]
Limit = Annotated[int, Query(ge=1, le=200, description="most rows of a page")]


def write_cursor(number: int) -> str:
    """What stands for the row of a number, after which the next page begins."""
    return base64.urlsafe_b64encode(str(number).encode()).decode().rstrip("=")


def read_cursor(text: str) -> int:
    """The number that a cursor stands for. Raises ``ServiceError`` (422) for what is none."""
    try:
        number = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode("ascii")
    except ValueError:
        number = ""
    if not re.fullmatch("[0-9]{1,18}", number):
        raise ServiceError(
            "cursor: is none of this service", hint="leave it away to begin anew", status=422
        )
    return int(number)
