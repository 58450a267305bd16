"""What the service keeps, where, and what a request may cost."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from deepfake_app.limits import MEBIBYTE, PageLimits

from deepfake.errors import SettingsError
from deepfake.settings import user_data_folder

_RANGES = {
    "sync_bytes": (0, 2**40),
    "examinations": (1, 1024),
    "waiting": (0, 10_000),
    "streams": (0, 10_000),
    "workers": (0, 1024),
    "attempts": (1, 100),
    "back_off_seconds": (0, 3600),
    "batch_files": (1, 10_000),
    "keep_days": (0, 36_500),
    "lease_seconds": (0.1, 3600),
    "fetch_seconds": (1, 3600),
}
HOUR = 3600.0
WEBHOOK_PAUSES = (
    5.0,
    300.0,
    HOUR / 2,
    2 * HOUR,
    5 * HOUR,
    10 * HOUR,
    14 * HOUR,
    20 * HOUR,
    24 * HOUR,
)
"""Those that the Standard Webhooks specification gives as an example: three days in all."""


def default_folder() -> Path:
    """Where the service keeps its database and the media of jobs, unless told otherwise."""
    return user_data_folder() / "service"


@dataclass(frozen=True, kw_only=True)
class ServiceSettings:
    """``folder`` holds the database, the key of its hashes and the media of jobs.

    ``limits`` are those of the page as well. Files of up to ``sync_bytes`` are examined while the
    client waits, in ``examinations`` threads for which up to ``waiting`` requests wait; larger
    ones become jobs, which ``workers`` threads examine. A job that fails for a reason that is not
    its file's is tried ``attempts`` times, after ``back_off_seconds``, twice that, and so on.
    ``batch_files`` is the most files of one batch. What is older than ``keep_days`` is deleted:
    reports with their rulings, jobs that have ended, and answers kept for an Idempotency-Key
    (those after a day).

    With ``database_url`` (PostgreSQL) the database is that one, and workers of other processes take
    jobs too; ``media_url`` is then where all of them find the files. A worker that is silent for
    ``lease_seconds`` loses its jobs. Servers that share a ``limits_url`` (Valkey) count the rates
    of keys together. Media are fetched from ``fetch_hosts`` alone, each within ``fetch_seconds``.
    ``private_hosts`` may be told of events, or fetched from, wherever they lie.
    """

    folder: Path = field(default_factory=default_folder)
    limits: PageLimits = field(default_factory=PageLimits)
    sync_bytes: int = 32 * MEBIBYTE
    examinations: int = field(default_factory=lambda: os.cpu_count() or 1)
    waiting: int = 100
    streams: int = 40
    workers: int = 1
    attempts: int = 3
    back_off_seconds: float = 5.0
    batch_files: int = 100
    keep_days: float = 30.0
    database_url: str | None = None
    media_url: str | None = None
    limits_url: str | None = None
    lease_seconds: float = 30.0
    fetch_hosts: tuple[str, ...] = ()
    fetch_seconds: float = 60.0
    private_hosts: tuple[str, ...] = ()
    deliverers: int = 4
    webhook_pauses: tuple[float, ...] = WEBHOOK_PAUSES

    def __post_init__(self) -> None:
        for name, (least, most) in _RANGES.items():
            value = getattr(self, name)
            if not least <= value <= most:
                raise SettingsError(
                    f"setting {name} {value}: out of range", hint=f"give {least:g} to {most:g}"
                )

    @property
    def database(self) -> Path:
        return self.folder / "service.sqlite"

    @property
    def media_folder(self) -> Path:
        return self.folder / "media"

    @property
    def shared_media(self) -> str:
        """Where the files of jobs lie that workers of other processes examine."""
        return self.media_url or str(self.folder / "jobs")
