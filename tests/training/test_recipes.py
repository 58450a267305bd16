"""Recipes are read whole, or refused with the name of the key that is wrong."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest
from deepfake_training.finder.recipe import FinderRecipe
from deepfake_training.recipes import KINDS, read_recipe
from deepfake_training.wide.recipe import WideRecipe

from deepfake.errors import SettingsError

CONFIGS = Path(__file__).resolve().parents[2] / "training" / "configs"


def test_every_recipe_of_the_repository_is_read() -> None:
    recipes = {path.stem: read_recipe(path) for path in CONFIGS.glob("*.toml")}
    assert {recipe.slot for recipe in recipes.values()} == set(KINDS)
    for name, recipe in recipes.items():
        assert recipe.name == name
        assert name.startswith(recipe.slot.removesuffix("-large"))
        assert recipe.card.failures
    image, finder = recipes["image-3"], recipes["face-finder-1"]
    assert isinstance(image, WideRecipe)
    assert image.calibration.each_source
    assert image.preprocess.side_pixels == 160
    assert "image" in image.material
    assert isinstance(finder, FinderRecipe)
    assert [chosen.fit.steps for chosen in finder.rounds] == [4000, 3000, 4000]
    with pytest.raises(FrozenInstanceError):
        image.threads = 2  # type: ignore[misc]


@pytest.mark.parametrize(
    ("name", "right", "wrong", "message"),
    [
        (
            "image-3",
            "penalty =",
            "penalties =",
            r"recipe copy\.toml: unknown key head\.penalties; did you mean head\.penalty\?",
        ),
        ("frame-2", "threads =", "treads =", r"unknown key treads; did you mean threads\?"),
        (
            "face-finder-1",
            "smallest = 16.0",
            "smalest = 16.0",
            r"unknown key rounds\[1\]\.scenes\.smalest; did you mean rounds\[1\]\.scenes\.smallest",
        ),
        ("face-1", "couples = 9000", 'couples = "many"', r"got `str` - at `\$\.bank\.couples`"),
        ("audio-3", "by_band = false\n", "", "missing required field `by_band`"),
        ("image-3", 'slot = "image"', 'slot = "imag"', r"slot 'imag' has no recipe; slot is one"),
        ("image-3", "[head]", "[head", "is no TOML"),
    ],
)
def test_what_no_recipe_has_is_refused_by_name(
    name: str, right: str, wrong: str, message: str, tmp_path: Path
) -> None:
    text = (CONFIGS / f"{name}.toml").read_text(encoding="utf-8")
    assert right in text
    path = tmp_path / "copy.toml"
    path.write_text(text.replace(right, wrong, 1), encoding="utf-8")
    with pytest.raises(SettingsError, match=message):
        read_recipe(path)
