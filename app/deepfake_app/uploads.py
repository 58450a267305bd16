"""An uploaded file from the moment it is claimed until it is deleted, and the options beside it."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from deepfake.errors import MediaError, SettingsError
from deepfake.settings import DetectOptions

MOST_NAME_CHARACTERS = 200


class Upload(NamedTuple):
    """A file that belongs to one request alone; ``name`` is what its sender calls it."""

    path: Path
    name: str


@contextlib.contextmanager
def claimed(sent: Mapping[str, Any] | None) -> Iterator[Upload]:
    """The upload that a gradio ``FileData`` names, under a name of its own, deleted at the end.

    gradio keeps equal files of several people under one path, so the file is renamed first. The
    path must have been checked against the upload folder, as gradio does. Raises ``MediaError``
    when nothing was sent or the upload is gone.
    """
    if not sent or not sent.get("path"):
        raise MediaError("upload: no file was chosen", code="no_file", hint="choose a file first")
    path = Path(sent["path"])
    name = PurePosixPath(str(sent.get("orig_name") or path.name)).name[:MOST_NAME_CHARACTERS]
    mine = path.with_name(uuid.uuid4().hex)
    try:
        path.rename(mine)
    except OSError as error:
        raise MediaError(
            f"upload {name!r}: is no longer here",
            code="upload_gone",
            hint="files are deleted once examined; choose it again",
        ) from error
    try:
        yield Upload(mine, name or "upload")
    finally:
        mine.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # another upload came into the same folder
            mine.parent.rmdir()


def read_options(values: Sequence[Any]) -> DetectOptions:
    """Options from the values of their controls, in the order of the fields of ``DetectOptions``.

    An empty control means the default. Raises ``SettingsError`` for a value that does not fit.
    """
    chosen: dict[str, Any] = {}
    for option, value in zip(fields(DetectOptions), values, strict=True):
        if value is None:
            continue
        if isinstance(option.default, bool):
            chosen[option.name] = value
            continue
        convert = int if isinstance(option.default, int) else float
        try:
            chosen[option.name] = convert(value)
        except (TypeError, ValueError, OverflowError) as error:
            raise SettingsError(
                f"option {option.name} {value!r}: not a number", hint="give a number"
            ) from error
    return DetectOptions(**chosen)
