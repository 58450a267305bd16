"""Pictures in frames, letterboxes and screenshots: is the photo within found, and judged the same?

    python -m benchmarks.borders DATA/image --files 44

Each picture of a labelled folder (``manifest.tsv``: ``path``, ``label``, ``source``) is judged by
the whole-picture detector alone and within eight kinds of border. For each kind: in how many files
a photo was found, how well it matches the real place (intersection over union, worst tenth), how
many of the files with no sign of synthesis keep that word, and how many keep their word at all. The
row *alone* counts finds in the pictures as they are, some of which do have bars of their own.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from deepfake_training.manifests import read_manifest
from PIL import Image as Pictures
from rich.progress import track

from deepfake import DetectOptions, Detector, Report, Verdict
from deepfake.analyzers.image import Image
from deepfake.preprocess import Box, Pixels
from deepfake.show.console import print_table

from .timing import make_console

Bordered = tuple[Pixels, Box]
LONGEST = 1600


def frame(
    photo: Pixels, *, colour: tuple[int, int, int], share: float = 0.06, letterbox: bool = False
) -> Bordered:
    """A plain frame, or bars above and below; ``share`` of the shorter side wide."""
    height, width = photo.shape[:2]
    wide = max(4, round(share * min(height, width)))
    beside = 0 if letterbox else wide
    canvas = np.empty((height + 2 * wide, width + 2 * beside, 3), np.uint8)
    canvas[:] = colour
    return _place(canvas, photo, left=beside, top=wide)


def gradient(photo: Pixels) -> Bordered:
    """A frame that runs from one colour to another."""
    height, width = photo.shape[:2]
    wide = max(8, min(height, width) // 10)
    rows, columns = height + 2 * wide, width + 2 * wide
    run = np.add.outer(np.linspace(0, 0.6, rows), np.linspace(0, 0.4, columns))[..., None]
    colours = np.array([(250, 120, 60), (60, 40, 160)], np.float64)
    return _place((colours[0] * (1 - run) + colours[1] * run).astype(np.uint8), photo, wide, wide)


def blurred(photo: Pixels) -> Bordered:
    """A blurred copy of the photo on both sides, as programs fill a wider format."""
    height, width = photo.shape[:2]
    beside = max(16, width // 4)
    wide = cv2.resize(photo, (width + 2 * beside, height))
    canvas = np.asarray(cv2.GaussianBlur(wide, (0, 0), max(8, width / 24)), np.uint8)
    return _place(canvas, photo, beside, 0)


def phone(photo: Pixels) -> Bordered:
    """A phone's status bar and title above the photo, which fills the width, and buttons below."""
    height, width = photo.shape[:2]
    status, title, buttons = (max(18, round(share * width)) for share in (0.05, 0.12, 0.14))
    canvas = np.full((status + title + height + buttons, width, 3), 18, np.uint8)
    canvas[status : status + title] = (32, 34, 40)
    _write(canvas, "12:45    LTE  81%", (6, round(status * 0.75)), status / 34)
    _write(canvas, "Anna  online", (width // 8, status + round(title * 0.6)), title / 60)
    middle = status + title + height + buttons // 2
    for share in (0.2, 0.5, 0.8):
        place = (round(share * width), middle)
        cv2.circle(canvas, place, buttons // 5, (230, 230, 235), 2, cv2.LINE_AA)
    return _place(canvas, photo, 0, status + title)


def browser(photo: Pixels) -> Bordered:
    """A page with an address bar, a headline, the photo between margins, and lines of text."""
    height, width = photo.shape[:2]
    margin, bar, head = max(20, width // 6), max(24, width // 18), max(30, width // 10)
    text = max(40, height // 4)
    canvas = np.full((bar + head + height + text, width + 2 * margin, 3), 255, np.uint8)
    canvas[:bar] = (222, 225, 230)
    canvas[bar // 4 : bar - bar // 4, margin:width] = 255
    dark = (30, 30, 34)
    _write(canvas, "https://news.example", (margin + 6, round(bar * 0.62)), bar / 60, dark)
    _write(canvas, "A headline above", (margin, bar + round(head * 0.6)), head / 60, dark)
    for line in range(bar + head + height + 22, canvas.shape[0] - 6, 18):
        _write(canvas, "what the article says about this " * 3, (margin, line), 0.4, (60, 60, 60))
    return _place(canvas, photo, margin, bar + head)


def rounded(photo: Pixels) -> Bordered:
    """Rounded corners on a light page, with a caption under the photo."""
    height, width = photo.shape[:2]
    wide, radius = max(8, width // 16), max(4, min(height, width) // 20)
    caption = max(24, height // 8)
    canvas = np.empty((height + 2 * wide + caption, width + 2 * wide, 3), np.uint8)
    canvas[:] = (236, 238, 241)
    mask = np.zeros((height, width), np.uint8)
    for corner in ((radius, radius), (width - 1 - radius, height - 1 - radius)):
        for across in (corner[0], width - 1 - corner[0]):
            cv2.circle(mask, (across, corner[1]), radius, 255, -1, cv2.LINE_AA)
    mask[radius : height - radius] = 255
    mask[:, radius : width - radius] = 255
    share = mask[..., None] / 255
    mixed = np.rint(photo * share + canvas[0, 0] * (1 - share)).astype(np.uint8)
    _write(canvas, "a caption", (wide, height + wide + caption // 2), caption / 60, (40, 40, 40))
    return _place(canvas, mixed, wide, wide)


KINDS: dict[str, Callable[[Pixels], Bordered]] = {
    "white frame": lambda photo: frame(photo, colour=(255, 255, 255)),
    "coloured frame": lambda photo: frame(photo, colour=(24, 92, 160), share=0.03),
    "letterbox": lambda photo: frame(photo, colour=(0, 0, 0), share=0.14, letterbox=True),
    "gradient frame": gradient,
    "blurred sides": blurred,
    "phone": phone,
    "browser": browser,
    "rounded, caption": rounded,
}


@dataclass(frozen=True)
class Trial:
    """One picture in one kind of border; ``overlap`` is None where no photo was found."""

    label: str
    kind: str
    alone: Verdict
    verdict: Verdict
    overlap: float | None


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.borders", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("folder", type=Path, help="a folder with manifest.tsv")
    parser.add_argument("--files", type=int, default=44, help="of each label (44)")
    parser.add_argument("--quality", type=int, help="save all as JPEG of this quality first")
    options = parser.parse_args(arguments)
    items = read_manifest(options.folder, source_column="source")
    trials: list[Trial] = []
    with Detector(analyzers=(Image(),)) as detector:
        for label in ("real", "fake"):
            paths = spread(
                [(i.source, i.path) for i in items if i.label == (label == "fake")], options.files
            )
            for path in track(paths, description=label):
                trials += examine(detector, read(path), label=label, quality=options.quality)
    console = make_console()
    for label in ("real", "fake"):
        console.print(f"{label}:")
        print_table(*tabulate([trial for trial in trials if trial.label == label]), console)
    console.print(f"finding the border in a picture of 2 MP: {time_finding():.1f} ms")
    return 0


def spread(named: Sequence[tuple[str, Path]], most: int) -> list[Path]:
    """At most ``most`` files, in turn from every source, each source's in a fixed mixed order."""
    by_source: dict[str, list[Path]] = {}
    for source, path in sorted(named, key=lambda item: item[1].name[::-1]):
        by_source.setdefault(source, []).append(path)
    rounds = max(map(len, by_source.values()), default=0)
    turns = [files[n] for n in range(rounds) for files in by_source.values() if n < len(files)]
    return turns[:most]


def read(path: Path) -> Pixels:
    with Pictures.open(path) as picture:
        picture.thumbnail((LONGEST, LONGEST))
        return np.asarray(picture.convert("RGB"))


def examine(
    detector: Detector, photo: Pixels, *, label: str, quality: int | None = None
) -> list[Trial]:
    """The photo alone and in every kind of border."""
    alone, found = judge(detector, photo, quality=quality)
    height, width = photo.shape[:2]
    overlap = None if found is None else intersection(found, Box(0, 0, width, height))
    trials = [Trial(label, "alone", alone, alone, overlap)]
    for kind, make in KINDS.items():
        bordered, place = make(photo)
        verdict, found = judge(detector, bordered, quality=quality)
        overlap = None if found is None else intersection(found, place)
        trials.append(Trial(label, kind, alone, verdict, overlap))
    return trials


def judge(detector: Detector, pixels: Pixels, *, quality: int | None) -> tuple[Verdict, Box | None]:
    """The verdict and where the photo within was found."""
    if quality is not None:
        _, saved = cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
        pixels = np.asarray(cv2.imdecode(saved, cv2.IMREAD_COLOR_RGB), np.uint8)
    report: Report = detector.detect(np.ascontiguousarray(pixels), DetectOptions())
    found = next((e.box for e in report.evidence if e.source == "image"), None)
    if found is None:
        return report.verdict, None
    left, top, right, bottom = (round(side) for side in found)
    return report.verdict, Box(left, top, right - left, bottom - top)


def intersection(one: Box, other: Box) -> float:
    """Intersection over union of two boxes."""
    width = min(one.left + one.width, other.left + other.width) - max(one.left, other.left)
    height = min(one.top + one.height, other.top + other.height) - max(one.top, other.top)
    shared = max(0, width) * max(0, height)
    return shared / (one.width * one.height + other.width * other.height - shared)


def tabulate(trials: Sequence[Trial]) -> tuple[list[str], list[list[str]]]:
    head = ["border", "files", "photo found", "overlap, worst tenth", "no sign kept", "word kept"]
    rows = []
    for kind in dict.fromkeys(trial.kind for trial in trials):
        here = [trial for trial in trials if trial.kind == kind]
        overlaps = [trial.overlap for trial in here if trial.overlap is not None]
        clear = [trial for trial in here if trial.alone is Verdict.AUTHENTIC]
        rows.append(
            [
                kind,
                str(len(here)),
                str(len(overlaps)),
                f"{np.quantile(overlaps, 0.1):.2f}" if overlaps else "–",
                f"{sum(trial.verdict is Verdict.AUTHENTIC for trial in clear)} of {len(clear)}",
                f"{sum(trial.verdict is trial.alone for trial in here)} of {len(here)}",
            ]
        )
    return head, rows


def time_finding(*, repeats: int = 7) -> float:
    """Median milliseconds for a noisy picture of 1920×1080 in a frame."""
    from deepfake.content.borders import trim

    noise = np.random.default_rng(0).integers(0, 256, (960, 1800, 3), np.uint8)
    pixels, _ = frame(noise, colour=(255, 255, 255))
    taken = []
    for _ in range(repeats):
        started = time.perf_counter()
        trim(pixels)
        taken.append((time.perf_counter() - started) * 1000)
    return float(np.median(taken))


def _place(canvas: Pixels, photo: Pixels, left: int, top: int) -> Bordered:
    height, width = photo.shape[:2]
    canvas[top : top + height, left : left + width] = photo
    return canvas, Box(left, top, width, height)


def _write(
    canvas: Pixels,
    words: str,
    place: tuple[int, int],
    scale: float,
    colour: tuple[int, int, int] = (235, 235, 240),
) -> None:
    thickness = max(1, round(scale))
    cv2.putText(
        canvas, words, place, cv2.FONT_HERSHEY_SIMPLEX, scale, colour, thickness, cv2.LINE_AA
    )


if __name__ == "__main__":
    raise SystemExit(main())
