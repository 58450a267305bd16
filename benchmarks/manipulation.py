"""What evidence ``manipulation`` finds of attacks, says of genuine pictures, and costs.

    python -m benchmarks.manipulation MATERIAL [--limit 6] [--attacked 8] [--queries 200]
        [--attacks apgd-linf,square] [--output FOLDER]

MATERIAL is labelled as for ``deepfake evaluate``. The quick tier alone is asked. Genuine files are
measured as they are and as web pages have them, whatever their score: over all of them, and over
those that have no sign of synthesis, of which alone the evidence speaks. Synthetic files with an
alarm are attacked until the quick tier clears them, as it is and saved again, or questions run out;
``adaptive`` follows the gradient through the very steps aside that the evidence takes. What was
measured and what attacks made stays in FOLDER, so that the same command goes on after Ctrl-C, and
one with more files measures only those.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from deepfake_training import perturb
from deepfake_training.attacks import searching
from deepfake_training.attacks.chain import Chain
from deepfake_training.attacks.gradients import Ball, View, attack_by_gradients
from deepfake_training.attacks.victim import Finished, Goal, Victim
from deepfake_training.evaluation.journal import Journal, digest_file
from deepfake_training.evaluation.material import Sample, limit_each, read_material
from deepfake_training.evaluation.views import VIEWS
from rich.console import Console
from torch.nn import functional
from tqdm import tqdm

from deepfake.analyzers.image import look_aside, look_at
from deepfake.analyzers.manipulation import ACROSS, DOWN, MOST_RISE, SHRUNK
from deepfake.content.inputs import read_picture
from deepfake.engine.engine import Engine
from deepfake.errors import DeepfakeError
from deepfake.media.opening import open_media
from deepfake.preprocess import Floats, Pixels
from deepfake.reasons import Code
from deepfake.settings import DetectOptions, Settings, shipped_models_folder
from deepfake.show.console import print_table
from deepfake.types import Kind, Verdict

ATTACKS = ("apgd-linf", "apgd-l2", "adaptive", "square", "random-search", "simba", "messenger")
LINF, L2, SEARCHED = 4.0, 2.0, 8.0
"""Grey levels: of every value, in root mean square, and of every value of what asks questions."""
STEPS = 8
MOST_PIXELS = 6_000_000
OPTIONS = DetectOptions(effort="quick")


class Seen(NamedTuple):
    """A score, the highest that it has (saved again), by how much it rises aside, and the seconds
    that the one and the other took.
    """

    score: float
    highest: float
    rise: float
    seconds: float
    aside_seconds: float


class Told(NamedTuple):
    verdict: Verdict
    probability: float


class Bench:
    """The quick tier of ``models`` as files meet it."""

    def __init__(self, models: Path) -> None:
        self.engine = Engine(Settings(models_folder=models, device="cpu", threads=1))
        self.bundle = self.engine.bundle("image")
        self.points = self.bundle.calibration.points

    def look(self, pixels: Pixels, *, aside: bool = True) -> Seen | None:
        """None for what cannot be judged, or only with a caution; no rise unless it is looked at
        ``aside``.
        """
        started = time.perf_counter()
        picture = read_picture(pixels, self.bundle)
        if isinstance(picture, Code) or picture.caution:
            return None
        photo, crops = picture.photo, picture.crops
        look = look_at(self.engine, self.bundle, photo, OPTIONS, crops=crops)
        between = time.perf_counter()
        rise = look_aside(self.engine, look, photo, crops=crops) if aside else 0.0
        ended = time.perf_counter()
        highest = max(look.scores)
        return Seen(look.scored.score, highest, rise, between - started, ended - between)

    def clears(self, seen: Seen) -> bool:
        """Whether the quick tier finds no sign of synthesis, the new evidence left out."""
        return seen.score < self.points.authentic

    def answer(self, signal: Floats) -> Told:
        """To an attack: an alarm until the score is clean, as it is and saved again."""
        seen = self.look(signal.round().clip(0, 255).astype(np.uint8), aside=False)
        if seen is None:
            return Told(Verdict.INCONCLUSIVE, 1.0)
        clean = seen.highest < self.points.authentic
        return Told(Verdict.AUTHENTIC if clean else Verdict.SUSPICIOUS, seen.score)


class Aside:
    """A view that is looked at aside as well, for gradients."""

    def __init__(self, view: View) -> None:
        self._view = view

    def odds(self, signal: torch.Tensor, *, stable: bool = True) -> list[torch.Tensor]:
        size = [round(length * SHRUNK) for length in signal.shape[:2]]
        small = functional.interpolate(signal.permute(2, 0, 1)[None], size, mode="area")
        moved = torch.roll(signal, (-DOWN, -ACROSS), (0, 1))
        odds = self._view.odds(signal, stable=stable) + self._view.odds(moved, stable=False)
        padded = signal.clone()
        padded[: size[0], : size[1]] = small[0].permute(1, 2, 0)
        return odds + self._view.odds(padded, stable=False)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.manipulation", description=__doc__)
    parser.add_argument("material", type=Path)
    parser.add_argument("--models", type=Path, default=shipped_models_folder())
    parser.add_argument("--limit", type=int, default=6, help="genuine files of each source (6)")
    parser.add_argument("--attacked", type=int, default=8, help="files for each attack (8)")
    parser.add_argument("--queries", type=int, default=200, help="for each file (200)")
    parser.add_argument("--attacks", default=",".join(ATTACKS), help="(%(default)s)")
    parser.add_argument("--output", type=Path, default=Path("manipulated"), help="(%(default)s)")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    bench = Bench(options.models)
    samples = read_material(options.material)
    genuine = limit_each(
        [one for one in samples if not one.synthetic], most=options.limit, seed=options.seed
    )
    console = Console(width=120)
    options.output.mkdir(parents=True, exist_ok=True)
    with Journal(options.output / "journal.jsonl") as journal:
        rows, seconds = measure_genuine(bench, genuine, journal=journal)
    head = ["genuine files", "judged", "told", "no sign", "told of these", "rise, 99 %"]
    show(console, f"False alarms (a rise above {MOST_RISE:g})", head, rows)
    whole, aside = np.median(seconds, axis=0) * 1000
    cost = [[f"{whole:.1f}", f"{aside:.1f}", f"{(whole + aside) / whole:.2f}"]]
    show(console, "Medians, ms, where it is asked", ["before", "aside", "ratio"], cost)
    names = [name for name in options.attacks.split(",") if name]
    fakes = sorted(
        (one for one in samples if one.synthetic),
        key=lambda one: hashlib.sha256(f"{options.seed} {one.name}".encode()).digest(),
    )
    found = list(find_alarms(bench, fakes, most=options.attacked)) if names else []
    attacked = [
        measure_attack(bench, name, found, options=options)
        for name in tqdm(names, desc="attacks", mininterval=5)
    ]
    head = ["attack", "files", "no sign", "now inconclusive", "rise, median", "seconds"]
    show(console, "Synthetic files with an alarm, attacked", head, attacked)


def show(console: Console, title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    console.print(f"\n{title}")
    print_table(head, rows, console)


def measure_genuine(
    bench: Bench, samples: Sequence[Sample], *, journal: Journal
) -> tuple[list[list[str]], list[tuple[float, float]]]:
    """A row for each half of the sources and view, and what looking took, and looking aside."""
    seen: dict[tuple[str, str], list[Seen]] = {}
    for sample in tqdm(samples, desc="genuine files", mininterval=5):
        half = "AB"[hashlib.sha256(sample.source.encode()).digest()[0] % 2]
        pixels = None
        for view, change in (("as is", None), ("web", perturb.web)):
            key = (
                f"{bench.bundle.sha256} {DOWN} {ACROSS} {SHRUNK} {view} {digest_file(sample.path)}"
            )
            found = journal.get(key)
            if found is None:
                pixels = decode(sample.path) if pixels is None else pixels
                if pixels is None:
                    break
                one = bench.look(change(pixels) if change else pixels)
                found = one._asdict() if one else {}
                journal.add(key, found)
            if found:
                seen.setdefault((f"sources {half}", view), []).append(Seen(**found))
    rows = []
    for (half, view), own in sorted(seen.items()):
        clean = [one for one in own if bench.clears(one)]
        told = [sum(one.rise > MOST_RISE for one in some) for some in (own, clean)]
        highest = np.quantile([one.rise for one in own], 0.99)
        counts = (len(own), told[0], len(clean), told[1])
        rows.append([f"{half}, {view}", *map(str, counts), f"{highest:.2f}"])
    clean = [one for own in seen.values() for one in own if bench.clears(one)]
    return rows, [(one.seconds, one.aside_seconds) for one in clean] or [(np.nan, np.nan)]


def find_alarms(
    bench: Bench, samples: Sequence[Sample], *, most: int
) -> Iterator[tuple[Sample, Pixels]]:
    """Synthetic files with an alarm of the quick tier, which no new evidence speaks of."""
    for sample in samples:
        if most <= 0:
            return
        pixels = decode(sample.path)
        seen = None if pixels is None else bench.look(pixels)
        if pixels is not None and seen and seen.score >= bench.points.suspicious:
            most -= 1
            yield sample, pixels


def measure_attack(
    bench: Bench,
    name: str,
    found: Sequence[tuple[Sample, Pixels]],
    *,
    options: argparse.Namespace,
) -> list[str]:
    """How many files get a clean score, and of how many of these the evidence speaks."""
    started = time.perf_counter()
    clean = []
    for sample, pixels in found:
        path = options.output / name / f"{digest_name(sample)}.png"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            made = attack(bench, name, sample, pixels, options=options)
            cv2.imwrite(str(path), cv2.cvtColor(made, cv2.COLOR_RGB2BGR))
        stored = decode(path)
        assert stored is not None
        seen = bench.look(stored)
        if seen is not None and bench.clears(seen):
            clean.append(seen)
    told = sum(one.rise > MOST_RISE for one in clean)
    rise = f"{np.median([one.rise for one in clean]):.2f}" if clean else "–"
    seconds = f"{time.perf_counter() - started:.0f}"
    return [name, str(len(found)), str(len(clean)), str(told), rise, seconds]


def attack(
    bench: Bench, name: str, sample: Sample, pixels: Pixels, *, options: argparse.Namespace
) -> Pixels:
    """A synthetic picture as an attack leaves it."""
    signal = pixels.astype(np.float32)
    rng = np.random.default_rng(int(digest_name(sample), 16) % 2**32)
    if name in VIEWS[Kind.IMAGE]:
        with open_media(sample.path) as media:
            content = VIEWS[Kind.IMAGE][name].make(media)
        with open_media(content) as media:
            return np.array(media.image())
    if name in ("apgd-linf", "apgd-l2", "adaptive"):
        view = Chain(bench.engine.active, "image", effort="quick").view(pixels)
        assert view is not None  # it has an alarm
        made = attack_by_gradients(
            signal,
            Aside(view) if name == "adaptive" else view,
            Ball("l2", L2) if name == "apgd-l2" else Ball("linf", LINF),
            synthetic=True,
            steps=STEPS,
            rng=rng,
        )
        return made.round().clip(0, 255).astype(np.uint8)
    search: Callable[..., None] = {
        "square": searching.search_squares,
        "random-search": searching.search_randomly,
        "simba": searching.search_cosines,
    }[name]
    victim = Victim(signal, bench.answer, goal=Goal(True), policy="score", budget=options.queries)
    with contextlib.suppress(Finished):
        search(victim, epsilon=SEARCHED, rng=rng)
    return victim.best.round().clip(0, 255).astype(np.uint8)


def digest_name(sample: Sample) -> str:
    """Twelve digits by which what was made of a file is known, and its chance drawn."""
    return hashlib.sha256(sample.name.encode()).hexdigest()[:12]


def decode(path: Path) -> Pixels | None:
    """The picture of a file of moderate size; None for another or none."""
    with contextlib.suppress(DeepfakeError), open_media(path) as media:
        if media.info.kind is Kind.IMAGE and media.image().size <= 3 * MOST_PIXELS:
            return np.array(media.image())
    return None


if __name__ == "__main__":
    main()
