"""One upload from its place on disk to a page about it, whatever happens on the way."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from threading import Event
from typing import Any, NamedTuple

from deepfake.detector import Detector
from deepfake.errors import Cancelled, DeepfakeError, InternalError, MediaError, TimeLimit
from deepfake.faults import contain_faults
from deepfake.progress import Progress, Watch
from deepfake.reasons import Code
from deepfake.settings import DetectOptions
from deepfake.types import Report

from .limits import MEBIBYTE, PageLimits
from .pictures import Shown, draw_pictures
from .storage import Upload, Uploads
from .views import render_error, render_failure, render_report

Told = Callable[[Report | DeepfakeError], None]


def nobody_told(found: Report | DeepfakeError) -> None:
    """Of whoever wants to know nothing of examinations."""


class Result(NamedTuple):
    """A page about one file, and the report where there is one."""

    name: str
    page: str
    report: Report | None = None


@dataclass(frozen=True, kw_only=True)
class Examiner:
    """Examines uploads of ``uploads``, each of which is deleted with its report. ``told`` is called
    with what each examination came to, before anybody is shown it.
    """

    detector: Detector
    uploads: Uploads
    limits: PageLimits
    told: Told = nobody_told

    def report_on(
        self,
        upload: Upload,
        options: DetectOptions,
        *,
        watch: Watch,
        progress: Progress | None = None,
        cancel: Event | None = None,
    ) -> Report:
        """A report within the deadline of ``watch``. Raises ``DeepfakeError``."""
        try:
            report = self.detector.detect(
                upload.path,
                options,
                name=upload.name,
                progress=progress,
                cancel=cancel,
                deadline=watch.deadline,
            )
        except DeepfakeError as error:
            self.told(error)
            if not isinstance(error, TimeLimit):
                raise
            raise MediaError(
                f"file {upload.name}: takes longer than the {self.limits.file_seconds:g} seconds "
                "that the page gives a file",
                code=Code.TIME_LIMIT,
                hint="examine a part of it, or a smaller copy",
            ) from error
        self.told(report)
        return report

    def examine(
        self,
        sent: Mapping[str, Any],
        options: DetectOptions,
        *,
        progress: Progress,
        cancel: Event,
        place: int = 0,
    ) -> Result:
        """The page about what a visitor ``sent`` (see :func:`read_sent`).

        Raises ``Cancelled`` when its visitor stops it. Everything else becomes a page.
        """
        name = str(sent.get("name") or "upload")
        watch = self.watch(cancel)
        try:
            if "error" in sent:
                raise word_upload_failure(sent["error"], name=name, limits=self.limits)
            with (
                contain_faults("upload"),
                self.uploads.claimed(str(sent.get("path")), name=name) as upload,
            ):
                report = self.report_on(
                    upload, options, watch=watch, progress=progress, cancel=cancel
                )
                shown, note = self._draw(upload, report, watch)
        except Cancelled:
            raise
        except InternalError as error:
            return Result(name, render_failure(error.fault_id))
        except DeepfakeError as error:
            return Result(name, render_error(error))
        page = render_report(report, shown=shown, note=note, place=place)
        return Result(name, page, report)

    def watch(self, cancel: Event | None = None) -> Watch:
        """What ends an examination that begins now."""
        return Watch(None, cancel, deadline=time.monotonic() + self.limits.file_seconds)

    def _draw(self, upload: Upload, report: Report, watch: Watch) -> tuple[Shown, str]:
        limits = self.detector.settings.limits
        try:
            return draw_pictures(upload.path, report, limits=limits, watch=watch), ""
        except TimeLimit:
            return Shown(), "There was no time left to draw what was scored."
        except Cancelled:
            raise
        except DeepfakeError as error:
            return Shown(), f"What was scored could not be drawn: {error}"


def word_upload_failure(status: Any, *, name: str, limits: PageLimits) -> DeepfakeError:
    """What an answer of the receiver means, or that of the browser: 0 is none, −1 was stopped."""
    most = f"{limits.upload_bytes / MEBIBYTE:.0f} MiB"
    match status:
        case -1:
            return Cancelled("upload: stopped", hint="start it again")
        case 413:
            why, hint = f"is larger than the {most} that the page takes", "cut or compress it"
        case 507 | 503:
            why, hint = "the page has no room for it now", "try again in a few minutes"
        case 408:
            why, hint = "was sent too slowly", "try again on a better line, or send a smaller copy"
        case _:
            why, hint = "could not be sent", "try again"
    return MediaError(f"file {name}: {why}", code=Code.NOT_SENT, hint=hint)
