"""Small pictures of what reports are about, where the operator lets them be kept."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from sqlalchemy import select

from deepfake.errors import DeepfakeError
from deepfake.faults import contain_faults
from deepfake.media.opening import open_media
from deepfake.progress import Watch
from deepfake.settings import Limits
from deepfake.show.thumbnails import THUMBNAIL_SECONDS, draw_thumbnail

from .database import Database
from .tables import StoredReport, Thumbnail, now_ms


class Thumbnails:
    """The thumbnails in ``database``, which are made and found only while ``kept``; each is deleted
    with its report.
    """

    def __init__(self, database: Database, *, kept: bool, limits: Limits) -> None:
        self._database, self._kept, self._limits = database, kept, limits

    def add(self, report: str, path: Path) -> None:
        """Keep a thumbnail of the media at ``path``; a report without one is as good."""
        if not self._kept:
            return
        try:
            with contain_faults("thumbnail"):
                watch = Watch(deadline=time.monotonic() + THUMBNAIL_SECONDS)
                with open_media(path, limits=self._limits, watch=watch) as media:
                    content = draw_thumbnail(media)
                if content is not None:
                    with self._database.writing() as session:
                        session.add(Thumbnail(created=now_ms(), report=report, content=content))
        except DeepfakeError:
            return

    def present(self, tenant: int, reports: Sequence[str]) -> set[str]:
        """Which of these reports of this tenant have a thumbnail."""
        if not self._kept or not reports:
            return set()
        with self._database.reading() as session:
            return set(
                session.scalars(
                    select(Thumbnail.report)
                    .join(StoredReport, StoredReport.id == Thumbnail.report)
                    .where(StoredReport.tenant == tenant, StoredReport.id.in_(reports))
                )
            )

    def find(self, tenant: int, report: str) -> bytes | None:
        """The JPEG of a report of this tenant, None where there is none."""
        if not self._kept:
            return None
        with self._database.reading() as session:
            return session.scalar(
                select(Thumbnail.content)
                .join(StoredReport, StoredReport.id == Thumbnail.report)
                .where(StoredReport.tenant == tenant, StoredReport.id == report)
            )
