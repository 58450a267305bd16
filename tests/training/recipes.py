"""Recipes for tests: tables as in a TOML file, with a name and a card."""

from __future__ import annotations

from typing import Any, TypeVar

from deepfake_training.recipes import Recipe, parse

R = TypeVar("R", bound=Recipe)


def recipe(kind: type[R], settings: dict[str, Any]) -> R:
    card = dict.fromkeys(("intended", "data", "recipe", "failures"), "words")
    return parse({"name": "made-1", "slot": "made", "card": card, **settings}, kind, where="test")
