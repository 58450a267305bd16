"""Who asked what of the service, and what was answered, in the audit log of the operator."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from typing import Any

from deepfake.errors import DeepfakeError, ServiceError
from deepfake.reasons import Code
from deepfake.trust.audit import AuditLog
from deepfake.trust.registry import Recorded
from deepfake.types import Report

from .store.alarms import Alarms
from .store.keys import Identity
from .store.tables import Job, StoredReport

NO_KEY = "no-key"
"""Who asks on this machine without one, and whose job came from the page."""


class RequestAudit:
    """Enters requests in ``log``; without one nothing is entered. Safe to share between threads.

    Who asks is told by the prefix of the key, or by a pseudonym of the account under ``secret``;
    media by their sha256. Names of files are never entered, nor what a moderator writes.

    Every method raises ``ServiceError`` (``database``, 503) when the log cannot be written, so that
    nothing is answered that was not entered.
    """

    def __init__(self, log: AuditLog | None, alarms: Alarms, *, secret: bytes) -> None:
        self._log, self._alarms, self._secret = log, alarms, secret

    def note_examination(self, identity: Identity, found: Report | DeepfakeError) -> None:
        """A file that was examined while its sender waited, or could not be."""
        self._enter("detect", self._who(identity), **_tell(found))

    def note_page(self, found: Report | DeepfakeError) -> None:
        """A file that was examined on the page, which does not tell its visitors apart."""
        self._enter("page", NO_KEY, **_tell(found))

    def note_line(self, identity: Identity, jobs: Iterable[str]) -> None:
        """Jobs, by their ids, that are about to be put in line."""
        for job in jobs:
            self._enter("job_added", self._who(identity), about=job)

    def note_job(self, job: Job, found: Report | DeepfakeError) -> None:
        """What an attempt of a job came to."""
        if self._log is not None:
            who = NO_KEY if job.key is None else self._alarms.owner(job.key)[1]
            self._enter("job", who, **_tell(found), about=job.id)

    def note_reading(self, identity: Identity, row: StoredReport) -> None:
        """A report that is shown again."""
        self._enter("report_read", self._who(identity), **_tell_row(row))

    def note_ruling(self, identity: Identity, row: StoredReport, ruling: str) -> None:
        """What a moderator rules on a report."""
        self._enter(f"ruling_{ruling}", self._who(identity), **_tell_row(row))

    def _enter(self, what: str, who: str, **values: Any) -> None:
        if self._log is None:
            return
        try:
            self._log.append(what, who=who, **values)
        except DeepfakeError as fault:
            raise ServiceError(
                "audit log: cannot be written, and nothing is answered without it",
                code=Code.DATABASE,
                hint="try again later; whoever runs the service looks at its audit log and disk",
                status=503,
                retry_seconds=5,
            ) from fault

    def _who(self, identity: Identity) -> str:
        if identity.account is not None:
            text = f"account {identity.account}"
            return f"p-{hmac.new(self._secret, text.encode(), hashlib.sha256).hexdigest()[:16]}"
        return NO_KEY if identity.key is None else identity.shown


def _tell(found: Report | DeepfakeError) -> dict[str, Any]:
    """What an examination came to, and the bundles that a report rests on, by slot."""
    if isinstance(found, DeepfakeError):
        return {"error": str(found.code)}
    bundles = {
        slot: Recorded(found.versions.get(slot, ""), sha256)
        for slot, sha256 in found.bundles.items()
    }
    return {"media": found.media.sha256, "verdict": str(found.verdict), "bundles": bundles}


def _tell_row(row: StoredReport) -> dict[str, Any]:
    return {"media": row.sha256, "verdict": row.verdict, "about": row.id}
