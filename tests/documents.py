"""Runs the blocks of README.md and docs/; ``python -m tests.documents`` writes what they print.

With names, as of ``docs/scans.md``, it writes those documents alone.

What a fenced block is depends on its word:

``console``   each ``$ command`` is run in a folder that holds the sample media as ``samples/``;
              what follows must be its output
``python``    is run as a script in the same folder; its output must be the ``text`` block that
              follows; without one it is not run, but what it imports must exist
``sh bash``   are not run, because they take minutes, a network or another machine; their programs,
              subcommands, options, files and extras must exist
``text``      or no word, without ``python`` before it: shown as it is; a ``$ command`` in it is
              held as ``sh`` is, and so is a line that begins with ``deepfake``
``json toml`` must be read by its parser

A document whose blocks ask at ``SERVED`` gets a service of its own there; the key that one of its
commands makes is ``$DEEPFAKE_API_KEY`` for those that follow.

Outputs are compared without digests, keys, times and bars; shares may differ by ``NEAR``. Every
inline ``deepfake …`` and ``python -m …`` must name commands and options that exist, too. Between
``<!-- generated: NAME -->`` and ``<!-- end -->`` stands a table of ``docs.site.accuracy``.
"""

from __future__ import annotations

import ast
import importlib
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
import tomllib
from argparse import ArgumentParser, _SubParsersAction
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from deepfake.commands.cli import build_parser
from docs.site import accuracy

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
SHELL = ("sh", "bash")
SHOWN = ("", "text", "json", "toml", *SHELL)
NEAR = 0.02
SERVED = "http://127.0.0.1:7860"
FENCE = re.compile(r"^```(?P<word>[^\n]*)\n(?P<body>.*?)^```[ ]*$", re.DOTALL | re.MULTILINE)
TABLE = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
INLINE = re.compile(r"(?<!`)`((?:deepfake|python -m) [^`]+)`")
EXTERNAL = {"cd", "curl", "export", "find", "git", "jq", "onnx2tf", "pytest", "ray", "taskset"}
"""Programs of others, of which nothing is held here."""


@dataclass(frozen=True)
class Block:
    """A fenced block: its word, what it holds, and the characters of the text that hold it."""

    word: str
    body: str
    start: int
    end: int


def blocks(text: str) -> list[Block]:
    found = FENCE.finditer(text)
    return [Block(m["word"].strip(), m["body"], m.start("body"), m.end("body")) for m in found]


def rewrite(text: str, folder: Path) -> str:
    """The document with what its blocks print in ``folder``, and its tables, as they are now.

    What differs from before in nothing that ``same`` minds stays as it is.
    """
    before: Block | None = None
    changes = []
    with Place.of(text, folder) as place:
        for block in blocks(text):
            made = block.body
            if block.word == "console":
                commands = [line for line in block.body.splitlines() if line.startswith("$ ")]
                made = "".join(f"{line}\n{place.run(line[2:])}" for line in commands)
            elif block.word == "text" and before is not None and before.word == "python":
                made = place.output([sys.executable, "-c", before.body])
            if not same(made, block.body):
                changes.append((block, made))
            before = block
    for block, made in reversed(changes):
        text = text[: block.start] + made + text[block.end :]
    return TABLE.sub(lambda m: f"{m[1]}\n{getattr(accuracy, m[2])()}\n{m[3]}", text)


def same(one: str, other: str) -> bool:
    """Whether two outputs tell the same, whatever the machine and the moment."""
    if _skeleton(one) != _skeleton(other):
        return False
    pairs = zip(_shares(one), _shares(other), strict=True)
    return all(abs(first - second) <= NEAR for first, second in pairs)


VARIES = re.compile(
    r"[0-9a-f]{12}…|dfk_[0-9a-z]{10}_[\w-]{43}|\b[0-9a-z]{10}(?= +shop)|\d[\d,]* kB|"
    r"\d{4}-\d\d-\d\dT[\d:]+Z|in [\d.]+ m?s\b"
)
SHARE = re.compile(r"\b(?:\d(?:\.\d+)?e-\d+|[01]\.\d+)")


def _skeleton(text: str) -> str:
    text = SHARE.sub("#", VARIES.sub("~", text))
    return re.sub(r"[▁▂▃▄▅▆▇█]+", "▁", text)


def _shares(text: str) -> list[float]:
    return [float(number) for number in SHARE.findall(VARIES.sub("~", text))]


def problems(path: Path) -> list[str]:
    """What the blocks of a document that are not run, and its inline commands, name in vain."""
    text = path.read_text(encoding="utf-8")
    found = []
    for block in blocks(text):
        word = block.word
        if word.startswith("{") or word == "console":
            continue
        if word == "python":
            found += [f"python: {why}" for why in check_imports(block.body)]
            continue
        if word not in SHOWN:
            found.append(f"a block of {word or 'no word'}: {block.body[:60]!r}")
        elif word == "json":
            json.loads(block.body)
        elif word == "toml":
            tomllib.loads(block.body)
        for command in _commands(block):
            found += [f"{' '.join(command)}: {why}" for why in check(command)]
    for command in INLINE.findall(FENCE.sub("", text)):
        words = [word for word in command.split() if "…" not in word]
        found += [f"{command}: {why}" for why in check(words, whole=False)]
    return found


def _commands(block: Block) -> Iterator[list[str]]:
    """The commands of a block that is shown: every line of ``sh``, and those after ``$``."""
    if block.word not in (*SHELL, "text", ""):
        return
    for line in block.body.replace("\\\n", " ").splitlines():
        if block.word not in SHELL and not line.startswith(("$ ", "deepfake ")):
            continue
        lexer = shlex.shlex(line.removeprefix("$ "), posix=True, punctuation_chars="|;&<>")
        lexer.whitespace_split = True
        command: list[str] = []
        for word in [*lexer, ";"]:
            if word and set(word) <= set("|;&"):
                while command and re.fullmatch(r"\w+=.*", command[0]):
                    command.pop(0)
                if command:
                    yield command
                command = []
            else:
                command.append(word)


def check(command: list[str], *, whole: bool = True) -> list[str]:
    """Why a command could not be meant as it is written. ``whole``: it must parse; else only its
    subcommand and options must exist."""
    program, *words = command
    if program == "deepfake":
        return _check_deepfake(words, whole=whole)
    if program == "python":
        return _check_python(words)
    if program == "make":
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        return [f"no target {word}" for word in words if "=" not in word and word not in targets]
    if program == "pip":
        return _check_pip(words)
    return [] if program in EXTERNAL else [f"unknown program {program}"]


def check_imports(code: str) -> list[str]:
    """What a script imports in vain."""
    found = []
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            names = {name.name: () for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            names = {str(node.module): tuple(name.name for name in node.names)}
        else:
            continue
        for module, attributes in names.items():
            try:
                imported = importlib.import_module(module)
            except ImportError:
                found.append(f"no module {module}")
                continue
            found += [f"no {module}.{it}" for it in attributes if not hasattr(imported, it)]
    return found


def _check_deepfake(words: list[str], *, whole: bool) -> list[str]:
    parser = build_parser()
    if whole:
        try:
            parser.parse_args(words)
        except SystemExit as end:
            return ["does not parse"] if end.code else []
        return []
    while words and (inner := _subparsers(parser)) and not words[0].startswith("-"):
        for name in words[0].split("|"):
            if name not in inner:
                return [] if name.isupper() else [f"no command {name}"]
        parser, words = inner[words[0].split("|")[0]], words[1:]
    options = parser._option_string_actions
    flags = [word.split("=")[0].strip(".,;") for word in words if word.startswith("--")]
    return [f"no option {flag}" for flag in flags if flag not in options]


def _subparsers(parser: ArgumentParser) -> dict[str, ArgumentParser]:
    for action in parser._actions:
        if isinstance(action, _SubParsersAction):
            return dict(action.choices)
    return {}


def _check_python(words: list[str]) -> list[str]:
    if words[:1] == ["-m"] and len(words) > 1:
        parts = words[1].split(".")
        places = [top.joinpath(*parts) for top in (ROOT, ROOT / "training", ROOT / "app")]
        files = [file for place in places for file in (place.with_suffix(".py"), place)]
        found = [file for file in files if file.exists()]
        if not found and parts[0] in (
            "benchmarks",
            "docs",
            "examples",
            "tests",
            "deepfake_training",
        ):
            return [f"no module {words[1]}"]
        folder = found[0] if found and found[0].is_dir() else found[0].parent if found else None
    elif words and words[0].endswith(".py"):
        file = ROOT / words[0]
        if not file.exists():
            return [f"no file {words[0]}"]
        folder = file.parent
    else:
        return []
    flags = [word.split("=")[0] for word in words if word.startswith("--")]
    return [f"no option {flag}" for flag in flags if folder and f'"{flag}"' not in _source(folder)]


@cache
def _source(folder: Path) -> str:
    return "\n".join(path.read_text(encoding="utf-8") for path in folder.rglob("*.py"))


def _check_pip(words: list[str]) -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    named = re.findall(r"\[([\w,]+)\]", " ".join(words))
    found = [f"no extra {e}" for group in named for e in group.split(",") if e not in extras]
    files = [word for word in words if word.endswith(".txt")]
    return found + [f"no file {name}" for name in files if not (ROOT / name).exists()]


class Place:
    """Where blocks are run: a ``folder``, and the ``address`` of a service if they ask one."""

    def __init__(self, folder: Path, address: str = SERVED) -> None:
        self._folder, self._address = folder, address
        paths = [ROOT, ROOT / "app", ROOT / "training"]
        self._environment = {
            **os.environ,
            "COLUMNS": "100",
            "PYTHONPATH": os.pathsep.join(map(str, paths)),
        }

    @classmethod
    @contextmanager
    def of(cls, text: str, folder: Path) -> Iterator[Place]:
        """The place for the blocks of a document, until the end of the block."""
        if not any(it.word in ("console", "python") and SERVED in it.body for it in blocks(text)):
            yield cls(folder)
            return
        place = cls(folder)
        place._environment["XDG_DATA_HOME"] = str(folder / "data")
        place._environment.pop("DEEPFAKE_API_KEY", None)
        server = subprocess.Popen(
            [sys.executable, "-m", "deepfake", "serve", "--port", "0"],
            cwd=folder,
            env=place._environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert server.stdout is not None
            found = re.search(r"http://127\.0\.0\.1:\d+", server.stdout.readline())
            assert found is not None, "the service did not start"
            place._address = found[0]
            yield place
        finally:
            server.terminate()
            server.communicate(timeout=60)

    def run(self, command: str) -> str:
        """What a command of a ``console`` block prints."""
        key = self._environment.get("DEEPFAKE_API_KEY", "")
        words = shlex.split(command.replace("$DEEPFAKE_API_KEY", key))
        if words[0] == "deepfake":
            words = [sys.executable, "-m", "deepfake", *words[1:]]
        elif words[0] == "python":
            words[0] = sys.executable
        printed = self.output(words)
        if made := re.search(r"\bdfk_\S+", printed):
            self._environment["DEEPFAKE_API_KEY"] = made[0]
        return printed

    def output(self, command: list[str]) -> str:
        """What a command prints, with the address that the document names."""
        done = subprocess.run(
            [word.replace(SERVED, self._address) for word in command],
            cwd=self._folder,
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{command}: exit status {done.returncode}\n{done.stderr}")
        printed = done.stdout.replace(self._address, SERVED)
        lines = re.sub(r"[ \t]+$", "", printed, flags=re.MULTILINE).rstrip("\n")
        return lines + "\n" if lines else ""


def make_folder(folder: Path) -> None:
    """Where blocks are run: the sample media, and the examples."""
    subprocess.run(
        [sys.executable, "-m", "examples.samples", str(folder / "samples")],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (folder / "examples").symlink_to(ROOT / "examples")


def main(names: list[str]) -> None:
    """Write what the blocks print now into the documents of these names, or into all."""
    for path in [ROOT / name for name in names] or DOCUMENTS:
        with tempfile.TemporaryDirectory() as name:
            text = path.read_text(encoding="utf-8")
            if "```console" in text or "```python" in text:
                make_folder(Path(name))
            made = rewrite(text, Path(name))
            if made != text:
                path.write_text(made, encoding="utf-8")
                sys.stdout.write(f"rewritten: {path.relative_to(ROOT)}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
