"""The rounds of a federation as its server keeps them: who has sent what, and what follows."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import numpy as np
from safetensors.numpy import load, save

from deepfake.errors import SettingsError
from deepfake.files import replaced

from .aggregation import aggregate
from .site import move_common, start_common
from .terms import (
    DONE,
    FIT,
    STATISTICS,
    Common,
    Floats,
    RefusedUpdate,
    Terms,
    check_update,
    decode,
    encode,
    pack_head,
    pack_scale,
    unpack_head,
    unpack_scale,
)

STATE = "federation.safetensors"
LOG = "rounds.jsonl"


class Federation:
    """Round 0 gathers statistics, rounds 1 to ``terms.rounds`` steps; what stands after each is in
    ``folder``, from which a server that was stopped goes on. Not for several threads at once.

    A round ends when every site has sent its update, or ``wait_seconds`` after the first update,
    with at least ``least`` of them. What is refused counts as not sent.
    """

    def __init__(
        self,
        terms: Terms,
        sites: Sequence[str],
        *,
        least: int,
        wait_seconds: float,
        folder: Path,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        terms.check()
        if not 2 <= least <= len(sites):
            raise SettingsError(
                f"option --least {least}: of {len(sites)} sites at least 2 must take part",
                hint="give a number from 2 to the number of --sites",
            )
        self.terms, self.sites, self.least = terms, tuple(sites), least
        self.wait_seconds, self._folder, self._clock = wait_seconds, folder, clock
        self.round, self.common = 0, None
        self._updates: dict[str, Floats] = {}
        self._since: float | None = None
        self.refused: list[tuple[int, str, str]] = []
        folder.mkdir(parents=True, exist_ok=True)
        self._read_state()

    common: Common | None

    @property
    def phase(self) -> str:
        """What the round is for."""
        if self.round > self.terms.rounds:
            return DONE
        return FIT if self.round else STATISTICS

    def task(self, site: str) -> bytes | None:
        """What a site is to work from: nothing to know in round 0, afterwards the common numbers;
        None where its update of this round is there.
        """
        self._require(site)
        self.close_late_round()
        if site in self._updates:
            return None
        if self.common is None:
            return encode()
        return encode(scale=pack_scale(self.common.scale), head=pack_head(self.common.head))

    def receive(self, site: str, round_number: int, body: bytes) -> None:
        """Take an update. Raises ``RefusedUpdate`` for one that is none, is of another round, or is
        a second one.
        """
        self._require(site)
        self.close_late_round()
        if round_number != self.round or self.phase == DONE:
            raise RefusedUpdate(f"update of round {round_number}: this is round {self.round}")
        if site in self._updates:
            raise RefusedUpdate(f"update of round {round_number}: this site has sent one")
        try:
            if len(body) > self.terms.most_bytes:
                raise RefusedUpdate("update: is too long")
            vector = decode(body, update=self.terms.numbers(self.phase))["update"]
            check_update(vector, phase=self.phase)
        except RefusedUpdate as error:
            self.refused.append((self.round, site, str(error)))
            raise
        self._updates[site] = vector
        self._since = self._since if self._since is not None else self._clock()
        if len(self._updates) == len(self.sites):
            self._close_round()

    def close_late_round(self) -> None:
        """End the round where enough sites have sent theirs and the others had their time."""
        late = self._since is not None and self._clock() - self._since > self.wait_seconds
        if late and len(self._updates) >= self.least:
            self._close_round()

    def _require(self, site: str) -> None:
        if site not in self.sites:
            raise RefusedUpdate(f"site {site!r}: takes no part in this federation")

    def _close_round(self) -> None:
        names = sorted(self._updates)
        updates = np.stack([self._updates[name] for name in names])
        moved = aggregate(updates, rule=self.terms.rule)
        if self.common is None:
            self.common = start_common(moved, self.terms)
        else:
            self.common = move_common(self.common, moved)
        lengths = np.linalg.norm(updates, axis=1)
        row = {
            "round": self.round,
            "sites": names,
            "lengths": [round(float(length), 5) for length in lengths],
            "moved": round(float(np.linalg.norm(moved)), 5),
            "refused": [list(one[1:]) for one in self.refused if one[0] == self.round],
        }
        self.round += 1
        self._updates, self._since = {}, None
        self._write_state()
        with (self._folder / LOG).open("a", encoding="utf-8") as log:
            log.write(json.dumps(row) + "\n")

    def _write_state(self) -> None:
        assert self.common is not None
        vectors = {"scale": pack_scale(self.common.scale), "head": pack_head(self.common.head)}
        notes = {"round": str(self.round), "terms": msgspec.json.encode(self.terms).decode()}
        with replaced(self._folder / STATE) as partial:
            partial.write_bytes(save(vectors, metadata=notes))

    def _read_state(self) -> None:
        path = self._folder / STATE
        if not path.exists():
            return
        from safetensors import safe_open

        with safe_open(path, "np") as stored:
            notes = stored.metadata()
        if notes["terms"] != msgspec.json.encode(self.terms).decode():
            raise SettingsError(
                f"folder {self._folder}: holds a federation with other terms",
                hint="choose another --output, or give the same options",
            )
        vectors = load(path.read_bytes())
        scale = unpack_scale(vectors["scale"], started=self.terms.started)
        self.common = Common(scale, unpack_head(vectors["head"]))
        self.round = int(notes["round"])
