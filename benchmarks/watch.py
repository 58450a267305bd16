"""The watch of the service: when is an attack an alarm, and when is moderation?

    python -m benchmarks.watch DATA/image --posts 2000

Asks a service that listens on this machine. *Attacks*: three that see the scores of pictures and
look for a change of at most 8 levels a pixel that lowers them: random search, steps along a
gradient that is estimated from pairs of noise (NES; Ilyas and others, 2018), and random squares
(Andriushchenko and others, 2020). Told are the queries until the alarm, and how far the score had
come by then. *Moderation*: posts of pictures, of which a part are reposts, popular ones more often:
the same bytes, recompressed, or resized and recompressed; from one key for all and from many.
Told are alarms among so many posts, for several settings of ``--watch-files``. Attacks are scored
by the detector as it is; posts by a stand-in, since the watch looks at no score. DATA holds
pictures in any folders below; without it, and for ``--quick``, soft patches of colour are drawn.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from deepfake_app import prepare
from PIL import Image as Pictures
from rich.progress import track
from sqlalchemy import func, select

from deepfake import Detector
from deepfake.analyzers import Analyzer
from deepfake.client import Client
from deepfake.media.opening import Media
from deepfake.preprocess import Pixels
from deepfake.settings import DetectOptions, Settings
from deepfake.show.console import print_table
from deepfake.types import Evidence, Kind, OperatingPoints, Status

from .timing import make_console

LEVELS = 8
QUALITIES = (50, 60, 70, 75, 80, 85, 90, 95)
WIDTHS = (320, 480, 640, 720, 1080)
LIMITS = (20, 40, 80)
QUICK = DetectOptions(effort="quick")
Score = Callable[[Pixels], float | None]
"""The score of a picture; None once the key is refused."""
Attack = Callable[[Pixels, Score, np.random.Generator], None]


class Redness:
    """Stands in for a detector where scores do not matter: how red a picture is."""

    name = "image"
    kinds = frozenset({Kind.IMAGE})

    def analyze(self, media: Media, engine: Any, options: Any) -> list[Evidence]:
        score = float(media.image()[..., 0].mean()) / 255
        points = OperatingPoints(authentic=0.2, suspicious=0.6, synthetic=0.9)
        claim = f"It is red by {score:.2f}."
        return [
            Evidence(source=self.name, status=Status.OK, claim=claim, score=score, points=points)
        ]


def random_search(start: Pixels, score: Score, rng: np.random.Generator) -> None:
    """Noise that lowers the score is kept."""
    best, kept = score(start), np.zeros(start.shape)
    while best is not None:
        tried = np.clip(kept + rng.normal(0, 2, start.shape), -LEVELS, LEVELS)
        found = score(_add(start, tried))
        if found is None:
            return
        if found < best:
            best, kept = found, tried


def nes(start: Pixels, score: Score, rng: np.random.Generator, *, pairs: int = 5) -> None:
    """Steps along the signs of a gradient that is estimated from pairs of noise."""
    kept = np.zeros(start.shape)
    while True:
        slope = np.zeros(start.shape)
        for _ in range(pairs):
            noise = rng.normal(0, 1, start.shape)
            up, down = (score(_add(start, kept + sign * noise)) for sign in (1, -1))
            if up is None or down is None:
                return
            slope += (up - down) * noise
        kept = np.clip(kept - np.sign(slope), -LEVELS, LEVELS)


def squares(start: Pixels, score: Score, rng: np.random.Generator) -> None:
    """Squares of one colour that lower the score are kept."""
    best, kept = score(start), np.zeros(start.shape)
    while best is not None:
        side = int(rng.integers(4, max(5, min(start.shape[:2]) // 4)))
        top, left = (int(rng.integers(0, size - side + 1)) for size in start.shape[:2])
        tried = kept.copy()
        tried[top : top + side, left : left + side] = rng.choice([-LEVELS, LEVELS], 3)
        found = score(_add(start, tried))
        if found is None:
            return
        if found < best:
            best, kept = found, tried


ATTACKS: dict[str, Attack] = {
    "random search": random_search,
    "NES": nes,
    "squares": squares,
}


@contextlib.contextmanager
def serving(
    settings: Settings,
    *,
    files: int,
    analyzers: tuple[Analyzer, ...] | None,
) -> Iterator[tuple[str, Any, Callable[[], int]]]:
    """The address of a service on this machine, what makes keys of it, and what counts alarms."""
    prepare()
    from deepfake_service import Action, ServiceSettings, WatchSettings, serving
    from deepfake_service.service import open_store
    from deepfake_service.store.tables import AlarmRow

    watch = WatchSettings(files=files, action=Action.TELL)
    with tempfile.TemporaryDirectory() as folder:
        ours = ServiceSettings(folder=Path(folder), watch=watch)
        with Detector(settings, analyzers=analyzers) as detector:
            manager = serving.running(detector, host="127.0.0.1", port=0, settings=ours)

            async def enter() -> str:  # within a loop gradio makes none of its own
                return manager.__enter__()

            address = asyncio.run(enter())
            try:
                with open_store(ours) as (database, keys):

                    def count() -> int:
                        with database.reading() as session:
                            return session.scalar(select(func.count(AlarmRow.number))) or 0

                    yield address, keys, count
            finally:
                manager.__exit__(None, None, None)


def attacked(
    attack: Attack,
    start: Pixels,
    settings: Settings,
    *,
    files: int,
    most: int,
    analyzers: tuple[Analyzer, ...] | None,
) -> tuple[int | None, list[float]]:
    """After how many queries there was an alarm, None for none among ``most``; and all scores."""
    scores: list[float] = []
    with serving(settings, files=files, analyzers=analyzers) as (address, keys, count):
        key = keys.create(tenant="attacker")
        with Client(address, key=key) as client:

            def score(pixels: Pixels) -> float | None:
                if len(scores) >= most or count():
                    return None
                report = client.detect(_encode(pixels, "PNG"), QUICK).report
                scores.append(report.probability or 0.0)
                return scores[-1]

            attack(start, score, np.random.default_rng(18))
        alarms = count()
    return (len(scores) if alarms else None), scores


def moderated(
    pictures: Sequence[Pixels],
    settings: Settings,
    *,
    posts: int,
    keys: int,
    reposts: float,
    files: int,
) -> int:
    """How many alarms there are among so many posts."""
    rng = np.random.default_rng(18)
    with contextlib.ExitStack() as stack:
        address, store, count = stack.enter_context(
            serving(settings, files=files, analyzers=(Redness(),))
        )
        clients = [
            stack.enter_context(Client(address, key=store.create(tenant=f"platform-{at}")))
            for at in range(keys)
        ]
        seen: list[bytes] = []
        fresh = 0
        for _ in range(posts):
            if seen and (rng.random() < reposts or fresh >= len(pictures)):
                content = _repost(seen[min(int(rng.zipf(1.3)), len(seen)) - 1], rng)
            else:
                content = _encode(pictures[fresh], "JPEG", quality=int(rng.choice(QUALITIES)))
                seen.append(content)
                fresh += 1
            clients[int(rng.integers(keys))].detect(content)
        return count()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("data", type=Path, nargs="?", metavar="DATA")
    parser.add_argument("--posts", type=int, default=2000)
    parser.add_argument("--reposts", type=float, default=0.5, help="share of posts")
    parser.add_argument("--pictures", type=int, default=3, help="that are attacked")
    parser.add_argument("--queries", type=int, default=400, help="most of one attack")
    parser.add_argument("--limits", type=int, nargs="+", default=LIMITS)
    parser.add_argument("--models", type=Path, default=Settings().models_folder)
    parser.add_argument("--quick", action="store_true", help="little of all, with no network")
    options = parser.parse_args(arguments)
    console = make_console()
    if options.quick:
        options.posts, options.pictures, options.limits = 60, 1, (10,)
    settings = Settings(models_folder=options.models, threads=2)
    pictures = _pictures(options.data, options.posts)
    analyzers: tuple[Analyzer, ...] | None = (Redness(),) if options.quick else None
    rows = []
    for name, attack in ATTACKS.items():
        for limit in options.limits:
            for start in pictures[: options.pictures]:
                until, scores = attacked(
                    attack,
                    start,
                    settings,
                    files=limit,
                    most=options.queries,
                    analyzers=analyzers,
                )
                change = f"{scores[0]:.3f} → {min(scores):.3f}" if scores else "–"
                rows.append([name, str(limit), str(until or "none"), change])
    print_table(["attack", "watch-files", "queries until alarm", "lowest score"], rows, console)
    rows = []
    for keys in (1, 10):
        for limit in track(options.limits, "moderation", console=console, transient=True):
            alarms = moderated(
                pictures,
                settings,
                posts=options.posts,
                keys=keys,
                reposts=options.reposts,
                files=limit,
            )
            rows.append([str(keys), str(limit), f"{options.posts:,}", str(alarms)])
    print_table(["keys", "watch-files", "posts", "false alarms"], rows, console)
    return 0


def _add(pixels: Pixels, change: Any) -> Pixels:
    return np.clip(pixels + np.clip(change, -LEVELS, LEVELS), 0, 255).round().astype(np.uint8)


def _encode(pixels: Pixels, format: str, **how: Any) -> bytes:
    out = io.BytesIO()
    Pictures.fromarray(pixels).save(out, format, **how)
    return out.getvalue()


def _repost(content: bytes, rng: np.random.Generator) -> bytes:
    """The same bytes, recompressed, or resized as platforms do and recompressed."""
    how = rng.random()
    if how < 0.4:
        return content
    with Pictures.open(io.BytesIO(content)) as picture:
        pixels = np.array(picture.convert("RGB"))
    if how > 0.7:
        width = int(rng.choice(WIDTHS))
        size = width, max(1, round(width * pixels.shape[0] / pixels.shape[1]))
        pixels = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)
    return _encode(pixels, "JPEG", quality=int(rng.choice(QUALITIES)))


def _pictures(data: Path | None, most: int) -> list[Pixels]:
    """Pictures of a folder, in an order of chance, or some that are drawn."""
    rng = np.random.default_rng(18)
    if data is None:
        patches = (rng.integers(0, 256, (12, 16, 3), dtype=np.uint8) for _ in range(most))
        return [
            np.asarray(cv2.resize(it, (160, 120), interpolation=cv2.INTER_CUBIC), np.uint8)
            for it in patches
        ]
    paths = sorted(path for path in data.rglob("*") if path.suffix in (".jpg", ".jpeg", ".png"))
    found = []
    for at in rng.permutation(len(paths))[:most]:
        with Pictures.open(paths[at]) as picture:
            found.append(np.array(picture.convert("RGB")))
    return found


if __name__ == "__main__":
    raise SystemExit(main())
