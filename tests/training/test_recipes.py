"""Recipes are read whole, or refused with the name of the key that is wrong."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest
from deepfake_training.finder.recipe import FinderRecipe
from deepfake_training.image.recipe import ImageRecipe
from deepfake_training.recipes import KINDS, read_recipe

from deepfake.errors import SettingsError

CONFIGS = Path(__file__).resolve().parents[2] / "training" / "configs"


def test_every_recipe_of_the_repository_is_read() -> None:
    recipes = {path.stem: read_recipe(path) for path in CONFIGS.glob("*.toml")}
    assert {recipe.kind or recipe.slot for recipe in recipes.values()} == set(KINDS)
    for name, recipe in recipes.items():
        assert recipe.name == name
        assert name.startswith(recipe.slot)
        assert recipe.card.failures
    image, finder = recipes["image-2"], recipes["face-finder-1"]
    assert isinstance(image, ImageRecipe)
    assert image.calibration.each_source
    assert image.network.trunk.stages == 7
    assert image.folds[0][0] == "imagenet_sample"
    assert isinstance(finder, FinderRecipe)
    assert [chosen.fit.steps for chosen in finder.rounds] == [4000, 3000, 4000]
    with pytest.raises(FrozenInstanceError):
        image.threads = 2  # type: ignore[misc]


@pytest.mark.parametrize(
    ("name", "right", "wrong", "message"),
    [
        (
            "image-2",
            "epochs = 8",
            "epoch = 8",
            r"recipe copy\.toml: unknown key heads\.epoch; did you mean heads\.epochs\?",
        ),
        ("frame-1", "threads =", "treads =", r"unknown key treads; did you mean threads\?"),
        (
            "face-finder-1",
            "smallest = 16.0",
            "smalest = 16.0",
            r"unknown key rounds\[1\]\.scenes\.smalest; did you mean rounds\[1\]\.scenes\.smallest",
        ),
        ("image-2", "couples = 20000", 'couples = "many"', r"got `str` - at `\$\.bank\.couples`"),
        ("audio-2", "seed = 22\n", "", "missing required field `seed`"),
        ("image-2", 'slot = "image"', 'slot = "imag"', r"slot 'imag' has no recipe; slot is one"),
        ("image-2", "[bank]", "[bank", "is no TOML"),
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
