"""The audit log: an append-only file of JSON lines, each bound to the one before by its sha256.

An entry says who asked, what (``detect``, ``scan`` …), the sha256 of the media, never the media nor
a path, which bundles answered, the verdict and the time. A checkpoint is a line that holds an
envelope, signed by both keys of the operator, over the number of lines before it and the sha256 of
the last one; every session of writing ends with one, and so does every ``CHECKPOINT_EVERY``
entries. Whoever cannot sign can therefore neither change, insert, move nor take away what lies
before the last checkpoint.

What the file alone cannot tell is that whole lines were cut off its end, back to an earlier
checkpoint. Therefore the head of the log lies beside it in ``NAME.head``: the number and hash of
the last checkpoint, which ``verify`` wants to find in the log. Who can write both can cut both, so
that an operator keeps the hash elsewhere as well (``verify --expect``).

Several processes may write one log: a line is added under a lock on ``NAME.lock``, in one write,
after the last line was read again. Every entry is synced to the disk before ``append`` returns. A
half line of a process that was killed is cut off by the next writer: it was never promised.

Once a log is over ``MOST_BYTES``, it is closed by a checkpoint and renamed to ``NAME.1``, then
``NAME.2`` …, the oldest first; the new file goes on with the numbers and the chain of the old one.
"""

from __future__ import annotations

import fcntl
import glob
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ..bundle import Bundle
from ..errors import DeepfakeError, SettingsError
from ..text import printable
from .envelopes import Unsealed, canonical, seal, unseal
from .keys import PrivatePair, PublicPair
from .registry import Recorded

FIRST = "0" * 64
CHECKPOINT_EVERY = 1000
MOST_BYTES = 64 * 1024**2
PAYLOAD = "application/vnd.deepfake.audit-checkpoint+json"
FIELDS = frozenset(
    {"number", "previous", "time", "who", "what", "media", "bundles", "verdict", "error"}
)
_MOST_LINE = 64 * 1024
_SHA256 = re.compile("[0-9a-f]{64}")
_NO_MEDIA = re.compile(r"[a-z][a-z0-9_]{0,39}")

Line = dict[str, Any]


class Tampered(DeepfakeError):
    """The log is not what was written; the text names the line."""


@dataclass(frozen=True)
class Verified:
    """What a whole log holds. ``unsigned`` entries follow the last checkpoint."""

    files: int
    entries: int
    checkpoints: int
    unsigned: int
    head: str


class AuditLog:
    """A log open for appending; use it as a context manager, which ends with a checkpoint.

    ``who`` is a name or pseudonym of who asks. Raises ``SettingsError`` for a place that cannot be
    written, and :class:`Tampered` where the last line is not one of a log.
    """

    def __init__(
        self, path: Path, pair: PrivatePair, *, who: str, most_bytes: int = MOST_BYTES
    ) -> None:
        self.path, self.who = path, printable(who)
        self._pair, self._most_bytes = pair, most_bytes
        self._unsigned = False

    def append(
        self,
        what: str,
        *,
        media: str | None = None,
        bundles: Mapping[str, Bundle | Recorded] | None = None,
        verdict: str | None = None,
        error: str | None = None,
        about: str | None = None,
        who: str | None = None,
    ) -> None:
        """Add one entry, synced to the disk: ``media`` is a sha256, ``verdict`` a word, ``error``
        the code of one; ``about`` names what a change is of, such as a bundle or a key; ``who``
        stands in place of that of the log.
        """
        if media is not None and not _SHA256.fullmatch(media):
            raise ValueError("media is told by its sha256 alone")
        for word in (what, verdict, error):
            if word is not None and not _NO_MEDIA.fullmatch(word):
                raise ValueError(f"{word[:40]!r} is no word of a log")
        subject = {} if about is None else {"about": printable(about, most=80)}
        named = {
            slot: {"name": one.name, "sha256": one.sha256}
            for slot, one in sorted((bundles or {}).items())
        }
        self._add(
            {
                "who": self.who if who is None else printable(who),
                "what": what,
                "media": media,
                "bundles": named,
                "verdict": verdict,
                "error": error,
                **subject,
            }
        )

    def checkpoint(self) -> None:
        """Sign all lines so far."""
        with self._locked() as file:
            self._sign(file)

    def __enter__(self) -> Self:
        with self._locked() as file:
            _last(file, self.path)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._unsigned:
            self.checkpoint()

    def _add(self, values: Line) -> None:
        with self._locked() as file:
            number, _ = _write(file, self.path, values)
            self._unsigned = True
            full = file.seek(0, os.SEEK_END) > self._most_bytes
            if number % CHECKPOINT_EVERY == 0 or full:
                self._sign(file)
            if full:
                parts = list_parts(self.path)
                self.path.rename(self.path.with_name(f"{self.path.name}.{len(parts)}"))
                _sync_folder(self.path.parent)

    def _sign(self, file: Any) -> None:
        number, previous = _last(file, self.path)
        body = canonical({"lines": number, "last": previous})
        envelope = json.loads(seal(body, PAYLOAD, self._pair))
        _, digest = _write(file, self.path, {"checkpoint": envelope})
        head = _head_path(self.path)
        partial = head.with_name(head.name + ".partial")
        with partial.open("wb") as fresh:
            fresh.write(canonical({"lines": number + 1, "last": digest}) + b"\n")
            fresh.flush()
            os.fsync(fresh.fileno())
        partial.replace(head)
        _sync_folder(self.path.parent)
        self._unsigned = False

    @contextmanager
    def _locked(self) -> Iterator[Any]:
        """The file, which no other process writes meanwhile."""
        try:
            with self.path.with_name(f"{self.path.name}.lock").open("ab") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                new = not self.path.exists()
                flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
                with os.fdopen(os.open(self.path, flags, 0o640), "rb+") as file:
                    if new:
                        _sync_folder(self.path.parent)
                    yield file
        except OSError as error:
            raise SettingsError(
                f"audit log {str(self.path)!r}: cannot be written ({error.strerror})",
                hint="free space, or choose another file",
            ) from error


def verify_log(
    path: Path,
    trusted: Mapping[str, PublicPair],
    *,
    revoked: Mapping[str, str] | None = None,
    expect: str | None = None,
) -> Verified:
    """Read a log with all its parts and hold every line to the chain and every checkpoint to the
    ``trusted`` pairs (by the id of their Ed25519 key).

    ``expect`` is a hash of a line that the log must hold, as kept elsewhere. Raises
    :class:`Tampered` for what was changed, inserted, moved or cut off.
    """
    with _reading(path):
        return _verify(path, trusted, revoked or {}, expect)


def _verify(
    path: Path,
    trusted: Mapping[str, PublicPair],
    revoked: Mapping[str, str],
    expect: str | None,
) -> Verified:
    previous, count, entries, checkpoints, unsigned = FIRST, 0, 0, 0, 0
    seen = expect is None
    head, found_head = _read_head(path), False
    for number, (line, raw) in enumerate(_lines(path), 1):
        if line.get("number") != number or line.get("previous") != previous:
            raise _tampered(path, number, "does not follow the one before")
        if "checkpoint" in line:
            _check_signature(path, number, line, trusted, revoked)
            checkpoints, unsigned = checkpoints + 1, 0
        else:
            if set(line) - {"about"} != FIELDS:
                raise _tampered(path, number, "is no entry")
            entries, unsigned = entries + 1, unsigned + 1
        previous, count = hashlib.sha256(raw).hexdigest(), number
        seen = seen or previous == expect
        if head == {"lines": number, "last": previous}:
            found_head = "checkpoint" in line
    if not found_head:
        raise _tampered(
            path,
            count + 1,
            f"and others are missing: {_head_path(path).name} names "
            "a checkpoint that the log does not hold",
        )
    if not seen:
        raise _tampered(path, count + 1, "is missing: no line has the expected hash")
    return Verified(len(list_parts(path)), entries, checkpoints, unsigned, previous)


def search_entries(
    path: Path,
    *,
    media: str | None = None,
    bundle: str | None = None,
    verdict: str | None = None,
    who: str | None = None,
    since: str | None = None,
    until: str | None = None,
) -> Iterator[Line]:
    """The entries, of all parts, that fit all that is given: ``bundle`` is a name or a sha256,
    ``since`` and ``until`` are times as the log has them, or their beginning. Nothing is verified.
    """
    for line, _ in _lines(path):
        if "checkpoint" in line:
            continue
        named = {value for one in line["bundles"].values() for value in one.values()}
        if (
            (media is None or line["media"] == media)
            and (bundle is None or bundle in named)
            and (verdict is None or line["verdict"] == verdict)
            and (who is None or line["who"] == who)
            and (since is None or line["time"] >= since)
            and (until is None or line["time"][: len(until)] <= until)
        ):
            yield line


def list_parts(path: Path) -> list[Path]:
    """The files of a log, the oldest first."""
    closed: list[Path] = []
    while (part := path.with_name(f"{path.name}.{len(closed) + 1}")).exists():
        closed.append(part)
    return [*closed, path]


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Keep writers waiting, where the log is not a copy without its lock."""
    try:
        lock = path.with_name(f"{path.name}.lock").open("rb")
    except OSError:
        yield
        return
    with lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        yield


def _lines(path: Path) -> Iterator[tuple[Line, bytes]]:
    """Every line, as values and bytes, that is written in the one way it can be."""
    number = 0
    parts = list_parts(path)
    if not parts[0].exists():
        if any(path.parent.glob(f"{glob.escape(path.name)}.[0-9]*")):
            raise _tampered(path, 1, "is missing, with the part that it was in")
        raise SettingsError(f"audit log {str(path)!r}: not found", hint="check the path")
    for part in parts:
        if part == path and not part.exists():  # just rotated
            return
        with part.open("rb") as file:
            while raw := file.readline(_MOST_LINE + 1):
                number += 1
                try:
                    line = json.loads(raw)
                    exact = isinstance(line, dict) and canonical(line) + b"\n" == raw
                except (ValueError, RecursionError):
                    exact = False
                if not exact:
                    raise _tampered(path, number, "is not as it was written")
                yield line, raw


def _check_signature(
    path: Path,
    number: int,
    line: Line,
    trusted: Mapping[str, PublicPair],
    revoked: Mapping[str, str],
) -> None:
    try:
        raw = canonical(line["checkpoint"]) + b"\n"
        body, _ = unseal(raw, PAYLOAD, trusted, revoked)
    except Unsealed as error:
        raise _tampered(path, number, f"is a checkpoint, but {error}") from error
    signed = canonical({"lines": number - 1, "last": line["previous"]})
    if body != signed or set(line) != {"number", "previous", "time", "checkpoint"}:
        raise _tampered(path, number, "is a checkpoint of other lines")


def _write(file: Any, path: Path, values: Line) -> tuple[int, str]:
    """Add a line after the last one; its number and hash."""
    number, previous = _last(file, path)
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    line = {"number": number + 1, "previous": previous, "time": now, **values}
    raw = canonical(line) + b"\n"
    if len(raw) > _MOST_LINE:
        raise ValueError("an entry is too long")
    end = file.seek(0, os.SEEK_END)
    try:
        if os.write(file.fileno(), raw) != len(raw):
            raise OSError(28, "the disk is full")
        os.fsync(file.fileno())
    except OSError:
        os.ftruncate(file.fileno(), end)
        raise
    return number + 1, hashlib.sha256(raw).hexdigest()


def _last(file: Any, path: Path) -> tuple[int, str]:
    """The number and hash of the last whole line; of an empty file those of the part before. What
    follows the last whole line is cut off.
    """
    end = file.seek(0, os.SEEK_END)
    if end == 0:
        closed = list_parts(path)[:-1]
        if not closed:
            return 0, FIRST
        with closed[-1].open("rb") as before:
            return _last_line(_tail(before, before.seek(0, os.SEEK_END)), path)
    tail = _tail(file, end)
    whole = tail.rfind(b"\n") + 1
    if whole != len(tail):
        os.ftruncate(file.fileno(), end - (len(tail) - whole))
        return _last(file, path)
    return _last_line(tail, path)


def _tail(file: Any, end: int) -> bytes:
    start = max(0, end - 2 * _MOST_LINE)
    content: bytes = os.pread(file.fileno(), end - start, start)
    return content


def _last_line(tail: bytes, path: Path) -> tuple[int, str]:
    raw = tail[tail.rfind(b"\n", 0, len(tail) - 1) + 1 :]
    try:
        number = json.loads(raw)["number"]
        if not isinstance(number, int):
            raise TypeError
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise Tampered(
            f"audit log {str(path)!r}: its last line is not one of a log",
            hint="deepfake audit verify says more; go on in another file",
        ) from error
    return number, hashlib.sha256(raw).hexdigest()


def _head_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.head")


def _read_head(path: Path) -> Line:
    try:
        raw = _head_path(path).read_bytes()
        head: Line = json.loads(raw)
        if canonical(head) + b"\n" != raw or set(head) != {"lines", "last"}:
            raise ValueError
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise Tampered(
            f"audit log {str(path)!r}: {_head_path(path).name} is missing or damaged",
            hint="restore both from a copy; without it lines may be missing at the end",
        ) from error
    return head


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _tampered(path: Path, number: int, why: str) -> Tampered:
    return Tampered(
        f"audit log {str(path)!r}: line {number} {why}",
        hint="compare it with a copy; what stands before an earlier checkpoint still holds",
    )
