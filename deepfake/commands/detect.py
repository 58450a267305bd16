"""``deepfake detect``: a report for each file."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import Cancelled, DeepfakeError, ModelError, SettingsError
from ..settings import Limits
from .audit import add_audit_options, auditing
from .options import make_console, read_detect_options, read_settings, word_error

if TYPE_CHECKING:
    from ..types import Report


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
    add_audit_options(detect)
    detect.set_defaults(run=run_detect)


def run_detect(options: argparse.Namespace) -> int:
    """``deepfake detect``: a report for each path, errors on standard error."""
    from ..media.process import POOL

    POOL.prepare(memory_bytes=Limits().decode_memory_bytes)  # it starts during the next imports
    from ..detector import Detector
    from ..faults import contain_faults
    from ..media.sniff import promises_picture
    from ..progress import ctrl_c
    from ..text import display_name
    from ..types import Kind

    detection = read_detect_options(options)
    pictures = _name_pictures(options.save_heatmap, options.paths)
    status = 0
    with (
        ctrl_c() as stop,
        Detector(read_settings(options)) as detector,
        auditing(options) as log,
    ):
        if promises_picture(options.paths[0]):
            detector.engine.prepare(Kind.IMAGE, effort=detection.effort)
        if len(options.paths) > 1 and not all(map(promises_picture, options.paths)):
            detector.engine.require_effort(detection.effort)
            detector.engine.check(detector.engine.active)  # before the first is reported
        from ..show.console import FileProgress

        console = make_console(stderr=True)
        for path, picture in zip(options.paths, pictures, strict=True):
            try:
                with contain_faults(path), FileProgress(Path(path).name, console) as progress:
                    report = detector.detect(path, detection, progress=progress, cancel=stop)
            except Cancelled as error:
                raise KeyboardInterrupt from error
            except ModelError:  # no other file would fare better
                raise
            except DeepfakeError as error:
                status = 1
                if log:
                    log.append("detect", bundles=detector.engine.active, error=str(error.code))
                if options.json:
                    values = {"code": str(error.code), "message": str(error)}
                    print(json.dumps({"path": path, "error": values}), flush=True)
                print(f"deepfake: {word_error(error)}", file=sys.stderr)
                continue
            if log:
                log.append(
                    "detect",
                    media=report.media.sha256,
                    bundles=detector.engine.active,
                    verdict=str(report.verdict),
                )
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
