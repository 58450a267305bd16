"""The log as JSON: one object a line, with what a line is about as fields of its own.

Names of files, which users chose, are replaced by short hashes unless they are wanted; media and
what was found in them are never logged.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import sys
from collections.abc import Iterator, MutableMapping
from typing import Any, TextIO

import structlog
from structlog.typing import Processor

LOGGERS = ("deepfake", "deepfake_service")
Entry = MutableMapping[str, Any]


@contextlib.contextmanager
def logging_json(*, names: bool = False, stream: TextIO | None = None) -> Iterator[None]:
    """Within it the log of the package and of the service goes to ``stream`` (standard error) as
    JSON; with ``names`` names of files are told.
    """
    steps: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _keep_names if names else _hide_names,
        structlog.processors.format_exc_info,
    ]
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=steps,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(sort_keys=True),
            ],
        )
    )
    loggers = [logging.getLogger(name) for name in LOGGERS]
    before = [(logger.level, logger.propagate) for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        logger.propagate = False
    try:
        yield
    finally:
        for logger, (level, propagate) in zip(loggers, before, strict=True):
            logger.removeHandler(handler)
            logger.setLevel(level)
            logger.propagate = propagate


def hide(name: str) -> str:
    """What stands for the name of a file: the same for the same name."""
    return f"file-{hashlib.sha256(name.encode()).hexdigest()[:12]}"


def _hide_names(logger: Any, method: str, entry: Entry) -> Entry:
    for name in entry.pop("names", ()):
        if name:
            entry["event"] = str(entry["event"]).replace(name, hide(name))
    return entry


def _keep_names(logger: Any, method: str, entry: Entry) -> Entry:
    entry.pop("names", None)
    return entry
