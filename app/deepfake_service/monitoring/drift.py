"""Whether a stream of files is still what it was: an e-detector over simple events.

A stream first *learns* a reference. Its first files choose events, such as "the score of image is
between 0.5 and 0.71" or "format is webp": quantiles of what is measured, two by two, the categories
that were seen, and any other. The files after them count how often each event happens, and give an
upper bound of its probability (Chernoff and Hoeffding's, from the relative entropy), so that a
reference of few files is trusted less.

Then it *watches*. For each event it bets against that bound: a file multiplies the stake by
``1 + share · (happened / bound − 1)``, whose mean is at most 1 as long as the event is no more
probable than the bound. The bets that begin with every file are added up (Shiryaev and Roberts),
for several shares, and the mean over all events and shares is the *evidence*. After n files of an
unchanged stream it is n at most on average, whatever is watched, so that it reaches a limit c
within them with a probability of n / c at most (Ville's inequality; Shin, Ramdas and Rinaldo 2023,
"E-detectors").

That holds for files that do not hang together. Where files come in bursts of alike ones, the counts
of :data:`BATCH` files vary more than they would otherwise; by so much as they do in the reference
each file counts for less: the bounds are those of fewer files, and a factor is raised to the power
of 1 / ``burst``, with which the mean of the product over a burst of that length stays at 1 at most,
however its files hang together (Hölder's inequality). Longer bursts than those of the reference,
and hours that are unlike others, are beyond that.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .signals import Signals

CHOOSING_FILES, COUNTING_FILES = 500, 1500
LIMIT = 1_000_000.0
"""The evidence at which an alarm is given: one false one in so many files at most, on average."""
SHARES = np.array([0.02, 0.05, 0.15, 0.5])
"""Of a stake: what is best against a change that concerns this share of the files."""
DOUBT = 1e-2
"""The probability that one event is more frequent than its bound."""
LEAST_SEEN = 50
BATCH, LEAST_BATCHES = 50, 10
CAUTION, LEAST_BURST = 1.5, 1.5
"""What a burst is taken times, as its length is estimated; and what passes for chance."""
MOST_CATEGORIES = 20
ABOVE, BELOW, BETWEEN, IS, OTHER = "above", "below", "between", "is", "is new"
_QUANTILES = (0.0, 0.02, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.98, 1.0)
_RECENT = 200
_MOST_EVIDENCE = 1e12
Array = npt.NDArray[np.float64]


class Event(NamedTuple):
    """Something that a file's ``signal`` does or does not: it is above or below a number, between
    it and ``high``, is a category (a text), or is none of those that were known.
    """

    signal: str
    word: str
    value: float | str
    high: float | None = None

    def __str__(self) -> str:
        parts = [self.signal, self.word]
        parts.append(f"{self.value:.4g}" if isinstance(self.value, float) else self.value)
        if self.high is not None:
            parts.append(f"and {self.high:.4g}")
        return " ".join(filter(None, parts))


class Change(NamedTuple):
    """An event that has become more frequent: its share in the reference (at most), and lately."""

    event: Event
    reference: float
    recent: float
    evidence: float


@dataclass(frozen=True)
class _Group:
    """The events of one signal: limits that a number lies between, or categories and what is new.
    ``places`` are theirs among all events.
    """

    places: npt.NDArray[np.intp]
    low: Array
    high: Array
    categories: tuple[str, ...]

    @classmethod
    def of(cls, events: Sequence[Event], signal: str) -> _Group:
        own = [(place, event) for place, event in enumerate(events) if event.signal == signal]
        limits = [_limits_of(event) for _, event in own]
        return cls(
            places=np.array([place for place, _ in own], np.intp),
            low=np.array([low for low, _ in limits]),
            high=np.array([high for _, high in limits]),
            categories=tuple(str(event.value) for _, event in own if event.word == IS),
        )

    def look(self, value: float | str) -> Array:
        """1 for each event that a value is, else 0; of a value of another type none is."""
        if isinstance(value, str) and self.categories:
            is_it = [value == category for category in self.categories]
            return np.array([*is_it, not any(is_it)], float)
        if isinstance(value, str) or self.categories:
            return np.zeros(len(self.places))
        return ((value > self.low) & (value < self.high)).astype(float)


def _limits_of(event: Event) -> tuple[float, float]:
    value = event.value if isinstance(event.value, float) else math.nan
    low = -math.inf if event.word == BELOW else value
    high = value if event.word == BELOW else math.inf
    return low, high if event.high is None else event.high


@dataclass
class Stream:
    """The files of one kind for one tenant. Not safe to share between threads."""

    choosing: int = CHOOSING_FILES
    counting: int = COUNTING_FILES
    files: int = 0
    values: dict[str, list[float | str]] = field(default_factory=dict)
    events: tuple[Event, ...] = ()
    seen: Array = field(default_factory=lambda: np.zeros(0))
    happened: Array = field(default_factory=lambda: np.zeros(0))
    batch: Array = field(default_factory=lambda: np.zeros(0))
    squares: Array = field(default_factory=lambda: np.zeros(0))
    burst: float = 1.0
    bounds: Array = field(default_factory=lambda: np.zeros(0))
    stakes: Array = field(default_factory=lambda: np.zeros((0, len(SHARES))))
    recent: Array = field(default_factory=lambda: np.zeros(0))
    _groups: dict[str, _Group] = field(default_factory=dict, repr=False)

    @property
    def learnt(self) -> float:
        """How much of the reference there is, 0…1."""
        return min(1.0, self.files / (self.choosing + self.counting))

    @property
    def evidence(self) -> float:
        """That the stream has changed; at :data:`LIMIT` an alarm is given."""
        return float(self.stakes.mean()) if self.stakes.size else 0.0

    def add(self, signals: Signals) -> None:
        """Take one file in: learn from it, or watch it."""
        self.files += 1
        if self.files <= self.choosing:
            for name, value in signals.items():
                self.values.setdefault(name, []).append(value)
            if self.files == self.choosing:
                self._choose()
            return
        present, happens = self._look(signals)
        if self.files <= self.choosing + self.counting:
            self.seen[present] += 1
            self.happened[present] += happens
            self.batch[present] += happens
            if (self.files - self.choosing) % BATCH == 0:
                self.squares += self.batch**2
                self.batch = np.zeros(len(self.events))
            if self.files == self.choosing + self.counting:
                self._begin()
            return
        bounds = self.bounds[present]
        factors = (1 + SHARES * (happens / bounds - 1)[:, None]) ** (1 / self.burst)
        self.stakes[present] = np.minimum((self.stakes[present] + 1) * factors, _MOST_EVIDENCE)
        self.recent[present] += (happens - self.recent[present]) / _RECENT

    def changes(self, *, most: int) -> list[Change]:
        """The events with the most evidence, at most one of each signal."""
        found: dict[str, Change] = {}
        for place in np.argsort(-self.stakes.mean(axis=1)) if self.stakes.size else ():
            event = self.events[place]
            if event.signal not in found:
                found[event.signal] = Change(
                    event,
                    float(self.bounds[place]),
                    float(self.recent[place]),
                    float(self.stakes[place].mean()),
                )
            if len(found) == most:
                break
        return [*found.values()]

    def to_dict(self) -> dict[str, Any]:
        """The stream as JSON values."""
        arrays = ("seen", "happened", "batch", "squares", "bounds", "stakes", "recent")
        return {
            "choosing": self.choosing,
            "counting": self.counting,
            "files": self.files,
            "burst": self.burst,
            "values": self.values,
            "events": [list(event) for event in self.events],
            **{name: getattr(self, name).tolist() for name in arrays},
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Stream:
        """The inverse of :meth:`to_dict`."""
        arrays = {
            name: np.array(values[name], float)
            for name in ("seen", "happened", "batch", "squares", "bounds", "recent")
        }
        stream = cls(
            choosing=values["choosing"],
            counting=values["counting"],
            files=values["files"],
            burst=values["burst"],
            values=values["values"],
            events=tuple(Event(*event) for event in values["events"]),
            stakes=np.array(values["stakes"], float).reshape(-1, len(SHARES)),
        )
        for name, array in arrays.items():
            setattr(stream, name, array)
        stream._place()
        return stream

    def _choose(self) -> None:
        self.events = tuple(
            event
            for signal, values in sorted(self.values.items())
            if len(values) >= min(LEAST_SEEN, self.choosing)
            for event in _events_of(signal, values)
        )
        self.values = {}
        self.seen, self.happened, self.batch, self.squares = np.zeros((4, len(self.events)))
        self._place()

    def _begin(self) -> None:
        self.burst = self._estimate_burst()
        self.bounds = np.array(
            [
                bound_share(happened / self.burst, seen / self.burst)
                for happened, seen in zip(self.happened, self.seen, strict=True)
            ]
        )
        self.recent = self.happened / np.maximum(self.seen, 1)
        self.stakes = np.zeros((len(self.events), len(SHARES)))

    def _estimate_burst(self) -> float:
        """By how much the counts of batches vary more than those of independent files would."""
        batches = self.counting // BATCH
        shares = self.happened / self.counting
        usual = (shares > 0.05) & (shares < 0.95)
        if batches < LEAST_BATCHES or not usual.any():
            return 1.0
        means = BATCH * shares[usual]
        spread = (self.squares[usual] - batches * means**2) / (batches - 1)
        inflated = float(np.quantile(spread / (means * (1 - shares[usual])), 0.75))
        return CAUTION * inflated if inflated > LEAST_BURST else 1.0

    def _place(self) -> None:
        names = dict.fromkeys(event.signal for event in self.events)
        self._groups = {name: _Group.of(self.events, name) for name in names}

    def _look(self, signals: Signals) -> tuple[npt.NDArray[np.intp], Array]:
        """The events whose signal the file has, and 1 for those that happen, else 0."""
        present: list[npt.NDArray[np.intp]] = [np.zeros(0, np.intp)]
        happens: list[Array] = [np.zeros(0)]
        for name, value in signals.items():
            if (group := self._groups.get(name)) is not None:
                present.append(group.places)
                happens.append(group.look(value))
        return np.concatenate(present), np.concatenate(happens)


def bound_share(happened: float, of: float) -> float:
    """The largest probability under which so few of so many are not rarer than :data:`DOUBT`."""
    if not of:
        return 1.0
    share, nats = happened / of, math.log(1 / DOUBT) / of
    low, high = share, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        if _divergence(share, middle) > nats:
            high = middle
        else:
            low = middle
    return high


def _divergence(share: float, other: float) -> float:
    """The relative entropy of two coins, in nats."""
    total = 0.0
    for p, q in ((share, other), (1 - share, 1 - other)):
        if p > 0:
            total += p * math.log(p / q) if q > 0 else math.inf
    return total


def _events_of(signal: str, values: list[float | str]) -> Iterator[Event]:
    numbers = [value for value in values if isinstance(value, float)]
    if len(numbers) == len(values):
        cuts = sorted({float(it) for it in np.quantile(numbers, _QUANTILES)})
        for place, cut in enumerate(cuts):
            yield Event(signal, ABOVE, cut)
            yield Event(signal, BELOW, cut)
            for high in cuts[place + 1 :]:
                yield Event(signal, BETWEEN, cut, high)
        return
    for category, _ in Counter(map(str, values)).most_common(MOST_CATEGORIES):
        yield Event(signal, IS, category)
    yield Event(signal, OTHER, "")
