"""A red team's result as one page that opens offline: pictures of what was changed, curves of
success against queries, and tables; nothing is loaded from anywhere.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.figure import Figure
from PIL import Image

from deepfake.errors import DeepfakeError
from deepfake.media.opening import Media, open_media
from deepfake.preprocess import Pixels, Samples
from deepfake.settings import Limits
from deepfake.text import printable
from deepfake.types import Kind

from .. import perturb
from ..attacks.distortion import amplify
from ..evaluation.material import Sample
from ..evaluation.run import FUSED
from .result import Siege
from .run import Trial
from .tables import list_failures, list_rows, list_suite, say_how

_HERE = Path(__file__).parent
_SIDE = 260
_SECONDS = 4.0
_LOOK: dict[Any, Any] = {
    "svg.hashsalt": "deepfake",
    "svg.fonttype": "none",
    "font.size": 9,
    "axes.grid": True,
}


@dataclass(frozen=True)
class Example:
    """One attacked file: three pictures as data addresses, and what was said before and after."""

    attack: str
    title: str
    before: str
    after: str
    difference: str
    gain: str


def write_page(
    result: Siege,
    samples: Sequence[Sample],
    path: Path,
    *,
    limits: Limits = Limits(),  # noqa: B008
) -> None:
    """Write the page; ``samples`` are the files, the attacked ones lie beside ``path``."""
    tables = [list_rows(result, intervals=True), list_suite(result)]
    failures = list_failures(result)
    values = {
        "result": result,
        "how": say_how(result).replace("`", ""),
        "curves": draw_curves(result),
        "examples": [*_show_examples(result, samples, path.parent, limits)],
        "tables": tables,
        "failures": failures if failures.cells else None,
    }
    environment = Environment(
        autoescape=True,
        loader=FileSystemLoader(_HERE),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters["shown"] = lambda text: printable(str(text), most=300)
    path.write_text(environment.get_template("page.html").render(values), encoding="utf-8")


def draw_curves(result: Siege) -> Markup:
    """The share of files whose verdict had turned after so many queries, one plot for each class;
    empty where nothing was asked.
    """
    if not result.curves:
        return Markup("")
    with rc_context(_LOOK):
        figure = Figure(figsize=(11, 3.4), layout="constrained")
        titles = {
            True: "synthetic files that lost their alarm",
            False: "genuine files that got one",
        }
        for axes, (synthetic, title) in zip(figure.subplots(1, 2), titles.items(), strict=True):
            for curve in (one for one in result.curves if one.synthetic is synthetic):
                asked = [*curve.queries, max(result.plan.strength.budget, curve.queries[-1])]
                shares = [*curve.shares, curve.shares[-1]]
                label = f"{curve.attack} ({curve.files} files)"
                axes.step(asked, shares, where="post", label=label)
            axes.set(title=title, xlabel="queries", ylabel="share", ylim=(-0.03, 1.03))
            axes.set_xscale("log")
            if axes.has_data():
                axes.legend(fontsize=7)
        stream = io.StringIO()
        figure.savefig(
            stream, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type"))
        )
    text = stream.getvalue()
    # Everything in it was drawn by matplotlib, which escapes what it is given.
    return Markup(text[text.index("<svg") :])  # noqa: S704


def _show_examples(
    result: Siege, samples: Sequence[Sample], folder: Path, limits: Limits
) -> Iterator[Example]:
    """Of each attack a synthetic and a genuine file, those whose verdict turned before others."""
    known = {(one.name, one.synthetic): one for one in samples}
    before = {(one.name, one.synthetic): one for one in result.trials if one.kept is None}
    for row in result.rows[1:]:
        for synthetic in (True, False):
            own = [
                one
                for one in result.trials
                if one.attack == row.attack and one.synthetic is synthetic and one.kept
            ]
            own.sort(key=lambda one: before[one.name, one.synthetic].verdict == one.verdict)
            for trial in own[:1]:
                first = before[trial.name, trial.synthetic]
                try:
                    yield _show(trial, first, known[trial.name, synthetic], folder, limits)
                except (DeepfakeError, OSError):
                    continue  # a file that is gone since


def _show(trial: Trial, before: Trial, sample: Sample, folder: Path, limits: Limits) -> Example:
    pictures = []
    for place in (sample.path, folder / str(trial.kept)):
        with open_media(place, limits=limits) as media:
            pictures.append(_picture(media))
    difference, gain = amplify(*pictures)
    kind = "synthetic" if trial.synthetic else "genuine"
    title = f"{trial.attack}, {kind} ({printable(trial.source)}): {_say(before)} → {_say(trial)}"
    if trial.queries:
        title += f", {trial.queries} queries"
    first, after, last = (_address(one) for one in (*pictures, difference))
    return Example(trial.attack, title, first, after, last, f"difference × {gain:.0f}")


def _say(trial: Trial) -> str:
    score = trial.scores.get(FUSED)
    return f"{trial.verdict} {score:.2f}" if score is not None else str(trial.verdict)


def _picture(media: Media) -> Pixels:
    """The picture, a frame of the clip, or the spectrum of the sound."""
    if media.info.kind is Kind.IMAGE:
        return media.image()
    if media.info.kind is Kind.VIDEO:
        return [*media.frames(most=3)][-1].pixels
    return draw_spectrum(media.audio(sample_rate=perturb.SAMPLE_RATE, max_seconds=_SECONDS))


def draw_spectrum(samples: Samples) -> Pixels:
    """Levels of 0 (below 80 dB) to 255 over time and frequency, low ones at the bottom, of the
    first four seconds.
    """
    count, hop = 512, 128
    padded = np.pad(samples, (0, max(0, count - len(samples))))
    frames = np.lib.stride_tricks.sliding_window_view(padded, count)[::hop]
    power = np.square(np.abs(np.fft.rfft(frames * np.hanning(count), axis=1))).T[::-1]
    decibels = 10 * np.log10(power + 1e-12)
    levels = (decibels - decibels.max() + 80) / 80 * 255
    grey = levels.clip(0, 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


def _address(pixels: Pixels) -> str:
    factor = min(1.0, _SIDE / max(pixels.shape[:2]))
    size = (max(1, round(pixels.shape[1] * factor)), max(1, round(pixels.shape[0] * factor)))
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    stream = io.BytesIO()
    Image.fromarray(np.asarray(small, np.uint8)).save(stream, "JPEG", quality=82)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode("ascii")
