"""The model card of a detector of a user's own."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from deepfake.bundle import Bundle
from deepfake.types import Kind

from ..card import fill_card, source_table, view_table
from ..privacy.guarantee import Ledger
from .assessment import Assessed
from .features import Gathered
from .report import RANDOM_WARNING
from .views import View
from .wish import Wish

_QUESTIONS = {
    Kind.IMAGE: "Was this whole picture made by a generative model?",
    Kind.AUDIO: "Is the speech in this recording synthetic, converted or synthesised again?",
    Kind.VIDEO: "Was this clip generated, by its motion and its single frames?",
}


@dataclass(frozen=True, kw_only=True)
class Story:
    """All that the card tells."""

    wish: Wish
    base: Bundle
    assessed: Assessed
    leaks: Sequence[str]
    gathered: Gathered
    views: Sequence[View]
    ledger: Ledger | None = None
    note: str = ""


def write_card(bundle: Bundle, story: Story) -> None:
    """Write ``README.md`` into the bundle's folder, whose pictures are there already."""
    fill_card(
        bundle,
        text={
            "intended": _fill(_intended(bundle, story)),
            "data": _fill(_data(story)),
            "recipe": _fill(_recipe(story)),
            "failures": _failures(story),
        },
        middle=_accuracy(bundle, story),
    )


def _intended(bundle: Bundle, story: Story) -> str:
    folder, base = story.wish.output.parent, story.base.name
    return f"""\
{_warning(story)}{_QUESTIONS[bundle.kind]} A detector of a user's own, made from {base} by

    {story.wish.command}

To use it, or `Settings(models_folder=…)` in Python:

    deepfake detect --models {folder} FILE

The slots that active.json beside it does not name are answered by the shipped bundles. To go back
leave `--models` out, or give the slot to {base} again; the same with {bundle.name} takes it back:

    deepfake models activate {base} --models {folder}

Its score is one piece of evidence, never a proof."""


def _data(story: Story) -> str:
    left_out = story.gathered.left_out
    reasons = ", ".join(f"{name} {count}" for name, count in sorted(left_out.items()))
    return f"""\
{len(story.gathered.files)} files of the user's own, by source below; {left_out.total()} more were
left out{f" ({reasons})" if reasons else ""}. A file whose content was met before counts once. The
network under the head was trained by others on other files, which may be among these: see the card
of {story.base.name}."""


def _recipe(story: Story) -> str:
    learnt = ", ".join(view.name for view in story.views if view.learnt)
    start = (
        "The logit of the network as it came is one feature more, hardly regularised, so that the "
        "head corrects it rather than starting from nothing."
        if story.wish.start == "shipped"
        else "The head that the network came with is not used."
    )
    return f"""\
The network of {story.base.name} stays as it is; only its last linear layer is new: a logistic
regression (L2) on the standardised features before it, averaged over the windows of a file. {start}
{story.note} {_privacy(story.ledger)}Both classes count alike, so do the sources of a class and the
files of a source. The head never learns from a file as it is but from the same changes of both
classes ({learnt}), so that formats and compression tell little. Files are read as `deepfake detect`
reads them."""


def _privacy(ledger: Ledger | None) -> str:
    """What is promised to whoever is in the files, and what is not."""
    if ledger is None:
        return ""
    return f"""\
The head was fitted by DP-SGD: gradients of a file are cut off at length {ledger.clip:g}, and
{ledger.schedule.steps} steps have Gaussian noise of {ledger.schedule.noise:.2f} times that.

**Privacy: ε = {ledger.epsilon:.2f} at δ = {ledger.delta:g}** (accountant of Opacus), for one file.
Inside of this guarantee are the weights and the bias of the head, with the statistics that
features are scaled by. **Outside of it**, made from the same files without noise: the calibration,
the limits of the words, the pooling, every table and picture of this card, the warnings below, how
many files each source has, what was dropped or found suspicious, and that it was written at all.
Where none of these may be known, calibrate on files that may be (`deepfake calibrate`), and keep
this card and the metrics in bundle.json to yourself.

"""


def _failures(story: Story) -> str:
    lines = [*story.leaks]
    if story.wish.split == "random":
        lines.insert(0, RANDOM_WARNING)
    if story.base.slot == "audio":
        lines.append("a short synthetic part of a long recording is averaged away")
    if story.base.slot == "video":
        lines.append(
            "single frames, faces and lips are still judged by the shipped bundles; of several "
            "persons only the most prominent one's motion was learnt from"
        )
    lines.append(
        "sources and systems unlike those above: nothing is known about them, and the table shows "
        "how much already these differ"
    )
    return "\n".join(f"- {line}" for line in lines)


def _accuracy(bundle: Bundle, story: Story) -> str:
    assessed, points = story.assessed, bundle.calibration.points
    together = ""
    if assessed.clips is not None:
        together = f"""
### Motion and single frames together, as a clip is judged

{view_table(assessed.clips[1])}
{source_table(assessed.clips[0], label=1)}
{source_table(assessed.clips[0], label=0)}"""
    return f"""## Calibration

{_fill(_calibration(bundle))}

| score | word |
|---|---|
| at least {points.synthetic:.3f} | synthetic (at most 1 %, on 95 % of the genuine sources) |
| at least {points.suspicious:.3f} | suspicious (at most 5 %) |
| below {points.authentic:.3f} | no sign of synthesis (10 % of synthetic files score this low) |
| between | inconclusive |

## Accuracy

{_fill(_warning(story) + _unseen(story))}

{view_table(assessed.views)}
### Synthetic sources

{source_table(assessed.sources, label=1)}
### Genuine sources

{source_table(assessed.sources, label=0)}{together}
![ROC curves](roc.png) ![Reliability](reliability.png)

"""


def _warning(story: Story) -> str:
    if story.wish.split != "random":
        return ""
    return f"**WARNING: `--split random`: {RANDOM_WARNING}.**\n\n"


def _calibration(bundle: Bundle) -> str:
    calibration = bundle.calibration
    return f"""\
Platt scaling on the logits of left-out files, all views together; both classes weigh the same:
log-odds = {calibration.slope:.4f} × pooled logit + {calibration.intercept:.4f}, where the pooled
logit is the mean of the highest {calibration.top_fraction:.0%} of the window logits. The log-odds
of one file differ between views by {calibration.spread:.2f} (root mean square), which sets the
reported interval."""


def _unseen(story: Story) -> str:
    what = "whole sources of both classes" if story.wish.split == "source" else "files at random"
    return f"""\
Every number is about files that neither the head nor the calibration that judged them had seen:
each fold leaves out {what}, so that its head knows less than the one in this bundle. "Files" of a
view are scored after its change."""


def _fill(text: str) -> str:
    """Paragraphs broken anew, but for indented ones."""
    return "\n\n".join(
        part
        if part.startswith(" ")
        else textwrap.fill(part, 100, break_long_words=False, break_on_hyphens=False)
        for part in text.strip().split("\n\n")
    )
