"""What ``deepfake redteam`` does once its options are read."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from deepfake.detector import Detector
from deepfake.errors import DeepfakeError, SettingsError
from deepfake.progress import ctrl_c
from deepfake.settings import BACKENDS, DetectOptions, Settings
from deepfake.show.console import print_table
from deepfake.text import display_name
from deepfake.types import Kind

from ..evaluation.journal import Journal
from ..evaluation.material import Sample, limit_each, read_material
from ..evaluation.peers import Peer, parse_peer
from .page import write_page
from .result import Plan, Siege, conclude, read_result, write_result
from .run import Campaign, Trial
from .suite import choose_attacks, list_attacks
from .tables import list_failures, list_known, list_rows, say_how, write_markdown
from .tools import Strength, Tools

if TYPE_CHECKING:
    from rich.console import Console

RESULT, PAGE, JOURNAL = "redteam.json", "redteam.html", "journal.jsonl"
SPENT = "processor"
"""The key of the journal under which the processor time is."""
QUICK_FILES, QUICK_BUDGET, QUICK_STEPS, QUICK_DRAWS = 3, 12, 4, 100
"""The most files of a class, and so on."""
QUICK_DECODER_STEPS = 10
MOST_LISTED_FAILURES = 10
LEGEND = (
    "TPR: at 1 % FPR; lost, raised: synthetic files that lost an alarm, genuine ones that got one; "
    "accused: genuine files called synthetic; asked: median queries of those that reached it"
)


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the command line asks for; ``place`` is a folder, a manifest or a stored result."""

    place: Path
    output: Path
    slot: str = "image"
    attacks: str = "all"
    strength: Strength = field(default_factory=Strength)
    effort: str = "auto"
    limit: int = 0
    workers: int = 2
    draws: int = 1000
    quick: bool = False
    weights: Path | None = None
    peers: Sequence[str] = ()
    peer_seconds: float = 120.0
    backends: str = ""
    markdown: bool = False


def run_redteam(request: Request, settings: Settings, *, console: Console, errors: Console) -> int:
    """Attack, count and show; 1 when a file or a peer failed."""
    request = _ease(request) if request.quick else request
    if request.workers < 1 or request.limit < 0 or request.draws < 1:
        raise SettingsError("options workers, draws, limit: too low", hint="give more")
    stored = request.place.suffix.lower() == ".json"
    if stored:
        result = read_result(request.place)
    else:
        try:
            result, samples = assault(request, settings)
        except KeyboardInterrupt:
            errors.print("the same command goes on where this one was stopped", soft_wrap=True)
            raise
        write_result(result, request.output / RESULT)
        write_page(result, samples, request.output / PAGE, limits=settings.limits)
    if request.markdown:
        sys.stdout.write(write_markdown(result))
    else:
        table = list_rows(result, short=True)
        console.print(table.title, style="bold")
        print_table(table.head, table.cells, console)
        console.print(LEGEND, soft_wrap=True)
        console.print(say_how(result), soft_wrap=True)
    failures = list_failures(result).cells
    for cells in failures[:MOST_LISTED_FAILURES]:
        errors.print("  " + ", ".join(cells[:3]) + f": {cells[3]}", soft_wrap=True)
    if len(failures) > MOST_LISTED_FAILURES:
        errors.print(f"  … {len(failures):,} failures in all; the page lists them")
    if not stored:
        places = " and ".join(display_name(request.output / name) for name in (RESULT, PAGE))
        errors.print(f"wrote {places}", soft_wrap=True)
    return int(bool(failures))


def assault(request: Request, settings: Settings) -> tuple[Siege, list[Sample]]:
    """Attack the material, or what of it the journal in the output folder lacks."""
    kind, weights = Kind(request.slot), request.weights
    attacks = choose_attacks(
        kind, request.attacks, quick=request.quick, weights=weights is not None
    )
    seed = request.strength.seed
    samples = limit_each(read_material(request.place), most=request.limit, seed=seed)
    if request.quick:
        samples = _few_of(samples, seed=seed)
    peers = [parse_peer(text, seconds=request.peer_seconds) for text in request.peers]
    options = DetectOptions(effort=request.effort)
    try:
        request.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(
            f"output {display_name(request.output)}: cannot be made ({error.strerror})",
            hint="choose another",
        ) from error
    others = _other_backends(request.backends, settings)
    with Journal(request.output / JOURNAL) as journal, Detector(settings) as detector:
        detector.engine.check_kind(kind)  # before the first file, not at it
        detector.engine.require_effort(options.effort)
        peers += [_as_peer(one, options) for one in others]
        if len({peer.name for peer in peers}) < len(peers):
            raise SettingsError("peers: two have one name", hint="give each its own")
        tools = Tools(
            request.strength,
            slot=request.slot,
            active=detector.engine.active,
            effort=request.effort,
            folder=request.output,
            samples=samples,
            read=lambda sample: campaign.read(sample),  # noqa: PLW0108 - it is made below
            weights=weights,
        )
        campaign = Campaign(
            detector,
            journal,
            output=request.output,
            kind=kind,
            attacks=attacks,
            tools=tools,
            peers=peers,
            options=options,
        )
        tools.load(gradients=any(one.family == "white-box" for one in attacks))
        try:
            with ctrl_c() as stop, _counted(journal) as spent:
                with _Bar("files as they are", len(samples)) as advance:
                    found = campaign.survey(
                        samples, workers=request.workers, progress=advance, stop=stop
                    )
                pairs = [pair for pair in zip(samples, found, strict=True) if pair[1] is not None]
                kept = [sample for sample, _ in pairs]
                surveyed = [trial for _, trial in pairs if trial is not None]
                if not surveyed:
                    raise SettingsError(
                        f"material {display_name(request.place)}: has no {kind.value} file",
                        hint="choose the --slot of its files",
                    )
                tools.keep(kept)
                with _Bar("attacking", campaign.count(surveyed)) as advance:
                    trials = campaign.attack(
                        kept, surveyed, workers=request.workers, progress=advance, stop=stop
                    )
        finally:
            for other in others:
                other.close()
        plan = Plan(
            material=request.place.absolute().name,
            kind=kind,
            effort=request.effort,
            limit=request.limit,
            draws=request.draws,
            strength=request.strength,
        )
        result = conclude(
            surveyed,
            trials,
            attacks,
            detector,
            plan=plan,
            peers=peers,
            left_out=len(samples) - len(kept),
            seconds=spent[0],
        )
    return result, kept


def list_everything(console: Console) -> int:
    """Print the attacks that there are."""
    table = list_known(
        [
            (kind.value, one.name, one.family, one.says, one.source)
            for kind in Kind
            for one in list_attacks(kind)
        ]
    )
    print_table(table.head, table.cells, console)
    return 0


def _ease(request: Request) -> Request:
    """What a run of a minute asks for."""
    strength = replace(
        request.strength,
        budget=min(request.strength.budget, QUICK_BUDGET),
        steps=min(request.strength.steps, QUICK_STEPS),
        decoder_steps=min(request.strength.decoder_steps, QUICK_DECODER_STEPS),
    )
    return replace(
        request,
        strength=strength,
        draws=min(request.draws, QUICK_DRAWS),
    )


def _few_of(samples: Sequence[Sample], *, seed: int) -> list[Sample]:
    """A few of each class, of as many sources as there are."""
    found: list[Sample] = []
    for synthetic in (True, False):
        own = [one for one in samples if one.synthetic is synthetic]
        firsts = limit_each(own, most=1, seed=seed)
        rest = limit_each([one for one in own if one not in firsts], most=1, seed=seed)
        found += (firsts + rest)[:QUICK_FILES]
    return sorted(found, key=lambda one: one.name)


def _other_backends(names: str, settings: Settings) -> list[Detector]:
    """A detector for each further backend of a comma-separated list."""
    found = []
    for name in dict.fromkeys(part.strip() for part in names.split(",") if part.strip()):
        if name not in BACKENDS or name == "auto":
            raise SettingsError(
                f"backend {name!r}: unknown", hint=f"known: {', '.join(BACKENDS[1:])}"
            )
        found.append(Detector(replace(settings, backend=name)))
    return found


def _as_peer(detector: Detector, options: DetectOptions) -> Peer:
    """Another backend as a detector beside this one."""
    bundles = ",".join(bundle.sha256 for bundle in detector.engine.active.values())
    name = detector.settings.backend
    return Peer(name, f"{name} {bundles}", partial(_ask_probability, detector, options))


def _ask_probability(detector: Detector, options: DetectOptions, path: Path) -> float:
    probability = detector.detect(path, options).probability
    if probability is None:
        raise DeepfakeError("backend: gave no probability", hint="nothing could be judged")
    return probability


@contextmanager
def _counted(journal: Journal) -> Iterator[list[float]]:
    """The seconds of the processor that this run took, those before it was stopped counted in, as
    the only item, once the block has ended.
    """
    before = (journal.get(SPENT) or {}).get("seconds", 0.0)
    began, spent = time.process_time(), [0.0]
    try:
        yield spent
    finally:
        spent[0] = before + time.process_time() - began
        journal.add(SPENT, {"seconds": round(spent[0], 1)})


class _Bar:
    """A progress bar over trials, with how many failed."""

    def __init__(self, title: str, total: int) -> None:
        self._bar = tqdm(total=total, desc=title, unit="trial", disable=None, smoothing=0.1)
        self._failed = 0

    def __enter__(self) -> Callable[[Trial | None], None]:
        return self._advance

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def _advance(self, trial: Trial | None) -> None:
        self._bar.update()
        if trial is not None and (trial.error or trial.problems):
            self._failed += 1
            self._bar.set_postfix(failed=self._failed)
