"""The ``deepfake`` command and its subcommands, thin over ``Detector``."""

from __future__ import annotations

import argparse
import os
import sys

from ..errors import DeepfakeError, ModelError, SettingsError
from ..version import VERSION
from .audit import add_audit
from .data import add_data
from .detect import add_detect
from .evaluate import add_evaluate
from .explain import add_explain, explain
from .incident import add_incident
from .keys import add_keys
from .known import add_known
from .models import add_models, manage_models
from .options import (
    detection_parser,
    engine_parser,
    make_console,
    read_detect_options,
    read_settings,
    word_error,
)
from .privacy import add_privacy
from .redteam import add_redteam
from .scan import add_scan
from .serve import add_serve
from .study import add_study
from .train import add_train
from .training import add_calibrate, add_quantise, add_recipe
from .users import add_users
from .webhooks import add_webhooks
from .worker import add_worker

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


MAKING = ("models", "quantise", "recipe")
"""Commands whose ``ModelError`` is about what they made, not about what they were given."""


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
        print(f"deepfake: {word_error(error)}", file=sys.stderr)
        return 2
    except DeepfakeError as error:
        print(f"deepfake: {word_error(error)}", file=sys.stderr)
        return 2 if isinstance(error, ModelError) and options.command not in MAKING else 1
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        print("deepfake: stopped", file=sys.stderr)
        return 130
    return status


def run() -> None:
    """The console script. ``detect``, ``serve`` and ``worker`` end without taking the interpreter
    apart, which takes longer than examining a second picture; their decoders are ended before.
    """
    status = main()
    if sys.argv[1:2] in (["detect"], ["serve"], ["worker"]):
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
    parser.add_argument("--version", action="version", version=f"deepfake {VERSION}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    engine, detection = engine_parser(), detection_parser()
    add_detect(commands, [detection, engine])
    add_scan(commands, [detection, engine]).set_defaults(run=run_scan)

    add_serve(commands, [engine])
    add_worker(commands, [engine])
    add_keys(commands)
    add_known(commands)
    add_privacy(commands)
    add_users(commands)
    add_webhooks(commands)
    add_evaluate(commands, [engine])
    add_redteam(commands, [engine])

    add_audit(commands, [engine])
    add_incident(commands, [engine])
    add_models(commands, [engine]).set_defaults(run=run_models)
    add_calibrate(commands)
    add_quantise(commands)
    add_recipe(commands)

    doctor = commands.add_parser(
        "doctor", parents=[engine], help="what is installed, and what runs where"
    )
    doctor.set_defaults(run=run_doctor)
    add_explain(commands).set_defaults(run=run_explain)
    add_train(commands)
    add_data(commands)
    add_study(commands)
    return parser


def run_scan(options: argparse.Namespace) -> int:
    """``deepfake scan``."""
    from . import scan as scan_command

    return scan_command.run_scan(
        options,
        settings=read_settings(options),
        detection=read_detect_options(options),
        console=make_console,
    )


def run_models(options: argparse.Namespace) -> int:
    """``deepfake models``."""
    return manage_models(options, read_settings(options), make_console())


def run_doctor(options: argparse.Namespace) -> int:
    """``deepfake doctor``."""
    from .doctor import diagnose

    return diagnose(read_settings(options), make_console())


def run_explain(options: argparse.Namespace) -> int:
    """``deepfake explain``."""
    return explain(options)


if __name__ == "__main__":
    run()
