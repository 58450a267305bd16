"""Progress in words: what is being done, and how long it took and will take."""

from __future__ import annotations

import html
import time

from deepfake.text import printable

STEPS = {
    "opening": "Opening the file",
    "provenance": "Looking for a signed manifest",
    "metadata": "Reading what travels in the file",
    "watermark": "Looking for watermarks",
    "image": "Examining the picture",
    "face": "Examining faces",
    "audio": "Listening to the sound",
    "video": "Examining the motion",
    "lip-sync": "Comparing lips and sound",
    "pictures": "Looking through the frames",
    "unclear moments": "Looking closer at unclear moments",
    "frame": "Examining single frames",
    "listening": "Listening to the sound",
    "done": "Drawing the report",
}
LEAST_SHARE, LEAST_SECONDS = 0.08, 1.5
"""Before these nothing is said of the time that is left."""


def estimate_left(share: float, elapsed_seconds: float) -> float | None:
    """Seconds that are left when work goes on at the pace so far; None where that says little."""
    if share < LEAST_SHARE or elapsed_seconds < LEAST_SECONDS:
        return None
    return elapsed_seconds * (1 - share) / share


def word_progress(text: str, share: float, elapsed_seconds: float) -> str:
    """One line for a person."""
    step = STEPS.get(text, text)
    line = f"{step} · {elapsed_seconds:.0f} s so far"
    left = estimate_left(share, elapsed_seconds)
    return line if left is None or text == "done" else f"{line}, about {_rounded(left)} left"


class Pace:
    """How far one file is: told by the thread that examines it, read by another."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self.share, self._text = 0.0, "opening"

    def tell(self, share: float, text: str) -> None:
        """The progress callback."""
        self.share, self._text = share, text

    def words(self) -> str:
        """What is being done, for how long already, and about how long still."""
        return word_progress(self._text, self.share, time.monotonic() - self._started)


def render_pace(pace: Pace, *, place: int, files: int, name: str) -> str:
    """A bar for the file at ``place`` (from 0) of so many ``files``, and its words."""
    share = (place + pace.share) / files
    which = f"File {place + 1} of {files}, {printable(name, most=80)}: " if files > 1 else ""
    words = html.escape(f"{share:.0%} · {which}{pace.words()}")
    return (
        f'<div class="df-pace"><progress max="1" value="{share:.3f}" aria-label="Progress">'
        f"</progress><p>{words}</p></div>"
    )


def _rounded(seconds: float) -> str:
    if seconds >= 90:
        return f"{seconds / 60:.0f} min"
    return f"{5 * round(seconds / 5):.0f} s" if seconds >= 20 else f"{max(1.0, seconds):.0f} s"
