"""Recipes: all that a bundle is trained by, as frozen dataclasses, read from a TOML file.

A key that no recipe has is refused, so that a misspelt setting is not silently left at its default.
"""

from __future__ import annotations

import importlib
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from msgspec import inspect

from deepfake.bundle import Applicability
from deepfake.errors import SettingsError

Kind = TypeVar("Kind")
Folds = tuple[tuple[str, ...], ...]
"""The sources that each fold holds out."""

KINDS = {
    "image": ("wide.recipe", "WideRecipe"),
    "frame": ("clips.recipe", "FrameRecipe"),
    "audio": ("audio.recipe", "AudioRecipe"),
    "audio-large": ("audio.tier", "SpeechTierRecipe"),
    "face": ("face.recipe", "FaceRecipe"),
    "face-large": ("clips.faces", "FaceTierRecipe"),
    "video": ("video.recipe", "VideoRecipe"),
    "face-finder": ("finder.recipe", "FinderRecipe"),
}
"""Module and class of the recipe of each slot."""


@dataclass(frozen=True, kw_only=True)
class CardText:
    """The hand-written parts of a model card."""

    intended: str
    data: str
    recipe: str
    failures: str
    speed: str = ""


@dataclass(frozen=True, kw_only=True)
class CalibrationSettings:
    """``each_source``: see :func:`deepfake_training.calibrate.fit_calibration`."""

    each_source: bool = False


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What every recipe has. ``tried`` are lines of the card about what else was tried."""

    name: str
    slot: str
    card: CardText
    limits: Applicability
    calibration: CalibrationSettings = field(default_factory=CalibrationSettings)
    tried: tuple[str, ...] = ()


def read_recipe(path: Path) -> Recipe:
    """The recipe of a file of ``training/configs``; raises ``OSError`` where there is none and
    ``SettingsError`` naming the key that is unknown, lacks or has a wrong value.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise SettingsError(f"recipe {path.name}: is no TOML ({error})") from error
    slot = values.get("slot")
    if slot not in KINDS:
        hint = f"slot is one of {', '.join(KINDS)}"
        raise SettingsError(f"recipe {path.name}: slot {slot!r} has no recipe", hint=hint)
    module, name = KINDS[slot]
    kind: type[Recipe] = getattr(importlib.import_module(f".{module}", __package__), name)
    return parse(values, kind, where=path.name)


def parse(values: Mapping[str, Any], kind: type[Kind], *, where: str) -> Kind:
    """``values`` as a dataclass; raises ``SettingsError`` as :func:`read_recipe`."""
    for key, known in _unknown(values, inspect.type_info(kind)):
        inside, _, last = key.rpartition(".")
        nearest = get_close_matches(last, known, n=1, cutoff=0.0)[0]
        place = f"{inside}.{nearest}" if inside else nearest
        raise SettingsError(f"recipe {where}: unknown key {key}", hint=f"did you mean {place}?")
    try:
        return msgspec.convert(values, kind)
    except msgspec.ValidationError as error:
        raise SettingsError(f"recipe {where}: {error}") from error


def _unknown(value: Any, kind: inspect.Type, place: str = "") -> Iterator[tuple[str, list[str]]]:
    """The path of every key that its dataclass lacks, and the keys that this has."""
    if isinstance(kind, inspect.DataclassType) and isinstance(value, Mapping):
        fields = {field.name: field.type for field in kind.fields}
        for key, inner in value.items():
            if key not in fields:
                yield f"{place}{key}", list(fields)
            else:
                yield from _unknown(inner, fields[key], f"{place}{key}.")
    elif isinstance(kind, inspect.VarTupleType) and isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _unknown(inner, kind.item_type, f"{place.removesuffix('.')}[{number}].")
