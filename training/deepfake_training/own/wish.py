"""What a user asks of ``deepfake train``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deepfake.bundle import SLOTS
from deepfake.errors import SettingsError
from deepfake.trust.registry import LIST, read_bundles, shipped_bundles

from ..privacy.guarantee import Budget, make_accountant

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*(?:-[A-Za-z][A-Za-z0-9_]*)*-[0-9]{1,9}")


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What a user asked for; ``command`` is how, for the card. ``models`` holds the bundle whose
    network is the start, ``threads`` 0 stands for all cores. ``suspicious`` is what is done about
    suspicious files, ``decisions`` the table of what was decided of some. With a ``budget`` the
    head is fitted under differential privacy.
    """

    slot: str
    genuine: Sequence[Path]
    synthetic: Sequence[Path]
    output: Path
    command: str
    models: Path
    start: str = "shipped"
    split: str = "source"
    limit: int | None = None
    threads: int = 0
    seed: int = 1
    suspicious: str = "warn"
    decisions: Path | None = None
    budget: Budget | None = None


def check_wish(wish: Wish) -> None:
    """Raise ``SettingsError`` for a name that no bundle may have or that is taken, and for numbers
    that make no sense; ``ModelError`` for a folder in which something active is damaged already.
    """
    for option, value, least in (("limit", wish.limit, 1), ("threads", wish.threads, 0)):
        if value is not None and value < least:
            raise SettingsError(
                f"option --{option} {value}: out of range",
                hint=f"give a whole number from {least} on",
            )
    if wish.budget is not None:
        wish.budget.check(0)
        make_accountant()
        if wish.suspicious == "weigh":
            raise SettingsError(
                "options --suspicious weigh, --dp-epsilon: do not go together, because what one "
                "file counts would tell of others",
                hint="leave --suspicious out, look at what is told, and drop files by --decisions",
            )
    name = wish.output.name
    word = name.rpartition("-")[0]
    if not _NAME.fullmatch(name) or (word in SLOTS and word != wish.slot):
        raise SettingsError(
            f"output {wish.output}: a bundle is called <word>-<integer>, and the word may be no "
            "other slot",
            hint="for example models/mine-1",
        )
    if wish.output.exists() or name in shipped_bundles():
        raise SettingsError(
            f"output {wish.output}: {'is there already' if wish.output.exists() else 'is shipped'}",
            hint=f"choose another number, for example {word}-{int(name.rpartition('-')[2]) + 1}",
        )
    if (wish.output.parent / LIST).exists():
        read_bundles(wish.output.parent)
