"""The options that several commands share, and what is made from them."""

from __future__ import annotations

import argparse
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import DeepfakeError
from ..settings import BACKENDS, PRECISIONS, DetectOptions, Settings, shipped_models_folder

if TYPE_CHECKING:
    from rich.console import Console


def engine_parser() -> argparse.ArgumentParser:
    """One flag for each setting of the engine."""
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
    group.add_argument(
        "--known",
        type=Path,
        metavar="INDEX",
        help="media that were ruled on (see deepfake known), of which copies are recognised",
    )
    group.add_argument(
        "--trusted-keys",
        type=Path,
        action="append",
        metavar="PLACE",
        help="folder or .pub.pem file of public keys whose bundles are believed too; may be "
        "repeated, and takes the place of DEEPFAKE_TRUSTED_KEYS",
    )
    group.add_argument(
        "--allow-unsigned",
        action="store_true",
        help="use bundles that no trusted key has signed, for development; reports then say so",
    )
    group.add_argument(
        "--random-crops",
        action="store_true",
        help="draw the crops of pictures by a secret of this installation, so that nobody who only "
        "asks knows them; scores then differ a little from those elsewhere",
    )
    return engine


def detection_parser() -> argparse.ArgumentParser:
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
        elif choices := option.metadata.get("choices"):
            group.add_argument(flag, choices=choices, default=option.default, help=text)
        else:
            group.add_argument(flag, type=type(option.default), default=option.default, help=text)
    return detection


def read_settings(options: argparse.Namespace) -> Settings:
    """The settings that the flags of :func:`engine_parser` give."""
    trust: dict[str, Any] = {}  # what is not given is as the environment has it
    if options.trusted_keys:
        trust["trusted_keys"] = tuple(options.trusted_keys)
    if options.allow_unsigned:
        trust["allow_unsigned"] = True
    return Settings(
        models_folder=options.models,
        backend=options.backend,
        device=options.device,
        threads=options.threads,
        precision=options.precision,
        trust_anchors=options.trust_anchors,
        face_model=options.face_model,
        known=options.known,
        random_crops=options.random_crops,
        **trust,
    )


def read_detect_options(options: argparse.Namespace) -> DetectOptions:
    """The options that the flags of :func:`detection_parser` give."""
    values = {option.name: getattr(options, option.name) for option in fields(DetectOptions)}
    if getattr(options, "save_heatmap", None):
        values["heatmap"] = True
    return DetectOptions(**values)


def make_console(*, stderr: bool = False) -> Console:
    """A terminal on which nothing is marked up but by us."""
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, markup=False, emoji=False)


def word_error(error: DeepfakeError) -> str:
    """The text of an error on one line, without what a terminal would obey."""
    from ..text import printable

    return printable(str(error), most=600)
