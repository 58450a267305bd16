"""Runs the code blocks of README.md; ``python -m tests.readme`` writes their real output into it.

``console`` blocks: each ``$ command`` is run (without a shell) in a folder that holds the sample
media as ``samples/``, and what follows must be its output, digits and bars apart. ``python``
blocks: run as one script, whose output must be the ``text`` block that follows.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

README = Path(__file__).parent.parent / "README.md"
SET_UP = ("make", "git", "cd", "pip")
CONSOLE = re.compile(r"```console\n(.*?)```", re.DOTALL)
PYTHON = re.compile(r"```python\n(.*?)```\n\n```text\n(.*?)```", re.DOTALL)


def rewrite(text: str, folder: Path) -> str:
    """The README with the output that its blocks have in ``folder`` now."""

    def console(match: re.Match[str]) -> str:
        commands = [line for line in match[1].splitlines() if line.startswith("$ ")]
        if any(line[2:].split()[0] in SET_UP or "serve" in line for line in commands):
            return match[0]
        shown = "".join(f"{line}\n{_run(line[2:], folder)}" for line in commands)
        return f"```console\n{shown}```"

    def python(match: re.Match[str]) -> str:
        output = _output([sys.executable, "-c", match[1]], folder)
        return f"```python\n{match[1]}```\n\n```text\n{output}```"

    replacements: list[tuple[re.Pattern[str], Callable[[re.Match[str]], str]]] = [
        (CONSOLE, console),
        (PYTHON, python),
    ]
    for pattern, replace in replacements:
        text = pattern.sub(replace, text)
    return text


def blur(text: str) -> str:
    """The text without what differs between machines and runs."""
    text = re.sub(r"[0-9a-f]{12}…|\d+(\.\d+)?(e-?\d+)?", "#", text)
    return re.sub(r"[▁▂▃▄▅▆▇█]+", "~", text)


def _run(command: str, folder: Path) -> str:
    words = shlex.split(command)
    if words[0] == "deepfake":
        words = [sys.executable, "-m", "deepfake", *words[1:]]
    elif words[0] == "python":
        words[0] = sys.executable
    return _output(words, folder)


def _output(command: list[str], folder: Path) -> str:
    environment = {**os.environ, "COLUMNS": "100", "PYTHONPATH": str(README.parent)}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{command}: exit status {done.returncode}\n{done.stderr}")
    return re.sub(r"[ \t]+$", "", done.stdout, flags=re.MULTILINE).rstrip("\n") + "\n"


def make_samples(folder: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "examples.samples", str(folder / "samples")],
        cwd=README.parent,
        check=True,
        capture_output=True,
    )


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        make_samples(Path(name))
        README.write_text(rewrite(README.read_text(encoding="utf-8"), Path(name)), encoding="utf-8")
