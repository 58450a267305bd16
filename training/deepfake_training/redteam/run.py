"""Every attack on every file, through ``Detector`` and the peers, remembered as it goes."""

from __future__ import annotations

import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from deepfake.detector import Detector
from deepfake.errors import Cancelled, DeepfakeError, ModelError, SettingsError
from deepfake.faults import contain_faults
from deepfake.media.opening import Media, open_media
from deepfake.preprocess import Floats
from deepfake.progress import Watch, deadline_after
from deepfake.settings import DetectOptions
from deepfake.trust.registry import digest_bundles
from deepfake.types import Kind, Report, Verdict
from deepfake.version import VERSION

from ..attacks import distortion
from ..attacks.victim import Goal
from ..evaluation.journal import Journal, digest, digest_file, word_failure
from ..evaluation.material import Sample
from ..evaluation.peers import Peer, ask_peer
from ..evaluation.run import PEER, read_scores
from ..evaluation.views import AS_IS
from .case import Case, Made, read_signal
from .suite import Attack
from .tools import Tools

ATTACKED = "attacked"
"""The folder of what attacks made, within the output folder."""
_Answer = TypeVar("_Answer")


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What one file came to under one attack, ``as-is`` for none.

    ``verdict`` and ``scores`` (as those of ``deepfake evaluate``) are of the attacked file. A file
    that had the wanted verdict before is not ``attacked`` by what is aimed at it. ``queries`` were
    asked, ``reached_after`` so many the goal was reached. ``psnr`` and ``snr`` are in dB. ``kept``
    is the attacked file within the output folder. ``error`` says why there is no verdict.
    """

    name: str
    sha256: str | None
    synthetic: bool
    source: str
    group: str
    attack: str = AS_IS
    verdict: str | None = None
    scores: Mapping[str, float] = field(default_factory=dict)
    problems: Mapping[str, str] = field(default_factory=dict)
    error: str | None = None
    attacked: bool = False
    queries: int = 0
    reached_after: int | None = None
    psnr: float | None = None
    ssim: float | None = None
    snr: float | None = None
    seconds: float = 0.0
    kept: str | None = None


class Campaign:
    """How files are attacked: the detector, the attacks with their tools, the peers, the journal
    and the ``output`` folder.
    """

    def __init__(
        self,
        detector: Detector,
        journal: Journal,
        *,
        output: Path,
        kind: Kind,
        attacks: Sequence[Attack],
        tools: Tools,
        peers: Sequence[Peer] = (),
        options: DetectOptions | None = None,
    ) -> None:
        self.detector, self.journal, self.output = detector, journal, output
        self.kind, self.attacks, self.tools, self.peers = kind, attacks, tools, peers
        self.options = options or DetectOptions()
        settings = detector.settings
        self._ours = digest(
            VERSION,
            digest_bundles(detector.engine.active),
            settings.precision,
            settings.random_crops,
            settings.backend,
            asdict(self.options),
        )
        self._stop = threading.Event()

    def survey(
        self,
        samples: Sequence[Sample],
        *,
        workers: int = 2,
        progress: Callable[[Trial | None], None] | None = None,
        stop: threading.Event | None = None,
    ) -> list[Trial | None]:
        """The files as they are, in their order; None for one of another kind.

        Raises ``KeyboardInterrupt`` soon after ``stop`` is set; what was finished is remembered.
        """
        self._stop = stop or self._stop
        return _spread(
            [partial(self._survey, sample) for sample in samples],
            workers=workers,
            progress=progress,
            halt=self._stop,
        )

    def attack(
        self,
        samples: Sequence[Sample],
        surveyed: Sequence[Trial],
        *,
        workers: int = 2,
        progress: Callable[[Trial], None] | None = None,
        stop: threading.Event | None = None,
    ) -> list[Trial]:
        """Every attack on every file that it is for; ``surveyed`` are the files as they are.

        Raises as :meth:`survey`.
        """
        self._stop = stop or self._stop
        passing: dict[bool, list[Sample]] = {True: [], False: []}
        for sample, before in zip(samples, surveyed, strict=True):
            if before.verdict:
                passing[Goal(False).is_reached(Verdict(before.verdict))].append(sample)
        self.tools.passing = passing
        return _spread(
            [
                partial(self._attack, pair[0], pair[1], attack)
                for attack in self.attacks
                for pair in zip(samples, surveyed, strict=True)
                if pair[0].synthetic in attack.on and pair[1].verdict
            ],
            workers=workers,
            progress=progress,
            halt=self._stop,
        )

    def count(self, surveyed: Sequence[Trial]) -> int:
        """How many trials :meth:`attack` makes."""
        return sum(
            one.synthetic in attack.on and bool(one.verdict)
            for attack in self.attacks
            for one in surveyed
        )

    def read(self, sample: Sample) -> Floats:
        """The signal of a file, for what is fitted to others."""
        with contain_faults(sample.path), self._open(sample.path) as media:
            return read_signal(media)

    def _survey(self, sample: Sample) -> Trial | None:
        trial = _blank(sample)
        try:
            state = digest_file(sample.path)
            found = self.journal.get(f"{self._ours} {AS_IS} {state}")
            if found is None:
                started = time.perf_counter()
                with self._contained(sample):
                    report = self._detect(sample.path)
                found = {
                    "sha256": report.media.sha256,
                    "kind": report.media.kind.value,
                    "verdict": report.verdict.value,
                    "scores": read_scores(report),
                    "seconds": round(time.perf_counter() - started, 3),
                }
                self.journal.add(f"{self._ours} {AS_IS} {state}", found)
            facts = dict(found)
            if facts.pop("kind") != self.kind.value:
                return None
            return self._with_peers(replace(trial, **facts), sample.path, f"{AS_IS} {state}")
        except (Cancelled, ModelError, SettingsError):
            raise
        except DeepfakeError as error:
            return replace(trial, error=word_failure(error))

    def _attack(self, sample: Sample, before: Trial, attack: Attack) -> Trial:
        trial = replace(_blank(sample), sha256=before.sha256, attack=attack.name)
        if attack.targeted and Goal(sample.synthetic).is_reached(Verdict(str(before.verdict))):
            same = {name: getattr(before, name) for name in ("verdict", "scores", "problems")}
            return replace(trial, **same)
        try:
            key = self._key(attack, digest_file(sample.path))
            found = self.journal.get(key)
            if found is None or not (self.output / str(found["kept"])).is_file():
                with self._contained(sample):
                    found = self._make(sample, attack, key)
                self.journal.add(key, found)
            made = replace(trial, attacked=True, **found)
            return self._with_peers(made, self.output / str(made.kept), key)
        except (Cancelled, ModelError, SettingsError):
            raise
        except DeepfakeError as error:
            return replace(trial, error=word_failure(error))

    def _make(self, sample: Sample, attack: Attack, key: str) -> dict[str, Any]:
        started = time.perf_counter()
        seed = zlib.crc32(f"{self.tools.strength.seed} {key}".encode())
        with self._open(sample.path) as media:
            case = Case(
                sample,
                media,
                self.tools,
                detect=self._detect,
                rng=np.random.default_rng(seed),
                check=self._check,
            )
            made = attack.make(case)
            measures = _measure(case, made)
        kept = f"{ATTACKED}/{attack.name}/{key.rpartition(' ')[2][:16]}{made.suffix}"
        path = self.output / kept
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(made.content)
        report = self._detect(made.content)
        return {
            "verdict": report.verdict.value,
            "scores": read_scores(report),
            "queries": made.queries,
            "reached_after": made.reached_after,
            "seconds": round(time.perf_counter() - started, 3),
            "kept": kept,
            **measures,
        }

    def _key(self, attack: Attack, state: str) -> str:
        strength = self.tools.strength
        parts: list[Any] = [attack.name, attack.says]
        if attack.family == "black-box":
            parts += [strength.budget, strength.answers]
        if attack.family == "white-box":
            parts += [strength.steps]
        if attack.targeted:
            parts += [strength.epsilon, strength.snr, strength.seed]
        if attack.shared:
            parts += [self.tools.digest]
        return f"{self._ours} {digest(*parts, state)}"

    def _with_peers(self, trial: Trial, path: Path, key: str) -> Trial:
        scores, problems = dict(trial.scores), dict(trial.problems)
        for peer in self.peers:
            place = f"peer {digest(peer.name, peer.identity)} {key}"
            known = self.journal.get(place)
            try:
                if known is None:
                    self._check()
                    known = {"score": ask_peer(peer, path)}
                    self.journal.add(place, known)
                scores[f"{PEER}{peer.name}"] = known["score"]
            except (Cancelled, SettingsError):
                raise
            except DeepfakeError as error:
                problems[peer.name] = word_failure(error)
        return replace(trial, scores=scores, problems=problems)

    def _detect(self, source: Path | bytes) -> Report:
        return self.detector.detect(
            source,
            self.options,
            cancel=self._stop,
            deadline=deadline_after(self.detector.settings.file_seconds),
        )

    @contextmanager
    def _contained(self, sample: Sample) -> Iterator[None]:
        """Bugs become the file's error; its time limit is no end of the run."""
        try:
            with contain_faults(sample.path):
                yield
        except Cancelled as error:
            if self._stop.is_set():
                raise
            raise DeepfakeError(str(error)) from error

    def _open(self, path: Path) -> Media:
        limits = self.detector.settings.limits
        return open_media(path, limits=limits, watch=Watch(cancel=self._stop))

    def _check(self) -> None:
        Watch(cancel=self._stop).check()


def _spread(
    works: Sequence[Callable[[], _Answer]],
    *,
    workers: int,
    progress: Callable[[Any], None] | None,
    halt: threading.Event,
) -> list[_Answer]:
    """The answers of all works in their order, a few at a time."""
    answers: dict[int, _Answer] = {}
    places: dict[Future[_Answer], int] = {}
    pending = iter(enumerate(works))
    with ThreadPoolExecutor(workers, thread_name_prefix="deepfake-redteam") as pool:
        try:
            while True:
                while len(places) < 2 * workers and (item := next(pending, None)):
                    places[pool.submit(item[1])] = item[0]
                if not places:
                    break
                for future in wait(places, return_when=FIRST_COMPLETED).done:
                    place = places.pop(future)
                    answers[place] = future.result()
                    if progress is not None:
                        progress(answers[place])
        except Cancelled as error:
            raise KeyboardInterrupt from error
        except BaseException:
            halt.set()
            raise
        finally:
            for future in places:
                future.cancel()
    return [answers[place] for place in range(len(works))]


def _measure(case: Case, made: Made) -> dict[str, float | None]:
    """How far the attacked signal is from the original."""
    if made.signal is None:
        return {}
    if case.kind is Kind.IMAGE:
        before, after = (one.round().astype(np.uint8) for one in (case.signal, made.signal))
        return {
            "psnr": _rounded(distortion.measure_psnr(before, after)),
            "ssim": _rounded(distortion.measure_ssim(before, after)),
        }
    return {"snr": _rounded(distortion.measure_snr(case.signal, made.signal))}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _blank(sample: Sample) -> Trial:
    return Trial(
        name=sample.name,
        sha256=None,
        synthetic=sample.synthetic,
        source=sample.source,
        group=sample.group,
    )
