"""Known media: which copies are recognised, and which other files are taken for copies?

    python -m benchmarks.known DATA --files 60

DATA holds ``image``, ``audio`` and ``video``, or some of them, with files in any folders below.
Every file gets a fingerprint, through the decoder process as everywhere. *Copies*: a sample of them
is compressed, resized, bordered and cropped, and looked for among the fingerprints of all;
``found`` is how many of the copies find their own file. *Others*: all pairs of files are compared
with each other, and those taken for copies are counted by their folders, since one may have been
made of the other; ``--listed`` names them. The bound is that of a share of
which none of so many were seen, at 95 % (``3 / pairs``), or the one-sided Clopper-Pearson bound.
"""

from __future__ import annotations

import argparse
import io
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import cv2
import numpy as np
from PIL import Image as Pictures
from rich.progress import track

from deepfake.errors import DeepfakeError
from deepfake.known.fingerprints import Fingerprint, take_fingerprint
from deepfake.known.shelf import Shelf
from deepfake.media.opening import open_media
from deepfake.preprocess import Pixels, Samples
from deepfake.show.console import print_table

from .timing import make_console

KINDS = ("image", "audio", "video")
RATE = 16000
Copy = Callable[[Path], bytes]


@dataclass(frozen=True)
class Found:
    """Of a kind of copy: how many there were, and how many found their own file."""

    name: str
    copies: int
    found: int


def picture_copies() -> dict[str, Copy]:
    """What happens to pictures on their way."""
    rng = np.random.default_rng(18)
    return {
        **{f"JPEG {q}": _picture(lambda it: it, "JPEG", quality=q) for q in (30, 50, 70)},
        "WebP 50": _picture(lambda it: it, "WEBP", quality=50),
        **{
            f"resized × {by:g}": _picture(lambda it, by=by: _resize(it, by), "JPEG", quality=85)
            for by in (0.25, 0.5, 0.75, 1.5, 2)
        },
        "letterbox": _picture(lambda it: _border(it, 0, top=0.1), "JPEG", quality=85),
        "white frame": _picture(lambda it: _border(it, 255, top=0.06, side=0.06), "JPEG"),
        **{
            f"cropped {share:.1%}, JPEG 70": _picture(
                lambda it, share=share: _crop(it, share, rng), "JPEG", quality=70
            )
            for share in (0.02, 0.05, 0.075, 0.1)
        },
    }


def sound_copies() -> dict[str, Copy]:
    """What happens to sounds."""
    return {
        **{f"MP3 {rate} kbit/s": _sound("libmp3lame", "mp3", rate) for rate in (32, 64, 128)},
        **{f"Opus {rate} kbit/s": _sound("libopus", "ogg", rate) for rate in (12, 16, 32)},
        "first third cut off, Opus 24 kbit/s": _sound("libopus", "ogg", 24, cut=1 / 3),
    }


def clip_copies() -> dict[str, Copy]:
    """What happens to clips."""
    return {
        **{f"H.264 CRF {crf}": _clip(crf) for crf in (32, 40)},
        "half size, CRF 32": _clip(32, by=0.5),
        "letterbox, CRF 32": _clip(32, bars=0.12),
        "without sound, CRF 32": _clip(32, sound=False),
    }


COPIES: dict[str, Callable[[], dict[str, Copy]]] = {
    "image": picture_copies,
    "audio": sound_copies,
    "video": clip_copies,
}


def fingerprint(source: Path | bytes) -> Fingerprint | None:
    """The fingerprint of a file, None of one that has none or cannot be read."""
    try:
        with open_media(str(source) if isinstance(source, Path) else source) as media:
            return take_fingerprint(media)
    except DeepfakeError:
        return None


def find_copies(
    paths: Sequence[Path], shelf: Shelf, places: dict[Path, int], copies: dict[str, Copy]
) -> Iterator[Found]:
    """How many of the copies of ``paths`` find their own file on the shelf."""
    for name, make in copies.items():
        count = found = 0
        for path in paths:
            try:
                copy = fingerprint(make(path))
            except (av.FFmpegError, OSError, ValueError):
                continue  # what its encoder does not take
            count += 1
            near = shelf.near(copy) if copy is not None else []
            found += any(one.place == places[path] for one in near)
        yield Found(name, count, found)


def pairs_taken_for_copies(
    fingerprints: Sequence[Fingerprint], shelf: Shelf
) -> dict[tuple[int, int], float]:
    """The pairs that are near, the nearer place first, and the share of bits that differ."""
    taken: dict[tuple[int, int], float] = {}
    for place, one in enumerate(fingerprints):
        for near in shelf.near(one):
            if near.place != place:
                pair = min(place, near.place), max(place, near.place)
                taken[pair] = min(near.difference, taken.get(pair, 1.0))
    return taken


def upper_bound(seen: int, pairs: int) -> float:
    """The share that is not exceeded, at 95 %, when ``seen`` were (Clopper-Pearson)."""
    from scipy.stats import beta

    return float(beta.ppf(0.95, seen + 1, pairs - seen)) if seen < pairs else 1.0


def relation(one: Path, other: Path, root: Path) -> str:
    """Two files by their sources, in the order of the alphabet."""
    names = sorted(str(path.relative_to(root).parent) for path in (one, other))
    return " – ".join(names)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("data", type=Path, metavar="DATA")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--files", type=int, default=60, help="of which copies are made")
    parser.add_argument("--most", type=int, help="most files of a kind (all)")
    parser.add_argument("--listed", action="store_true", help="list the pairs taken for copies")
    options = parser.parse_args(arguments)
    console = make_console()
    for kind in options.kinds:
        folder = options.data / kind
        paths = sorted(p for p in folder.rglob("*") if p.is_file() and p.suffix != ".tsv")
        paths = paths[:: max(1, len(paths) // options.most) if options.most else 1]
        known: list[tuple[Path, Fingerprint]] = []
        for path in track(paths, f"{kind}: fingerprints", console=console, transient=True):
            if (found := fingerprint(path)) is not None:
                known.append((path, found))
        console.print(f"{kind}: {len(known)} of {len(paths)} files have a fingerprint")
        if not known:
            continue
        prints = [one for _, one in known]
        shelf, places = Shelf(prints), {path: at for at, (path, _) in enumerate(known)}
        sample = [path for path, _ in known][:: max(1, len(known) // options.files)]
        rows = [
            [one.name, f"{one.found} of {one.copies}", f"{one.found / max(1, one.copies):.1%}"]
            for one in find_copies(sample, shelf, places, COPIES[kind]())
        ]
        print_table([f"{kind}: copy", "found", "share"], rows, console)
        taken = pairs_taken_for_copies(prints, shelf)
        pairs = len(known) * (len(known) - 1) // 2
        sources = Counter(relation(known[a][0], known[b][0], folder) for a, b in taken)
        across = sum(count for name, count in sources.items() if len(set(name.split(" – "))) > 1)
        console.print(
            f"{kind}: {len(taken)} of {pairs:,} pairs of files are taken for copies, {across} of "
            f"them across sources; at most {upper_bound(len(taken), pairs):.1e} of pairs (95 %)"
        )
        print_table(
            ["sources", "pairs"],
            [[name, str(count)] for name, count in sources.most_common(12)],
            console,
        )
        if options.listed:
            for (a, b), difference in sorted(taken.items(), key=lambda item: item[1]):
                names = [str(known[at][0].relative_to(folder)) for at in (a, b)]
                console.print(f"  {difference:.3f}  {'  '.join(names)}", soft_wrap=True)
    return 0


def _picture(change: Callable[[Pixels], Pixels], format: str, quality: int = 85) -> Copy:
    def make(path: Path) -> bytes:
        with Pictures.open(path) as picture:
            pixels = change(np.array(picture.convert("RGB")))
        out = io.BytesIO()
        Pictures.fromarray(pixels).save(out, format, quality=quality)
        return out.getvalue()

    return make


def _resize(pixels: Pixels, by: float) -> Pixels:
    kernel = cv2.INTER_AREA if by < 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(pixels, None, fx=by, fy=by, interpolation=kernel), np.uint8)


def _border(pixels: Pixels, level: int, *, top: float, side: float = 0.0) -> Pixels:
    rows, columns = (round(share * pixels.shape[0]) for share in (top, side))
    return np.pad(pixels, ((rows, rows), (columns, columns), (0, 0)), constant_values=level)


def _crop(pixels: Pixels, share: float, rng: np.random.Generator) -> Pixels:
    """All but a share of both sides, from anywhere."""
    height, width = (round(side * (1 - share)) for side in pixels.shape[:2])
    top = rng.integers(pixels.shape[0] - height + 1)
    left = rng.integers(pixels.shape[1] - width + 1)
    return np.ascontiguousarray(pixels[top : top + height, left : left + width])


def _sound(encoder: str, container: str, kilobits: int, *, cut: float = 0.0) -> Copy:
    def make(path: Path) -> bytes:
        with open_media(str(path)) as media:
            samples = media.audio(sample_rate=RATE, max_seconds=600)
        samples = samples[round(cut * len(samples)) :]
        return _encode_sound(samples, encoder=encoder, container=container, kilobits=kilobits)

    return make


def _encode_sound(samples: Samples, *, encoder: str, container: str, kilobits: int) -> bytes:
    out = io.BytesIO()
    with av.open(out, "w", format=container) as coded:
        stream = coded.add_stream(encoder, rate=RATE)
        stream.bit_rate, stream.layout = 1000 * kilobits, "mono"
        levels = np.clip(samples * 32767, -32768, 32767).astype(np.int16)[None]
        frame = av.AudioFrame.from_ndarray(levels, format="s16", layout="mono")
        frame.sample_rate = RATE
        for packet in (*stream.encode(frame), *stream.encode(None)):
            coded.mux(packet)
    return out.getvalue()


def _clip(crf: int, *, by: float = 1.0, bars: float = 0.0, sound: bool = True) -> Copy:
    def make(path: Path) -> bytes:
        out = io.BytesIO()
        with av.open(str(path)) as source, av.open(out, "w", format="matroska") as coded:
            pictures = source.streams.video[0]
            rate = pictures.average_rate or 25
            video = coded.add_stream("libx264", rate=rate, options={"crf": str(crf)})
            heard = source.streams.audio[0] if sound and source.streams.audio else None
            voice = coded.add_stream("aac", rate=heard.rate) if heard is not None else None
            chosen = [it for it in (pictures, heard) if it is not None]
            for frame in source.decode(*chosen):
                if isinstance(frame, av.AudioFrame):
                    assert voice is not None
                    frame.pts = None
                    coded.mux(voice.encode(frame))
                    continue
                pixels = _border(_resize(frame.to_ndarray(format="rgb24"), by), 16, top=bars)
                height, width = (side // 2 * 2 for side in pixels.shape[:2])
                if not video.is_open:
                    video.width, video.height, video.pix_fmt = width, height, "yuv420p"
                picture = av.VideoFrame.from_ndarray(
                    np.ascontiguousarray(pixels[:height, :width]), format="rgb24"
                )
                coded.mux(video.encode(picture))
            coded.mux(video.encode(None))
            if voice is not None:
                coded.mux(voice.encode(None))
        return out.getvalue()

    return make


if __name__ == "__main__":
    raise SystemExit(main())
