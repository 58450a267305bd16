"""What the service keeps, where, and what a request may cost."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from deepfake_app.address import is_loopback
from deepfake_app.limits import MEBIBYTE, PageLimits

from deepfake.errors import SettingsError
from deepfake.settings import user_data_folder

if TYPE_CHECKING:
    from deepfake.trust.audit import AuditLog

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


class Action(StrEnum):
    """What an alarm of the watch does to the key: nothing (*tell*), a low rate (*slow*), as much of
    a report as the policy ``verdict`` shows, after a first alarm that of ``rounded`` (*coarsen*),
    or nothing at all (*suspend*).
    """

    TELL = "tell"
    SLOW = "slow"
    COARSEN = "coarsen"
    SUSPEND = "suspend"


@dataclass(frozen=True, kw_only=True)
class WatchSettings:
    """When a run of files that hardly differ is an alarm: ``files`` of them from one key within
    ``hours`` that have the same size, or four times as many of any. ``action`` holds for
    ``action_hours``, a slowed key may send ``slow_rate``. Of each key the newest ``most_runs`` are
    remembered.
    """

    files: int = 40
    hours: float = 24.0
    action: Action = Action.COARSEN
    action_hours: float = 24.0
    slow_rate: str = "6/minute"
    most_runs: int = 500

    def __post_init__(self) -> None:
        ranges = {"files": (2, 10**6), "hours": (0, 720), "action_hours": (0, 8760)}
        for name, (least, most) in ranges.items():
            value = getattr(self, name)
            if not least <= value <= most:
                raise SettingsError(
                    f"setting watch {name} {value}: out of range",
                    hint=f"give {least:g} to {most:g}",
                )


@dataclass(frozen=True, kw_only=True)
class OpenId:
    """A provider of OpenID Connect that signs people in: its ``issuer``, what it calls this
    service, the ``secret`` between both, and the ``address`` of this service in a browser.

    Raises ``SettingsError`` for addresses that others could listen to.
    """

    issuer: str
    client: str
    secret: str = field(repr=False)
    address: str

    def __post_init__(self) -> None:
        for name in ("issuer", "address"):
            url = urlsplit(getattr(self, name))
            safe = url.scheme == "https" or (
                url.scheme == "http" and is_loopback(url.hostname or "")
            )
            if not safe or not url.hostname or url.query or url.fragment or url.username:
                raise SettingsError(
                    f"{name} {getattr(self, name)[:200]!r}: is no address of https",
                    hint="write it as https://login.example",
                )
        for name in ("client", "secret"):
            if not getattr(self, name):
                raise SettingsError(
                    f"OpenID Connect: has no {name}",
                    hint="give --openid-client, and DEEPFAKE_OPENID_SECRET in the environment",
                )


@dataclass(frozen=True, kw_only=True)
class ServiceSettings:
    """``folder`` holds the database, the key of its hashes and the media of jobs.

    ``limits`` are those of the page as well. Files of up to ``sync_bytes`` are examined while the
    client waits, in ``examinations`` threads for which up to ``waiting`` requests wait; larger
    ones become jobs, which ``workers`` threads examine. A job that fails for a reason that is not
    its file's is tried ``attempts`` times, after ``back_off_seconds``, twice that, and so on.
    ``batch_files`` is the most files of one batch. What is older than ``keep_days`` is deleted:
    reports with their rulings, jobs that have ended, and answers kept for an Idempotency-Key
    (those after a day). ``policies`` is a file that says what is done on alarms (see
    :mod:`deepfake_service.alarms`); alarms and what they lead to are added to ``audit``, and with
    ``audit_requests`` every file that is examined, report that is read and ruling. The log is
    JSON with ``log_json``, and tells names of files with ``log_names``. Small pictures of the media
    are kept with reports where ``thumbnails`` says so. ``openid`` is who else than this service
    signs people in.

    With ``database_url`` (PostgreSQL) the database is that one, and workers of other processes take
    jobs too; ``media_url`` is then where all of them find the files, and ``kept_media`` the folder
    of those that are kept, without which workers keep none. A worker that is silent for
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
    watch: WatchSettings = field(default_factory=WatchSettings)
    policies: Path | None = None
    audit: AuditLog | None = field(default=None, compare=False)
    audit_requests: bool = False
    log_json: bool = False
    log_names: bool = False
    thumbnails: bool = False
    openid: OpenId | None = None
    database_url: str | None = None
    media_url: str | None = None
    limits_url: str | None = None
    kept_media: Path | None = None
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
    def kept(self) -> Path:
        """Of media that are kept after their report, sealed."""
        return self.kept_media or self.folder / "kept"

    @property
    def media_folder(self) -> Path:
        return self.folder / "media"

    @property
    def shared_media(self) -> str:
        """Where the files of jobs lie that workers of other processes examine."""
        return self.media_url or str(self.folder / "jobs")
