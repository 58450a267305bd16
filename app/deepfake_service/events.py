"""What happens that others want to be told of, such as a report that was revised."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from deepfake.text import printable

LOG = logging.getLogger("deepfake_service")


@dataclass(frozen=True, kw_only=True)
class Event:
    """``data`` are JSON values, without media. ``tenant`` is the number of the one that it is of,
    None where it is of the whole service.

    ``alarm.raised``, ``models.changed`` and ``report.revised`` are given.
    """

    type: str
    data: Mapping[str, Any]
    tenant: int | None = None


Hook = Callable[[Event], None]
"""Takes an event, soon: whoever has more to do puts it in line."""


class Events:
    """Tells every hook; one that fails is logged, and keeps nothing from the others."""

    def __init__(self, *hooks: Hook) -> None:
        self.hooks = list(hooks)

    def emit(self, event: Event) -> None:
        words = ", ".join(f"{key} {value}" for key, value in event.data.items())
        LOG.warning("event %s: %s", event.type, printable(words, most=600))
        for hook in self.hooks:
            try:
                hook(event)
            except Exception:
                LOG.exception("event %s: a hook failed", event.type)
