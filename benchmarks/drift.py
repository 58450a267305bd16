"""How many files pass until the service notices that its world has changed, and how often it errs.

    python -m benchmarks.drift
    python -m benchmarks.drift --material my-files/ --limit 60 --save pools.json
    python -m benchmarks.drift --pools pools.json --days 30 --a-day 1000

Pictures are examined once, by the detector as it is: the material as it is, as another release of
a camera's program would save it (sharpened, JPEG 97 in place of what it was), behind a broken
resizer (every second row and column, JPEG 70), and one synthetic file with a little noise, again
and again, as somebody sends it who searches for what passes. Streams are then drawn from what was
found, file by file with replacement, and go through the monitor of the service: it learns its
reference, then the change begins. Without --material the pictures are made here: scenes for genuine
ones, and for generators pictures of three kinds of odd texture.

Every generator of the material is the new one in its turn, at 5 % of the traffic of all others.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from deepfake_service.monitoring.drift import LIMIT, Stream
from deepfake_service.monitoring.signals import Signals, read_file_signals, read_signals
from deepfake_training.evaluation.material import limit_each, read_material
from PIL import Image, ImageFilter
from rich.console import Console

from deepfake.detector import Detector
from deepfake.errors import DeepfakeError
from deepfake.settings import DetectOptions, Settings
from deepfake.show.console import print_table

SYNTHETIC_SHARE, NEW_SHARE, CAMERA_SHARE, PROBE_SHARE = 0.1, 0.05, 0.2, 0.02
PROBES = 30
Pools = dict[str, dict[str, list[Signals]]]
"""Signals by change (as-is, camera, resizer, probe) and source; of synthetic ones with a star."""


def main(arguments: list[str] | None = None) -> int:
    options = build_parser().parse_args(arguments)
    console = Console(markup=False, highlight=False, width=140)
    pools = json.loads(options.pools.read_text()) if options.pools else examine(options)
    if options.save:
        options.save.write_text(json.dumps(pools))
    rng = random.Random(options.seed)  # noqa: S311
    as_is = pools["as-is"]
    count = sum(map(len, as_is.values()))
    console.print(
        f"{count} pictures of {len(as_is)} sources; a reference of "
        f"{options.choosing + options.counting} files, {options.runs} streams of each kind"
    )
    rows = [
        [name, *measure(options, make, rng)] for name, make in list_changes(pools, options.each)
    ]
    head = ["change", "noticed", "files until then: median", "90 % of streams", "by"]
    print_table(head, rows, console)
    files = round(options.days * options.a_day)
    alarms = sum(alarm_within(options, _stationary(as_is), files, rng) for _ in range(options.runs))
    console.print(
        f"{options.runs} stationary streams of {options.days:g} days with {options.a_day} files a "
        f"day: {alarms} gave a false alarm"
    )
    return 0


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.drift", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--material", type=Path, metavar="FOLDER", help="as deepfake evaluate")
    parser.add_argument("--models", type=Path, metavar="FOLDER", help="other bundles")
    parser.add_argument("--limit", type=int, default=40, help="pictures of a source (%(default)s)")
    parser.add_argument("--pools", type=Path, metavar="JSON", help="what --save has kept")
    parser.add_argument("--save", type=Path, metavar="JSON", help="keep what was found")
    parser.add_argument("--runs", type=int, default=20, help="streams of each kind (%(default)s)")
    parser.add_argument(
        "--most", type=int, default=20_000, help="files after a change (%(default)s)"
    )
    parser.add_argument("--days", type=float, default=30, help="without change (%(default)s)")
    parser.add_argument("--a-day", type=int, default=1000, help="files (%(default)s)")
    parser.add_argument("--choosing", type=int, default=500, help="files that choose events")
    parser.add_argument("--counting", type=int, default=1500, help="files that count them")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--each", action="store_true", help="a row for each generator")
    return parser


def examine(options: argparse.Namespace) -> Pools:
    """What the detector finds in the pictures, and in what becomes of them."""
    with tempfile.TemporaryDirectory() as made, tempfile.TemporaryDirectory() as other:
        picture = Path(other) / "picture"
        if options.material is None:
            write_pictures(Path(made), each=options.limit)
        samples = limit_each(
            read_material(options.material or Path(made)), most=options.limit, seed=options.seed
        )
        pools: Pools = {"as-is": {}, "camera": {}, "resizer": {}, "probe": {}}
        settings = Settings() if options.models is None else Settings(models_folder=options.models)
        with Detector(settings) as detector:

            def add(change: str, source: str, content: bytes) -> None:
                try:
                    report = detector.detect(content, DetectOptions(effort="quick"))
                except DeepfakeError:
                    return  # no picture
                picture.write_bytes(content)
                signals = read_signals(report)
                signals |= read_file_signals(picture, format=report.media.format)
                pools[change].setdefault(source, []).append(signals)

            probed = False
            for sample in samples:
                source = f"{sample.source}*" if sample.synthetic else sample.source
                content = sample.path.read_bytes()
                add("as-is", source, content)
                add("resizer", source, resize_badly(content))
                if not sample.synthetic:
                    add("camera", source, save_as_camera(content))
                elif not probed:
                    probed = True
                    for probe in probes_of(content, seed=options.seed):
                        add("probe", source, probe)
    return pools


def write_pictures(folder: Path, *, each: int) -> None:
    """Genuine scenes of two cameras, and pictures of three made-up generators."""
    from .cluster import write_photographs

    for name, (width, height) in {"one": (640, 480), "two": (800, 600)}.items():
        place = folder / "genuine" / name
        place.mkdir(parents=True)
        write_photographs(place, count=each, width=width, height=height, first_seed=width)
    for number, name in enumerate(("stripes", "steps", "smooth")):
        place = folder / "synthetic" / name
        place.mkdir(parents=True)
        for index in range(each):
            rng = np.random.default_rng(1000 * number + index)
            small = rng.integers(0, 255, (64, 64, 3)).astype(np.uint8)
            how = (Image.Resampling.NEAREST, Image.Resampling.BILINEAR, Image.Resampling.BICUBIC)
            Image.fromarray(small).resize((512, 512), how[number]).save(place / f"{index}.png")


def save_as_camera(content: bytes) -> bytes:
    sharp = _open(content).filter(ImageFilter.UnsharpMask(radius=1.2, percent=80, threshold=0))
    return _save(sharp, quality=97)


def resize_badly(content: bytes) -> bytes:
    picture = _open(content)
    size = max(1, picture.width // 2), max(1, picture.height // 2)
    return _save(picture.resize(size, Image.Resampling.NEAREST), quality=70)


def probes_of(content: bytes, *, seed: int) -> Iterator[bytes]:
    pixels = np.asarray(_open(content), np.int16)
    rng = np.random.default_rng(seed)
    for _ in range(PROBES):
        noisy = np.clip(pixels + rng.integers(-6, 7, pixels.shape), 0, 255).astype(np.uint8)
        yield _save(Image.fromarray(noisy), quality=92)


def _open(content: bytes) -> Image.Image:
    return Image.open(io.BytesIO(content)).convert("RGB")


def _save(picture: Image.Image, *, quality: int) -> bytes:
    file = io.BytesIO()
    picture.save(file, "jpeg", quality=quality)
    return file.getvalue()


Draw = Callable[[random.Random], Signals]


def list_changes(pools: Pools, each: bool) -> Iterator[tuple[str, list[tuple[Draw, Draw]]]]:
    """For each change its name, and streams before and after it."""
    as_is = pools["as-is"]
    made = [source for source in as_is if source.endswith("*")]
    genuine = [source for source in as_is if not source.endswith("*")]
    before = _stationary(as_is)
    generators = [(name, (_stationary(as_is, without=name), _pool(as_is[name]))) for name in made]
    if each:
        for name, (others, new) in generators:
            yield f"generator {name[:-1]}, 5 %", [(others, _mix(others, new, NEW_SHARE))]
    yield (
        f"a new generator, 5 % ({len(made)} in turn)",
        [(others, _mix(others, new, NEW_SHARE)) for _, (others, new) in generators],
    )
    camera = [_pool(pools["camera"][source]) for source in genuine]
    yield (
        f"a camera update, {CAMERA_SHARE:.0%}",
        [(before, _mix(before, _any_of(camera), CAMERA_SHARE))],
    )
    yield "a broken resizer, all files", [(before, _stationary(pools["resizer"]))]
    (probes,) = pools["probe"].values()
    yield (
        f"an attacker probing, {PROBE_SHARE:.0%}",
        [(before, _mix(before, _pool(probes), PROBE_SHARE))],
    )


def measure(
    options: argparse.Namespace, changes: list[tuple[Draw, Draw]], rng: random.Random
) -> list[str]:
    """The cells of a row: how many streams were noticed, after how many files, and by what."""
    delays, signals = [], []
    for number in range(max(options.runs, len(changes))):
        before, after = changes[number % len(changes)]
        stream = _learn(options, before, rng)
        delay = _watch(stream, after, options.most, rng)
        delays.append(delay if delay is not None else options.most + 1)
        if delay is not None:
            signals.append(stream.changes(most=1)[0].event.signal)
    noticed = sum(delay <= options.most for delay in delays)
    ordered = sorted(delays)
    high = ordered[min(len(ordered) - 1, int(0.9 * len(ordered)))]
    return [
        f"{noticed} of {len(delays)}",
        _word(statistics.median_low(delays), options.most),
        _word(high, options.most),
        statistics.mode(signals) if signals else "–",
    ]


def alarm_within(options: argparse.Namespace, draw: Draw, files: int, rng: random.Random) -> bool:
    """Whether a stream without change gives an alarm."""
    return _watch(_learn(options, draw, rng), draw, files, rng) is not None


def _learn(options: argparse.Namespace, draw: Draw, rng: random.Random) -> Stream:
    stream = Stream(choosing=options.choosing, counting=options.counting)
    while stream.learnt < 1:
        stream.add(draw(rng))
    return stream


def _watch(stream: Stream, draw: Draw, most: int, rng: random.Random) -> int | None:
    for files in range(1, most + 1):
        stream.add(draw(rng))
        if stream.evidence >= LIMIT:
            return files
    return None


def _stationary(sources: dict[str, list[Signals]], without: str = "") -> Draw:
    """Files of all sources, a tenth of them synthetic."""
    made = [_pool(own) for name, own in sources.items() if name.endswith("*") and name != without]
    genuine = [_pool(own) for name, own in sources.items() if not name.endswith("*")]
    return _mix(_any_of(genuine), _any_of(made), SYNTHETIC_SHARE)


def _pool(signals: Sequence[Signals]) -> Draw:
    return lambda rng: rng.choice(signals)


def _any_of(draws: Sequence[Draw]) -> Draw:
    return lambda rng: rng.choice(draws)(rng)


def _mix(one: Draw, other: Draw, share: float) -> Draw:
    return lambda rng: (other if rng.random() < share else one)(rng)


def _word(files: int, most: int) -> str:
    return f"{files:,}" if files <= most else f"> {most:,}"


if __name__ == "__main__":
    raise SystemExit(main())
