"""The ``deepfake`` command and its subcommands, thin over ``Detector``."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import Cancelled, DeepfakeError, MissingDependency, ModelError, SettingsError
from ..settings import BACKENDS, PRECISIONS, DetectOptions, Limits, Settings, shipped_models_folder
from .explain import add_explain, explain
from .models import add_models, manage_models
from .scan import add_scan

if TYPE_CHECKING:
    from rich.console import Console

    from ..types import Report

EXAMPLES = """\
examples:
  deepfake detect photo.jpg speech.wav clip.mp4
  deepfake detect --json photo.jpg | jq .verdict
  deepfake detect --heatmap --save-heatmap where.png photo.jpg
  deepfake scan downloads/ --output results.jsonl --csv results.csv
  deepfake serve

exit status: 0 all files examined, 1 some failed, 2 wrong usage or a bundle that is missing, was
changed or cannot be loaded, 130 stopped with Ctrl-C
"""


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit status."""
    # NumPy would start a thread for each core, for products of matrices that nothing here has.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    options = build_parser().parse_args(arguments)
    try:
        status: int = options.run(options)
        sys.stdout.flush()
    except SettingsError as error:
        print(f"deepfake: {_escape(error)}", file=sys.stderr)
        return 2
    except DeepfakeError as error:
        print(f"deepfake: {_escape(error)}", file=sys.stderr)
        return 2 if isinstance(error, ModelError) and options.command != "models" else 1
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        print("deepfake: stopped", file=sys.stderr)
        return 130
    return status


def run() -> None:
    """The console script. ``detect`` ends without taking the interpreter apart, which takes longer
    than examining a second picture; its decoders are ended before.
    """
    status = main()
    if sys.argv[1:2] == ["detect"]:
        from ..media.process import POOL

        POOL.close()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


def build_parser() -> argparse.ArgumentParser:
    """The parser of every command; its detection options come from ``DetectOptions``."""
    parser = argparse.ArgumentParser(
        prog="deepfake",
        description="Tell how likely it is that an image, a sound or a video was made or altered "
        "by a generative model, on what evidence, and whether that evidence is enough.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    engine, detection = _engine_options(), _detection_options()
    _add_detect(commands, [detection, engine])
    add_scan(commands, [detection, engine]).set_defaults(run=run_scan)

    _add_serve(commands, [engine])

    add_models(commands, [engine]).set_defaults(run=run_models)

    doctor = commands.add_parser(
        "doctor", parents=[engine], help="what is installed, and what runs where"
    )
    doctor.set_defaults(run=run_doctor)
    add_explain(commands).set_defaults(run=run_explain)
    return parser


def _engine_options() -> argparse.ArgumentParser:
    engine = argparse.ArgumentParser(add_help=False)
    group = engine.add_argument_group("engine")
    group.add_argument("--backend", choices=BACKENDS, default="auto", help="runtime (auto)")
    group.add_argument(
        "--device", default="auto", help="auto, cpu, cuda (all of them) or one, as cuda:1 (auto)"
    )
    group.add_argument(
        "--precision",
        choices=PRECISIONS,
        default=Settings.precision,
        help="auto: 8 or 16 bits where that was measured to keep the accuracy, quicker, with "
        "scores that differ a little; the report then says so (%(default)s)",
    )
    group.add_argument("--threads", type=int, default=0, help="of a CPU runtime; 0 for all cores")
    group.add_argument(
        "--models", type=Path, default=shipped_models_folder(), help="folder of bundles"
    )
    group.add_argument(
        "--trust-anchors",
        type=Path,
        metavar="PEM",
        help="file of authorities whose C2PA manifests are trusted, in place of the shipped list",
    )
    group.add_argument(
        "--face-model",
        type=Path,
        metavar="ONNX",
        help="a YuNet ONNX file of your own that finds faces in place of the shipped bundle",
    )
    return engine


def _detection_options() -> argparse.ArgumentParser:
    """One flag for each field of ``DetectOptions``."""
    detection = argparse.ArgumentParser(add_help=False)
    group = detection.add_argument_group("detection")
    for option in fields(DetectOptions):
        flag = "--" + option.name.replace("_", "-")
        text = f"{option.metadata['help']} ({option.default})"
        if isinstance(option.default, bool):
            group.add_argument(
                flag, action=argparse.BooleanOptionalAction, default=option.default, help=text
            )
        else:
            group.add_argument(flag, type=type(option.default), default=option.default, help=text)
    return detection


def _add_detect(commands: Any, parents: list[argparse.ArgumentParser]) -> None:
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
    detect.set_defaults(run=run_detect)


def _add_serve(commands: Any, parents: list[argparse.ArgumentParser]) -> None:
    serve = commands.add_parser("serve", parents=parents, help="open the web page on this machine")
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on (127.0.0.1)")
    serve.add_argument("--port", type=int, default=7860, help="port, 0 for any free one (7860)")
    serve.add_argument(
        "--public",
        action="store_true",
        help="allow a --host that other machines can reach; the page asks nobody for a password",
    )
    serve.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="one more host name under which the page answers, as behind a proxy; may be repeated",
    )
    serve.add_argument(
        "--upload-megabytes",
        type=int,
        default=4096,
        help="most disk space of all uploads together, in MiB (%(default)s)",
    )
    serve.add_argument(
        "--file-seconds",
        type=float,
        default=600.0,
        help="longest examination of one file (%(default)g)",
    )
    serve.set_defaults(run=run_serve)


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

    detection = _detect_options(options)
    pictures = _name_pictures(options.save_heatmap, options.paths)
    status = 0
    with ctrl_c() as stop, Detector(_settings(options)) as detector:
        if promises_picture(options.paths[0]):
            detector.engine.prepare(Kind.IMAGE)
        if len(options.paths) > 1 and not all(map(promises_picture, options.paths)):
            detector.engine.check(detector.engine.active)  # before the first is reported
        from ..show.console import FileProgress

        console = _console(stderr=True)
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
                if options.json:
                    values = {"code": str(error.code), "message": str(error)}
                    print(json.dumps({"path": path, "error": values}), flush=True)
                print(f"deepfake: {_escape(error)}", file=sys.stderr)
                continue
            _show_report(report, options)
            try:
                with contain_faults(path):
                    _save_heatmap(report, path, picture)
            except DeepfakeError as error:
                status = 1
                print(
                    f"deepfake: heat map of {display_name(path)}: {_escape(error)}", file=sys.stderr
                )
    return status


def _show_report(report: Report, options: argparse.Namespace) -> None:
    if options.json:
        print(json.dumps(report.to_dict()), flush=True)
    else:
        from ..show.console import print_report

        print_report(report, _console())


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


def run_scan(options: argparse.Namespace) -> int:
    """``deepfake scan``."""
    from . import scan as scan_command

    return scan_command.run_scan(
        options,
        settings=_settings(options),
        detection=_detect_options(options),
        console=_console,
    )


def run_serve(options: argparse.Namespace) -> int:
    """``deepfake serve``: the web page, until Ctrl-C."""
    try:
        page = importlib.import_module("deepfake_app")
    except ImportError as error:
        raise MissingDependency("gradio", extra="app") from error
    from ..detector import Detector

    page.check_address(options.host, options.port, public=options.public)
    settings = _settings(options)
    disk_bytes = options.upload_megabytes * 1024**2
    limits = page.PageLimits(
        disk_bytes=disk_bytes,
        upload_bytes=min(page.PageLimits.upload_bytes, disk_bytes, settings.limits.file_bytes),
        file_seconds=options.file_seconds,
    )
    with Detector(settings) as detector:
        detector.engine.check(detector.engine.active)
        detector.engine.warm()
        page.serve(
            detector,
            host=options.host,
            port=options.port,
            public=options.public,
            allowed_hosts=options.allow_host,
            limits=limits,
        )
    return 0


def run_models(options: argparse.Namespace) -> int:
    """``deepfake models list|show|verify|activate|export``."""
    return manage_models(options, _settings(options), _console())


def run_doctor(options: argparse.Namespace) -> int:
    """``deepfake doctor``."""
    from .doctor import diagnose

    return diagnose(_settings(options), _console())


def run_explain(options: argparse.Namespace) -> int:
    """``deepfake explain``."""
    return explain(options)


def _settings(options: argparse.Namespace) -> Settings:
    return Settings(
        models_folder=options.models,
        backend=options.backend,
        device=options.device,
        threads=options.threads,
        precision=options.precision,
        trust_anchors=options.trust_anchors,
        face_model=options.face_model,
    )


def _detect_options(options: argparse.Namespace) -> DetectOptions:
    values = {option.name: getattr(options, option.name) for option in fields(DetectOptions)}
    if getattr(options, "save_heatmap", None):
        values["heatmap"] = True
    return DetectOptions(**values)


def _console(*, stderr: bool = False) -> Console:
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, markup=False, emoji=False)


def _escape(error: DeepfakeError) -> str:
    from ..text import printable

    return printable(str(error), most=600)


if __name__ == "__main__":
    run()
