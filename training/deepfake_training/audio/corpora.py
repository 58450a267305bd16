"""More bona fide voices: recordings that come in packages of the Debian archive.

Prompts of the Asterisk telephone exchange (five professional speakers in five languages, G.722),
the dialogues of the game Fish Fillets (actors, Czech, Dutch and English), the letters and syllables
of KLettres, the words of KTuberling and the descriptions of Tux Paint's stamps (volunteers at home,
more than twenty languages), the voices of Hedgewars, and Italian prompts at 8 kHz. Licences: CC-BY
and CC-BY-SA 3.0 for the prompts, GPL-2+ and GFDL-1.3 for the others; the recordings are used for
training and never redistributed.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np

from deepfake.errors import SettingsError
from deepfake.preprocess import AudioPreprocess, Samples

from ..perturb import SAMPLE_RATE
from .data import read_samples

LONGEST_SECONDS = 3.5
SHORTEST_SECONDS = 1.2


@dataclass(frozen=True)
class Recording:
    """One bona fide clip: corpus, speaker (as far as known) and int16 samples at 16 kHz."""

    corpus: str
    speaker: str
    name: str
    samples: Samples
    licence: str


@dataclass(frozen=True)
class Corpus:
    """Where the recordings of a corpus lie in its packages, and how many of a speaker to take.

    The group of ``pattern`` that is found is the speaker. Recordings below ``SHORTEST_SECONDS`` are
    joined with the next ones of the same speaker.
    """

    name: str
    packages: tuple[str, ...]
    pattern: str
    most_per_speaker: int
    licence: str


CORPORA = (
    Corpus(
        name="Asterisk",
        packages=tuple(
            f"asterisk-core-sounds-{code}-g722" for code in ("en", "es", "fr", "it", "ru")
        ),
        pattern=r"asterisk/sounds/([^/]+)/(?:[^/]+/)?[^/]+\.g722$",
        most_per_speaker=50,
        licence="CC-BY-SA-3.0, CC-BY-3.0",
    ),
    Corpus(
        name="FishFillets",
        packages=("fillets-ng-data", "fillets-ng-data-cs", "fillets-ng-data-nl"),
        pattern=r"fillets-ng/sound/[^/]+/(cs|en|nl)/[^/]+\.ogg$",
        most_per_speaker=130,
        licence="GPL-2+",
    ),
    Corpus(
        name="KLettres",
        packages=("klettres-data",),
        pattern=r"klettres/([^/]+)/(?:alpha|syllab)/[^/]+\.ogg$",
        most_per_speaker=12,
        licence="GPL-2+",
    ),
    Corpus(
        name="KTuberling",
        packages=("ktuberling-data",),
        pattern=r"ktuberling/sounds/(ca|da|de|el|en|fr|gl|lt|ru|sl|uk|wa)/[^/]+\.(?:ogg|wav)$",
        most_per_speaker=9,
        licence="GPL-2+",
    ),
    Corpus(
        name="TuxPaint",
        packages=("tuxpaint-stamps-default",),
        pattern=r"_desc_(be|bg|ca|da|el|es|fr|nl|ro|ru)\.ogg$",
        most_per_speaker=20,
        licence="GPL-2+",
    ),
    Corpus(
        name="VoicePacks",
        packages=("hedgewars-data", "asterisk-prompt-it-menardi-wav"),
        pattern=r"(?:voices/(?!Singer|Robot)([A-Z][^/]+)/[^/]+\.ogg|(it)_IT_f_Menardi/[^/]+\.wav)$",
        most_per_speaker=9,
        licence="GFDL-1.3, CC-BY-SA-3.0",
    ),
)


def collect_recordings(corpus: Corpus) -> Iterator[Recording]:
    """Fetch the packages of a corpus, unpack them aside and yield a fixed choice of recordings.

    Packages come from wherever this system gets its own (``apt-get download``); nothing is
    installed. Raises ``MissingDependency`` without apt and ``SettingsError`` when a package cannot
    be had.
    """
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for package in corpus.packages:
            unpack_package(package, folder)
        by_speaker: dict[str, list[Path]] = {}
        for path in sorted(folder.rglob("*")):
            found = re.search(corpus.pattern, path.relative_to(folder).as_posix())
            if found and path.is_file():
                by_speaker.setdefault(found[found.lastindex or 0], []).append(path)
        for speaker, paths in sorted(by_speaker.items()):
            order = np.random.default_rng(len(paths)).permutation(len(paths))
            pieces = join_short(read_sound(paths[index]) for index in order)
            for number, samples in zip(range(corpus.most_per_speaker), pieces, strict=False):
                yield Recording(
                    corpus=corpus.name,
                    speaker=speaker,
                    name=f"{corpus.name}__{speaker}_{number:03}",
                    samples=samples,
                    licence=corpus.licence,
                )


def unpack_package(package: str, folder: Path) -> None:
    """Download a Debian package and unpack its files below ``folder``."""
    if not shutil.which("apt-get"):
        raise SettingsError(
            "program apt-get: not found",
            hint="run on Debian, or leave [collected] out of the configuration",
        )
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        done = subprocess.run(  # noqa: S603 - a fixed program with names from CORPORA
            ["apt-get", "download", "--quiet", package],  # noqa: S607
            cwd=place,
            capture_output=True,
            text=True,
            check=False,
        )
        archives = list(Path(place).glob("*.deb"))
        if done.returncode or not archives:
            raise SettingsError(
                f"package {package}: cannot be downloaded ({done.stderr.strip()[-200:]})",
                hint="run 'apt-get update' first",
            )
        command = ["dpkg-deb", "--extract", str(archives[0]), str(folder)]
        subprocess.run(command, check=True)  # noqa: S603


def read_sound(path: Path) -> Samples:
    """The part of a recording between leading and trailing silence, its ends faded over 5 ms;
    nothing when it cannot be decoded (a few old Ogg files).
    """
    try:
        samples = read_samples(path).astype(np.float32) / np.float32(32768)
    except (av.error.FFmpegError, UnicodeDecodeError):
        return np.zeros(0, np.float32)
    if not np.abs(samples).max(initial=0.0) > 0:
        return samples[:0]
    first, last = AudioPreprocess().active(samples)
    samples = samples[first:last]
    ramp = np.linspace(0, 1, min(80, len(samples) // 2), dtype=np.float32)
    samples[: len(ramp)] *= ramp
    samples[len(samples) - len(ramp) :] *= ramp[::-1]
    return samples


def join_short(pieces: Iterable[Samples]) -> Iterator[Samples]:
    """Clips of ``SHORTEST_SECONDS`` … ``LONGEST_SECONDS``: shorter pieces are put together."""
    longest, shortest = (
        round(seconds * SAMPLE_RATE) for seconds in (LONGEST_SECONDS, SHORTEST_SECONDS)
    )
    joined = np.zeros(0, np.float32)
    for piece in pieces:
        joined = np.concatenate([joined, piece])
        if len(joined) >= shortest:
            yield joined[:longest]
            joined = np.zeros(0, np.float32)
