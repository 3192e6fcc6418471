"""ablate.recipe.recipe: loading, overriding, and back to plain values."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ablate.errors import RecipeError
from ablate.recipe.load import parse_overrides
from ablate.recipe.problems import Problem
from ablate.recipe.recipe import Recipe

Write = Callable[..., Path]
RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.yaml"))
VARIABLES = ("CASSAVA_DATA", "HAM10000_DATA", "LANDMARK_DATA", "ABLATE_WEIGHTS")


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipes_that_ship(path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in VARIABLES:
        monkeypatch.setenv(name, str(tmp_path))
    study = Recipe.load(path).study
    assert study.vary or study.variations


def test_overrides_are_what_set_is(write: Write) -> None:
    path = write()
    given = [
        "model.arch=resnet34",
        "phases.tune.lr=[1e-5, 1e-3]",
        "study.seeds=2",
        "techniques.mixup={alpha: 0.2}",
    ]
    by_set = Recipe.load(path, parse_overrides(given))
    by_hand = Recipe.load(
        path,
        {
            "model.arch": "resnet34",
            "phases.tune.lr": [1e-5, 1e-3],
            "study.seeds": 2,
            "techniques.mixup": {"alpha": 0.2},
        },
    )
    assert by_set.model_dump() == by_hand.model_dump()
    assert by_hand.phases[1].lr == [1e-5, 1e-3]


def test_an_override_that_is_wrong_names_itself(write: Write) -> None:
    with pytest.raises(RecipeError) as caught:
        Recipe.load(write(), {"size": "big"})
    assert str(caught.value) == "--set size=big: size is 'big', but must be a whole number."
    with pytest.raises(
        RecipeError, match=r"^--set study.vary=.*: study.vary.0 'mixp' is no technique; did you mean"
    ):
        Recipe.load(write(), {"study.vary": ["mixp"]})


def test_back_to_plain_values(write: Write) -> None:
    recipe = Recipe.load(write("study: {vary: [mixup, {size: [32, 48]}]}\n"), {"batch_size": 8})
    again = Recipe.from_dict(recipe.to_dict())
    assert again.model_dump() == recipe.model_dump()
    assert "model" not in recipe.to_dict()  # what was not set is left out


def test_to_dict_is_a_copy(write: Write) -> None:
    recipe = Recipe.load(write())
    recipe.to_dict()["phases"][0]["epochs"] = 99
    assert recipe.to_dict()["phases"][0]["epochs"] == 1


def test_from_dict_leaves_its_argument_alone() -> None:
    values = {"name": "a", "phases": [{"name": "p", "epochs": 1}]}
    recipe = Recipe.from_dict(values, {"phases.p.epochs": 5})
    assert values["phases"] == [{"name": "p", "epochs": 1}]
    assert recipe.phases[0].epochs == 5


class TestOverride:
    def test_leaves_the_recipe_alone_and_keeps_the_study(self, write: Write) -> None:
        recipe = Recipe.load(write("study: {vary: [{size: [32, 48]}], seeds: 3}\n"))
        changed = recipe.override({"size": 48, "phases.head.epochs": 7})
        assert (recipe.size, recipe.phases[0].epochs) == (32, 1)
        assert (changed.size, changed.phases[0].epochs) == (48, 7)
        assert changed.study == recipe.study
        assert changed.to_dict()["study"] == recipe.to_dict()["study"]
        assert recipe.override({}) is recipe

    def test_without_a_study(self, write: Write) -> None:
        changed = Recipe.load(write()).override({"size": 48})
        assert "study" not in changed.to_dict()

    def test_twice(self, write: Write) -> None:
        changed = Recipe.load(write()).override({"size": 48}).override({"batch_size": 8})
        assert (changed.size, changed.batch_size) == (48, 8)

    def test_of_the_study_is_checked(self, write: Write) -> None:
        with pytest.raises(RecipeError, match=r"^study.metric=acc: study.metric 'acc' is no metric"):
            Recipe.load(write()).override({"study.metric": "acc"})

    def test_of_the_data_is_checked_with_the_study(self, write: Write) -> None:
        recipe = Recipe.load(write("data: {split: {folds: 3}}\nstudy: {folds: [2]}\n"))
        with pytest.raises(RecipeError, match="2 is no fold; there are 0 to 1"):
            recipe.override({"data.split.folds": 2})


def test_complain_places_later_problems(write: Write) -> None:
    path = write()
    with pytest.raises(RecipeError) as caught:
        Recipe.load(path).complain([Problem(("phases", 1, "epochs"), "are too many.")])
    assert str(caught.value) == f"{path}:5: phases.tune.epochs are too many."


def test_a_file_that_cannot_be_read(write: Write) -> None:
    path = write(name="a" * 200 + ".yaml")
    with pytest.raises(RecipeError, match=r"cannot be read \(File name too long\)"):
        Recipe.load(path.with_name("a" * 300 + ".yaml"))
