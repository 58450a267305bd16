"""What ``deepfake privacy`` works on, beside a service that may be running."""

from __future__ import annotations

import contextlib
import getpass
import hashlib
import hmac
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from deepfake.trust.audit import AuditLog

from .media import SharedMedia
from .privacy.kept import KeptFiles, Retention
from .privacy.keyring import Keyring
from .privacy.subjects import Subject, Subjects
from .service import open_store
from .settings import ServiceSettings
from .store.keys import read_secret


@dataclass(frozen=True, kw_only=True)
class Privacy:
    """``audit`` is the log of the folder; ``who`` is the pseudonym in it of who asks here."""

    kept: KeptFiles
    subjects: Subjects
    secret: bytes
    audit: Path
    who: str

    def subject(self, sha256: str | None, tenant: str | None) -> Subject:
        """Raises ``SettingsError`` for what is none."""
        return Subject(sha256=sha256, tenant=tenant)

    def retain(self, tenant: str, retention: str, log: AuditLog) -> None:
        """Give a tenant a retention class, and enter that. Raises ``SettingsError``."""
        self.kept.retain(tenant, Retention.parse(retention))
        log.append("retention_changed", media=Subject(tenant=tenant).pseudonym(self.secret))


@contextlib.contextmanager
def open_privacy(settings: ServiceSettings) -> Iterator[Privacy]:
    """Raises ``SettingsError`` for a folder that cannot be used."""
    with open_store(settings) as (database, _):
        secret = read_secret(settings.folder / "hash.key")
        kept = KeptFiles(database, Keyring.of(database), settings.kept)
        who = hmac.new(secret, f"who {getpass.getuser()}".encode(), hashlib.sha256)
        # Those that a service counts as its uploads are files in a folder to everybody else.
        place = settings.shared_media if database.shared else str(settings.media_folder)
        yield Privacy(
            kept=kept,
            subjects=Subjects(database, kept, SharedMedia(place), secret=secret),
            secret=secret,
            audit=settings.folder / "audit.jsonl",
            who=f"p-{who.hexdigest()[:16]}",
        )
