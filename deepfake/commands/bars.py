"""Progress bars on standard error of work that has several named steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def show_steps(*, in_bytes: bool = False) -> Iterator[Callable[[str, int, int | None], None]]:
    """A function to tell what is worked on, how far it is and its total (None: not known), in bytes
    or in things. Every step gets a bar, which is gone at the end; without a terminal there is none.
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    errors, tasks = Console(stderr=True), {}
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn() if in_bytes else MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=errors,
        transient=True,
        disable=not errors.is_terminal,
    ) as bar:

        def advance(text: str, done: int, total: int | None) -> None:
            if text not in tasks:
                tasks[text] = bar.add_task(text, total=total)
            bar.update(tasks[text], completed=done)

        yield advance
