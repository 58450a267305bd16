"""Every file in every view through ``Detector`` and the peers, remembered as it goes."""

from __future__ import annotations

import contextlib
import tempfile
import threading
import uuid
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from deepfake.detector import Detector
from deepfake.errors import Cancelled, DeepfakeError, MediaError, ModelError, SettingsError
from deepfake.faults import contain_faults
from deepfake.media.opening import Media, open_media
from deepfake.progress import Watch, deadline_after
from deepfake.settings import DetectOptions
from deepfake.trust.registry import digest_bundles
from deepfake.types import Kind, Report, Weight
from deepfake.version import VERSION

from .journal import Journal, digest, digest_file, word_failure
from .material import Sample
from .peers import Peer, ask_peer
from .views import AS_IS, VIEWS, find_views

PARTS = {"motion_score": "motion", "frames_score": "frames"}
"""Details of the ``video`` evidence that are scores of its two bundles."""
FUSED = "fused"
SIZE_LIMITS = (0.3, 1.0, 4.0)
SIZES = ("under 0.3 MP", "0.3 to 1 MP", "1 to 4 MP", "4 MP and more")
PEER = "peer:"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one file came to in one view.

    ``scores`` holds the fused probability as ``fused`` where there is one, the score of every
    network that judged the file, and those of peers as ``peer:NAME``. Without a report ``error``
    says why, and ``verdict`` is None. ``problems`` are the errors of peers by their names,
    ``traits`` the groups that the file is of.
    """

    name: str
    sha256: str | None
    synthetic: bool
    source: str
    group: str
    kind: str | None
    view: str
    verdict: str | None = None
    scores: Mapping[str, float] = field(default_factory=dict)
    error: str | None = None
    problems: Mapping[str, str] = field(default_factory=dict)
    traits: Mapping[str, str] = field(default_factory=dict)


class Examination:
    """How files are examined: the detector, the peers, the views, and the journal."""

    def __init__(
        self,
        detector: Detector,
        journal: Journal,
        *,
        views: Sequence[str] = (AS_IS,),
        peers: Sequence[Peer] = (),
        options: DetectOptions | None = None,
        measured: bool = False,
    ) -> None:
        """With ``measured``, files are put into groups by what is measured of them, too."""
        self.detector, self.journal, self.measured = detector, journal, measured
        self.views, self.peers = views, peers
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

    def examine(
        self,
        samples: Sequence[Sample],
        *,
        workers: int = 2,
        progress: Callable[[list[Outcome]], None] | None = None,
        stop: threading.Event | None = None,
    ) -> list[Outcome]:
        """The outcomes of all samples in their order; ``progress`` is called with those of each.

        A file that cannot be read is an outcome with an error. Raises ``KeyboardInterrupt`` soon
        after ``stop`` is set and ``ModelError`` for a bundle that cannot be loaded; what was
        finished until then is in the journal.
        """
        self._stop = stop or threading.Event()
        places: dict[Future[list[Outcome]], int] = {}
        found: list[list[Outcome]] = [[] for _ in samples]
        pending = iter(enumerate(samples))
        with (
            tempfile.TemporaryDirectory(prefix="deepfake-views-") as folder,
            ThreadPoolExecutor(workers, thread_name_prefix="deepfake-evaluate") as pool,
        ):
            try:
                while True:
                    while len(places) < 2 * workers and (item := next(pending, None)):
                        places[pool.submit(self._examine, item[1], Path(folder))] = item[0]
                    if not places:
                        break
                    for future in wait(places, return_when=FIRST_COMPLETED).done:
                        place = places.pop(future)
                        found[place] = future.result()
                        if progress is not None:
                            progress(found[place])
            except Cancelled as error:
                raise KeyboardInterrupt from error
            finally:
                self._stop.set()
                for future in places:
                    future.cancel()
        return [outcome for own in found for outcome in own]

    def _examine(self, sample: Sample, folder: Path) -> list[Outcome]:
        try:
            with contain_faults(sample.path):
                return self._examine_views(sample, folder)
        except (Cancelled, ModelError, SettingsError):
            raise
        except DeepfakeError as error:
            return [_outcome(sample, {}, view=AS_IS, error=word_failure(error))]

    def _examine_views(self, sample: Sample, folder: Path) -> list[Outcome]:
        self._check()
        state = digest_file(sample.path)
        facts = self._recall(f"file {state}", lambda: self._look(sample.path))
        if "error" in facts:
            return [_outcome(sample, facts, view=AS_IS, error=facts["error"])]
        outcomes = []
        with contextlib.ExitStack() as stack:
            opened: list[Media] = []

            def open_once() -> Media:
                if not opened:
                    opened.append(stack.enter_context(self._open(sample.path)))
                return opened[0]

            for view in find_views(Kind(facts["kind"]), self.views):
                outcomes.append(
                    self._examine_view(
                        sample, facts, state, view, folder=folder, open_once=open_once
                    )
                )
        return outcomes

    def _examine_view(
        self,
        sample: Sample,
        facts: Mapping[str, Any],
        state: str,
        view: str,
        *,
        folder: Path,
        open_once: Callable[[], Media],
    ) -> Outcome:
        kind = Kind(facts["kind"])
        with contextlib.ExitStack() as stack:
            files: list[Path] = [] if view != AS_IS else [sample.path]

            def path() -> Path:
                if not files:
                    files.append(stack.enter_context(_write_view(kind, view, folder, open_once())))
                return files[0]

            ours = self._recall(f"{self._ours} {view} {state}", lambda: self._detect(path()))
            scores: dict[str, float] = dict(ours.get("scores", {}))
            problems = {}
            for peer in self.peers:
                key = f"peer {digest(peer.name, peer.identity)} {view} {state}"
                answer = self._recall(key, lambda peer=peer: _ask(peer, path()))  # type: ignore[misc]
                if "score" in answer:
                    scores[f"{PEER}{peer.name}"] = answer["score"]
                else:
                    problems[peer.name] = answer["error"]
        measured = measure_traits(facts) if self.measured else {}
        return _outcome(
            sample,
            facts,
            view=view,
            traits={**measured, **sample.traits},
            verdict=ours.get("verdict"),
            scores=scores,
            error=ours.get("error"),
            problems=problems,
        )

    def _detect(self, path: Path) -> dict[str, Any]:
        with contain_faults(path):
            report = self.detector.detect(
                path,
                self.options,
                cancel=self._stop,
                deadline=deadline_after(self.detector.settings.file_seconds),
            )
        return {"verdict": report.verdict.value, "scores": read_scores(report)}

    def _recall(self, key: str, find: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """What the journal has, or else what is found now. Errors that may pass are not kept."""
        known = self.journal.get(key)
        if known is not None:
            return known
        self._check()
        try:
            found = find()
        except (ModelError, SettingsError):
            raise  # no other file would fare better
        except Cancelled as error:
            if self._stop.is_set():
                raise
            return {"error": word_failure(error)}  # the time limit of one file
        except DeepfakeError as error:
            found = {"error": word_failure(error)}
            if not isinstance(error, MediaError):
                self._check()  # a peer that was ended by the same Ctrl-C has not failed
                return found
        self.journal.add(key, found)
        return found

    def _look(self, path: Path) -> dict[str, Any]:
        with contain_faults(path), self._open(path) as media:
            info = media.info
            return {
                "kind": info.kind.value,
                "sha256": info.sha256,
                "format": info.format,
                "pixels": (info.width or 0) * (info.height or 0),
                "sample_rate": info.sample_rate or 0,
            }

    def _open(self, path: Path) -> Media:
        limits = self.detector.settings.limits
        return open_media(path, limits=limits, watch=Watch(cancel=self._stop))

    def _check(self) -> None:
        Watch(cancel=self._stop).check()


def measure_traits(facts: Mapping[str, Any]) -> dict[str, str]:
    """The groups of a file by its format, its size and its sample rate, as far as it has them."""
    found = {}
    if "format" in facts:
        found["format"] = str(facts["format"])
    if pixels := facts.get("pixels"):
        found["size"] = SIZES[bisect_right(SIZE_LIMITS, pixels / 1e6)]
    if rate := facts.get("sample_rate"):
        found["sample rate"] = f"{rate / 1000:g} kHz"
    return found


def read_scores(report: Report) -> dict[str, float]:
    """The fused probability, and the score of each network that judged the file."""
    scores = {} if report.probability is None else {FUSED: report.probability}
    for evidence in report.evidence:
        if evidence.weight is Weight.SCORE and evidence.score is not None:
            scores[evidence.source] = evidence.score
            for key, name in PARTS.items():
                if key in evidence.details:
                    scores[name] = float(evidence.details[key])
    return {name: round(score, 6) for name, score in scores.items()}


def _ask(peer: Peer, path: Path) -> dict[str, Any]:
    return {"score": ask_peer(peer, path)}


@contextlib.contextmanager
def _write_view(kind: Kind, view: str, folder: Path, media: Media) -> Iterator[Path]:
    made = VIEWS[kind][view]
    path = folder / f"{uuid.uuid4().hex}{made.suffix}"
    with contain_faults(media.name):
        path.write_bytes(made.make(media))
    try:
        yield path
    finally:
        path.unlink()


def _outcome(sample: Sample, facts: Mapping[str, Any], **values: Any) -> Outcome:
    values.setdefault("traits", sample.traits)
    return Outcome(
        name=sample.name,
        sha256=facts.get("sha256"),
        synthetic=sample.synthetic,
        source=sample.source,
        group=sample.group,
        kind=facts.get("kind"),
        **values,
    )
