"""Every error the package raises on purpose.

::

    DeepfakeError(code, hint)
    ├── MediaError                 the file is the problem
    │   ├── UnsupportedMedia       not an image, a sound or a video that can be read here
    │   ├── Corrupt                claims to be one, but cannot be decoded
    │   └── TooLarge               over a limit of ``Settings.limits``
    ├── ModelError                 a bundle is missing, damaged or does not fit
    ├── BackendError               a runtime cannot load or run a bundle
    ├── SettingsError              an option has a wrong value
    │   └── MissingDependency      names what to install
    ├── InternalError              the file met a bug of this program (see deepfake.faults)
    ├── ServiceError               the service refuses a request, or does not answer
    └── Cancelled                  the examination was stopped on request
        └── TimeLimit              it reached the time limit that it was given

The text of each is ``"{what} {value}: {why}; {remedy}"``. ``code`` is a row of
:mod:`deepfake.reasons` (it becomes a reason in a report), ``hint`` is the remedy alone. A file that
met a bug gives an ``InternalError`` (see :mod:`deepfake.faults`).
"""

from __future__ import annotations

from typing import NamedTuple

from .reasons import Code


class FailedSource(NamedTuple):
    """Which of many sources an error is about: its name as it is shown, and its place from 0."""

    name: str
    position: int


class DeepfakeError(Exception):
    """Base of all deliberate errors.

    ``code`` says what kind of error it is to a machine, ``hint`` is the remedy for a person.
    ``source`` is set by ``Detector.detect_many`` alone.
    """

    code = Code.ERROR
    source: FailedSource | None = None

    def __init__(self, message: str, *, code: Code | None = None, hint: str = "") -> None:
        self.code = code or type(self).code
        self.hint = hint
        super().__init__(f"{message}; {hint}" if hint else message)


class MediaError(DeepfakeError):
    code = Code.MEDIA


class UnsupportedMedia(MediaError):
    code = Code.UNSUPPORTED


class Corrupt(MediaError):
    code = Code.CORRUPT


class TooLarge(MediaError):
    code = Code.TOO_LARGE


class Cancelled(DeepfakeError):
    code = Code.CANCELLED


class TimeLimit(Cancelled):
    code = Code.TIME_LIMIT


class InternalError(DeepfakeError):
    """``fault_id`` is the id under which the log has the traceback."""

    code = Code.INTERNAL

    def __init__(self, message: str, *, hint: str, fault_id: str) -> None:
        self.fault_id = fault_id
        super().__init__(message, hint=hint)


class ServiceError(DeepfakeError):
    """``status`` is that of HTTP, None where nothing was answered; ``retry_seconds`` says when the
    same request may fare better, None where it never will. ``request_id`` leads to the log.
    """

    code = Code.BAD_REQUEST

    def __init__(
        self,
        message: str,
        *,
        code: Code | None = None,
        hint: str = "",
        status: int | None = 400,
        retry_seconds: float | None = None,
        request_id: str | None = None,
    ) -> None:
        self.status, self.retry_seconds, self.request_id = status, retry_seconds, request_id
        super().__init__(message, code=code, hint=hint)


class ModelError(DeepfakeError):
    code = Code.MODEL


class BackendError(DeepfakeError):
    code = Code.BACKEND


class SettingsError(DeepfakeError):
    code = Code.SETTINGS


class MissingDependency(SettingsError):
    """A package of an optional ``extra``, or without one of the base install, is not there."""

    code = Code.MISSING_DEPENDENCY

    def __init__(self, package: str, *, extra: str | None = None) -> None:
        wanted = f'"deepfake[{extra}]"' if extra else package
        super().__init__(f"package {package}: not installed", hint=f"run: pip install {wanted}")
