"""Other detectors on the same files: a command that prints a number, or a Python function."""

from __future__ import annotations

import importlib
import math
import re
import shlex
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from deepfake.errors import DeepfakeError, SettingsError
from deepfake.text import printable

Scorer = Callable[[Path], float]
"""Takes a file's path and returns a score that rises with how synthetic it is."""

PLACE = "{}"
_PYTHON = "python:"
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")


@dataclass(frozen=True)
class Peer:
    """``identity`` tells one detector from another where results are kept."""

    name: str
    identity: str
    score: Scorer


def parse_peer(text: str, *, seconds: float) -> Peer:
    """The peer of ``NAME=COMMAND`` or ``NAME=python:MODULE:FUNCTION``.

    A command is split as a shell would, but no shell runs it; ``{}`` stands for the file's path,
    which else comes last. It must print the score as the last number of what it prints, within
    ``seconds``. Raises ``SettingsError`` for what is neither.
    """
    name, _, what = text.partition("=")
    form = "give NAME=COMMAND or NAME=python:MODULE:FUNCTION"
    if not re.fullmatch(r"[\w.-]+", name) or not what.strip():
        raise SettingsError(f"peer {text!r}: has no name or no command", hint=form)
    if what.startswith(_PYTHON):
        return Peer(name, what, load_function(what.removeprefix(_PYTHON)))
    try:
        command = shlex.split(what)
    except ValueError as error:
        raise SettingsError(f"peer {text!r}: {error}", hint=form) from error
    return Peer(name, what, partial(ask_command, command, seconds=seconds))


def load_function(place: str) -> Scorer:
    """The function that ``MODULE:FUNCTION`` names; raises ``SettingsError`` when there is none."""
    module, _, name = place.partition(":")
    try:
        function = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise SettingsError(
            f"peer function {place!r}: cannot be imported ({error})",
            hint="give MODULE:FUNCTION of a module that Python finds (PYTHONPATH=.)",
        ) from error
    if not callable(function):
        raise SettingsError(f"peer function {place!r}: is no function", hint="name another")
    return function  # type: ignore[no-any-return]


def ask_command(command: list[str], path: Path, *, seconds: float) -> float:
    """The last number that the command prints for a file; raises ``DeepfakeError`` without one."""
    file = str(path.absolute())
    arguments = [part.replace(PLACE, file) for part in command]
    if arguments == command:
        arguments.append(file)
    try:
        answer = subprocess.run(  # noqa: S603 - the user's own command, and no shell
            arguments,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise DeepfakeError(
            f"peer {command[0]!r}: took more than {seconds:g} seconds", hint="allow it more"
        ) from error
    except OSError as error:
        raise SettingsError(
            f"peer {command[0]!r}: cannot be run ({error.strerror})", hint="check the command"
        ) from error
    if answer.returncode:
        said = printable(answer.stderr.strip().rpartition("\n")[2])
        raise DeepfakeError(f"peer {command[0]!r}: ended with {answer.returncode} ({said})")
    numbers = _NUMBER.findall(answer.stdout)
    if not numbers:
        raise DeepfakeError(f"peer {command[0]!r}: printed no number", hint="print the score last")
    return float(numbers[-1])


def ask_peer(peer: Peer, path: Path) -> float:
    """A peer's score; raises ``DeepfakeError`` for a failure of any kind, and for no number."""
    try:
        score = float(peer.score(path))
    except DeepfakeError:
        raise
    except Exception as error:  # whatever another program does
        said = printable(f"{type(error).__name__}: {error}")
        raise DeepfakeError(f"peer {peer.name}: failed ({said})") from error
    if not math.isfinite(score):
        raise DeepfakeError(f"peer {peer.name}: gave {score}, which is no score")
    return score
