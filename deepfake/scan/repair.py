"""Damaged results files: finding every whole line in one, and what was lost around them."""

from __future__ import annotations

import contextlib
import fcntl
import glob
import json
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

from ..errors import DeepfakeError, SettingsError
from ..reasons import Code
from ..types import SCHEMA
from .results import STARTS, is_torn, parse_line

DAMAGED_SUFFIX = ".damaged"
_BLOCK_BYTES = 1024**2
_MOST_LISTED = 10
_SEPARATOR = re.compile(rb"(\n|\0+)")
"""What ends a piece: no line holds a NUL, and holes and tails of files are full of them."""
_START = re.compile(rf'\{{"(?:schema": ?"{re.escape(SCHEMA)}|path": ?)"')
_DECODER = json.JSONDecoder()


class Loss(NamedTuple):
    """A range of bytes that holds no whole line."""

    offset: int
    size_bytes: int


class _Kept(NamedTuple):
    """A range of whole lines; the last one lacks its end when it is not ``ended``."""

    start: int
    stop: int
    ended: bool


@dataclass(frozen=True, kw_only=True)
class Survey:
    """What a results file holds: whole ``lines``, and ``torn`` pieces of others.

    ``recognised`` tells whether it is of a scan at all.
    """

    kept: tuple[_Kept, ...]
    losses: tuple[Loss, ...]
    lines: int
    torn: int
    recognised: bool

    @property
    def damaged(self) -> bool:
        """Whether anything but whole lines is in it."""
        return bool(self.losses) or not all(kept.ended for kept in self.kept)


@dataclass(frozen=True, kw_only=True)
class Repair:
    """A repaired results file: what was found, and where the damaged one is kept."""

    survey: Survey
    path: Path
    original: Path

    def __str__(self) -> str:
        lost = sum(loss.size_bytes for loss in self.survey.losses)
        places = [f"{loss.size_bytes:,} at byte {loss.offset:,}" for loss in self.survey.losses]
        more = len(places) - _MOST_LISTED
        shown = ", ".join(places[:_MOST_LISTED]) + (
            f" and {more:,} more places" if more > 0 else ""
        )
        return (
            f"results file {str(self.path)!r}: repaired; {self.survey.lines:,} whole lines kept, "
            f"lost {self.survey.torn:,} pieces of lines, {lost:,} bytes"
            f"{f' ({shown})' if shown else ''}; the damaged file is {str(self.original)!r}"
        )


def repair_results(path: Path) -> Repair | None:
    """Reduce a results file to its whole lines, and keep the damaged one beside it.

    Returns nothing, and leaves the file alone, when there is no damage or no file. A name that is
    taken is never overwritten. Until the repaired file is complete the old one stays in place.
    Raises ``SettingsError`` for a file that is not of a scan or in use, ``DeepfakeError`` where
    nothing can be written.
    """
    path = path.resolve()
    if not path.exists():
        return None
    try:
        with _locked(path) as file:
            survey = survey_results(file)
            if not survey.damaged:
                return None
            if not survey.recognised:
                raise _foreign(path)
            return Repair(survey=survey, path=path, original=_replace(path, file, survey))
    except OSError as error:
        raise DeepfakeError(
            f"results file {str(path)!r}: cannot be repaired ({error.strerror})",
            code=Code.RESULTS_FILE,
            hint="free space, check the permissions, and run the same command again",
        ) from error


def find_originals(path: Path) -> list[Path]:
    """The damaged files that repairs of a results file left beside it."""
    return [Path(found) for found in glob.glob(f"{glob.escape(str(path))}{DAMAGED_SUFFIX}*")]  # noqa: PTH207


def damage(path: Path, *, number: int, offset: int) -> SettingsError:
    """The error for a results file whose line ``number``, at the byte ``offset``, is not whole."""
    with path.open("rb") as file:
        if not survey_results(file).recognised:
            return _foreign(path)
    return SettingsError(
        f"results file {str(path)!r}: line {number:,}, at byte {offset:,}, is damaged",
        hint="run the same scan with --repair, which keeps every whole line and the damaged file",
    )


def survey_results(file: BinaryIO) -> Survey:
    """Find every whole line of a file, those that are glued to other things too."""
    kept: list[_Kept] = []
    lines = torn = pieces = 0
    first = b""
    for offset, piece, separator in _pieces(file):
        pieces += bool(piece)
        first = first or piece
        spans = _find_lines(piece)
        lines += len(spans)
        torn += _count_torn(piece, spans)
        for start, stop in spans:
            ended = stop == len(piece) and separator == b"\n"
            _add(kept, _Kept(offset + start, offset + stop + ended, ended))
    begins = is_torn(first) and (pieces == 1 or first.startswith(STARTS[0]))
    losses = tuple(_find_losses(kept, file.tell()))
    return Survey(
        kept=tuple(kept), losses=losses, lines=lines, torn=torn, recognised=bool(lines) or begins
    )


def _pieces(file: BinaryIO) -> Iterator[tuple[int, bytes, bytes]]:
    """Offset, bytes and separator of everything between line ends and NULs."""
    offset, rest = 0, b""
    while block := file.read(_BLOCK_BYTES):
        *parts, rest = _SEPARATOR.split(rest + block)
        for piece, separator in zip(parts[::2], parts[1::2], strict=True):
            yield offset, piece, separator
            offset += len(piece) + len(separator)
    if rest:
        yield offset, rest, b""


def _find_lines(piece: bytes) -> list[tuple[int, int]]:
    """Where the whole lines of a piece begin and end."""
    if not piece:
        return []
    if _is_line(piece):
        return [(0, len(piece))]
    text = piece.decode("ascii", "surrogateescape")  # one character a byte
    spans: list[tuple[int, int]] = []
    at = 0
    while found := _START.search(text, at):
        start = found.start()
        end = _find_end(text, start)
        follows = start == (spans[-1][1] if spans else 0)
        if end and (follows or end == len(text) or _START.match(text, end)):
            spans.append((start, end))
            at = end
        else:
            at = start + 1
    return spans


def _find_end(text: str, start: int) -> int | None:
    try:
        _, end = _DECODER.raw_decode(text, start)
    except (ValueError, RecursionError):
        return None
    return end if _is_line(text[start:end].encode("ascii", "surrogateescape")) else None


def _is_line(raw: bytes) -> bool:
    try:
        parse_line(raw)
    except ValueError:
        return False
    return True


def _count_torn(piece: bytes, spans: list[tuple[int, int]]) -> int:
    """How many pieces are left when the whole lines are taken out."""
    edges = [0, *(edge for span in spans for edge in span), len(piece)]
    return sum(bool(piece[a:b].strip()) for a, b in zip(edges[::2], edges[1::2], strict=True))


def _add(kept: list[_Kept], new: _Kept) -> None:
    if kept and kept[-1].ended and kept[-1].stop == new.start:
        new = _Kept(kept.pop().start, new.stop, new.ended)
    kept.append(new)


def _find_losses(kept: Iterable[_Kept], size_bytes: int) -> Iterator[Loss]:
    at = 0
    for start, stop, _ in [*kept, _Kept(size_bytes, size_bytes, True)]:
        if start > at:
            yield Loss(at, start - at)
        at = stop


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[BinaryIO]:
    """A regular file that no scan is writing."""
    descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise SettingsError(f"results file {str(path)!r}: is not a regular file")
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise SettingsError(
                f"results file {str(path)!r}: another scan is writing it", hint="wait for its end"
            ) from error
        yield file


def _replace(path: Path, file: BinaryIO, survey: Survey) -> Path:
    """Put the whole lines in the place of the file and return the new name of that."""
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name[:100]}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as repaired:
            for kept in survey.kept:
                _copy(file, repaired, kept)
            facts = os.fstat(file.fileno())
            with contextlib.suppress(PermissionError):
                os.fchown(descriptor, facts.st_uid, facts.st_gid)
            os.fchmod(descriptor, stat.S_IMODE(facts.st_mode))
            repaired.flush()
            os.fsync(descriptor)
        original = _keep(path)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return original


def _copy(file: BinaryIO, repaired: BinaryIO, kept: _Kept) -> None:
    file.seek(kept.start)
    left = kept.stop - kept.start
    while left:
        left -= repaired.write(file.read(min(left, _BLOCK_BYTES)))
    if not kept.ended:
        repaired.write(b"\n")


def _keep(path: Path) -> Path:
    """Give a file a second name that is free, or a copy where the disk knows no second names."""
    number = 1
    while True:
        name = path.with_name(path.name + DAMAGED_SUFFIX + (f"-{number}" if number > 1 else ""))
        try:
            os.link(path, name)
        except FileExistsError:
            number += 1
            continue
        except OSError:
            with path.open("rb") as file, name.open("xb") as copy:
                shutil.copyfileobj(file, copy)
                os.fsync(copy.fileno())
        return name


def _foreign(path: Path) -> SettingsError:
    return SettingsError(
        f"results file {str(path)!r}: holds a line that is not of a scan",
        hint="choose another --output",
    )
