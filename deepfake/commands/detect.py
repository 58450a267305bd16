"""``deepfake detect``: a report for each file."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

from ..errors import Cancelled, DeepfakeError, ModelError, ServiceError, SettingsError
from ..settings import Limits
from .audit import add_audit_options, auditing
from .options import make_console, read_detect_options, read_settings, word_error

if TYPE_CHECKING:
    from ..progress import Progress
    from ..types import Report

    Examine = Callable[[str, Progress], Report]
    Note = Callable[[Report | DeepfakeError], None]


def add_detect(commands: Any, parents: list[argparse.ArgumentParser]) -> None:
    """Add the command."""
    detect = commands.add_parser(
        "detect", parents=parents, help="examine files and print a report for each"
    )
    detect.add_argument("paths", nargs="+", metavar="PATH", help="files to examine")
    detect.add_argument("--json", action="store_true", help="one JSON object a line, for machines")
    detect.add_argument(
        "--save-heatmap",
        type=Path,
        metavar="PNG",
        help="write the picture and its faces, or the spectrogram of a sound, under its heat "
        "maps, or the contact sheet of a video: its most telling frames and all timelines; of "
        "several files to where-1.png, where-2.png …, numbered as the files are given",
    )
    detect.add_argument(
        "--server",
        metavar="URL",
        help="have the files examined by the service there (extra client); its key is taken from "
        "DEEPFAKE_API_KEY",
    )
    add_audit_options(detect)
    detect.set_defaults(run=run_detect)


def run_detect(options: argparse.Namespace) -> int:
    """``deepfake detect``: a report for each path, errors on standard error."""
    from ..media.process import POOL

    if options.server is None:
        POOL.prepare(memory_bytes=Limits().decode_memory_bytes)  # it starts during the next imports
    from ..faults import contain_faults
    from ..progress import ctrl_c
    from ..show.console import FileProgress
    from ..text import display_name

    pictures = _name_pictures(options.save_heatmap, options.paths)
    status, console = 0, make_console(stderr=True)
    opened = _open_detector if options.server is None else _open_client
    with ctrl_c() as stop, opened(options, stop) as (examine, note):
        for path, picture in zip(options.paths, pictures, strict=True):
            try:
                with contain_faults(path), FileProgress(Path(path).name, console) as progress:
                    report = examine(path, progress)
            except Cancelled as error:
                raise KeyboardInterrupt from error
            except (ModelError, ServiceError):  # no other file would fare better
                raise
            except DeepfakeError as error:
                status = 1
                note(error)
                if options.json:
                    values = {"code": str(error.code), "message": str(error)}
                    print(json.dumps({"path": path, "error": values}), flush=True)
                print(f"deepfake: {word_error(error)}", file=sys.stderr)
                continue
            note(report)
            _show_report(report, options)
            try:
                with contain_faults(path):
                    _save_heatmap(report, path, picture)
            except DeepfakeError as error:
                status = 1
                print(
                    f"deepfake: heat map of {display_name(path)}: {word_error(error)}",
                    file=sys.stderr,
                )
    return status


@contextmanager
def _open_detector(options: argparse.Namespace, stop: Event) -> Iterator[tuple[Examine, Note]]:
    """Examines files here, and notes in the audit log, where there is one, what came of it."""
    from ..detector import Detector
    from ..media.sniff import promises_picture
    from ..types import Kind

    detection = read_detect_options(options)
    with Detector(read_settings(options)) as detector, auditing(options) as log:

        def note(found: Report | DeepfakeError) -> None:
            active = detector.engine.active
            if log is None:
                return
            if isinstance(found, DeepfakeError):
                log.append("detect", bundles=active, error=str(found.code))
            else:
                sha256, verdict = found.media.sha256, str(found.verdict)
                log.append("detect", media=sha256, bundles=active, verdict=verdict)

        if promises_picture(options.paths[0]):
            detector.engine.prepare(Kind.IMAGE, effort=detection.effort)
        if len(options.paths) > 1 and not all(map(promises_picture, options.paths)):
            detector.engine.require_effort(detection.effort)
            detector.engine.check(detector.engine.active)  # before the first is reported
        yield (
            lambda path, progress: detector.detect(path, detection, progress=progress, cancel=stop),
            note,
        )


@contextmanager
def _open_client(options: argparse.Namespace, stop: Event) -> Iterator[tuple[Examine, Note]]:
    """Has files examined by a service, which is told their names alone, not where they lie."""
    from ..client import Client

    if options.audit is not None:
        raise SettingsError(
            "--audit: logs what is examined here, and --server has it examined elsewhere",
            hint="leave one of them out",
        )

    detection = read_detect_options(options)

    def examine(path: str, progress: Progress) -> Report:
        if stop.is_set():
            raise Cancelled("examination: stopped before its end", hint="start it again")
        return replace(client.detect(path, detection).report, path=path)

    with Client(options.server, key=os.environ.get("DEEPFAKE_API_KEY")) as client:
        yield examine, lambda found: None


def _show_report(report: Report, options: argparse.Namespace) -> None:
    if options.json:
        print(json.dumps(report.to_dict()), flush=True)
    else:
        from ..show.console import print_report

        print_report(report, make_console())


def _name_pictures(target: Path | None, paths: list[str]) -> list[Path | None]:
    """Where the heat map of each path goes: to ``where.png``, or ``where-1.png`` and so on.

    Raises ``SettingsError`` for a folder, and for a place where one of the files is.
    """
    if target is None:
        return [None] * len(paths)
    if not target.name or target.is_dir():
        raise SettingsError(f"heat map {str(target)!r}: is a folder", hint="name a PNG file in it")
    places = [target]
    if len(paths) > 1:
        digits = len(str(len(paths)))
        numbers = range(1, len(paths) + 1)
        places = [target.with_stem(f"{target.stem}-{number:0{digits}}") for number in numbers]
    files = {os.path.realpath(path) for path in paths}
    for place in places:
        if os.path.realpath(place) in files:
            raise SettingsError(
                f"heat map {str(place)!r}: is a file to examine", hint="name another"
            )
    return [*places]


def _save_heatmap(report: Report, path: str, picture: Path | None) -> None:
    if picture is None:
        return
    from ..media.opening import open_media
    from ..show.pictures import draw, write_png
    from ..text import display_name

    with open_media(path) as media:
        pixels = draw(media, report)
    if pixels is None:
        shown = display_name(path)
        print(f"deepfake: no heat map of {shown}: nothing was scored", file=sys.stderr)
    else:
        write_png(pixels, picture)
