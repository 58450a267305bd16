"""What else tells the classes apart: a format or a size that only one of them has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from deepfake.types import MediaInfo

from ..metrics import separation
from .features import Known
from .material import CLASSES

CLEAR = 0.9
"""Share of the files that one fact about them puts into the right class, or its AUC."""

_WORDS: dict[str, Callable[[MediaInfo], object]] = {
    "format": lambda info: info.format,
    "size": lambda info: None if info.width is None else f"{info.width}×{info.height}",
    "sample rate": lambda info: None if info.sample_rate is None else f"{info.sample_rate} Hz",
    "frame rate": lambda info: info.frame_rate and f"{info.frame_rate:.4g} a second",
    "having sound": lambda info: "sound" if info.has_audio else "no sound",
}
_NUMBERS: dict[str, Callable[[MediaInfo], float | None]] = {
    "short side in pixels": lambda info: (
        info.width and info.height and min(info.width, info.height)
    ),
    "length in seconds": lambda info: info.seconds,
    "bytes of the file": lambda info: info.bytes,
}
_REMEDY = "the numbers may owe something to it; store both classes alike, or choose files that are"


def find_leaks(files: Sequence[Known]) -> list[str]:
    """A sentence for each fact about the files themselves that nearly gives their class away."""
    found = []
    for name, read in _WORDS.items():
        values = [(one.label, read(one.info)) for one in files]
        share, usual = _tell_apart(values)
        if share >= CLEAR:
            kinds = ", ".join(f"{CLASSES[label]} mostly {usual[label]}" for label in (0, 1))
            found.append(
                f"the {name} alone tells {share:.0%} of the files apart ({kinds}): {_REMEDY}"
            )
    for name, number in _NUMBERS.items():
        classes: list[list[float]] = [[], []]
        for one in files:
            if (value := number(one.info)) is not None:
                classes[one.label].append(value)
        area = separation(classes[1], classes[0])
        if max(area, 1 - area) >= CLEAR:
            middles = ", ".join(
                f"{CLASSES[label]} about {sorted(some)[len(some) // 2]:.4g}"
                for label, some in enumerate(classes)
            )
            found.append(f"the {name} ranks the classes with AUC {area:.2f} ({middles}): {_REMEDY}")
    return found


def _tell_apart(values: Sequence[tuple[int, object]]) -> tuple[float, list[object]]:
    """The share of files, both classes counting alike, that are right when each value stands for
    the class that has it more often; and the commonest value of each class.
    """
    counts = [Counter(value for label, value in values if label == one) for one in (0, 1)]
    totals = [max(1, count.total()) for count in counts]
    seen = counts[0].keys() | counts[1].keys()
    if len(seen) > max(2, len(values) // 4):  # as good as every file has a value of its own
        return 0.0, []
    share = sum(max(counts[0][v] / totals[0], counts[1][v] / totals[1]) for v in seen) / 2
    return share, [count.most_common(1)[0][0] for count in counts]
