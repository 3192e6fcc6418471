"""ablate.study.quick: the whole study in small, under another name and other keys."""

from __future__ import annotations

from typing import Any

from ablate.recipe.recipe import Recipe
from ablate.study.graph import FoldData
from ablate.study.plan import make_plan
from ablate.study.quick import QUICK_BATCH, QUICK_SEEDS, quick_recipe
from ablate.study.setting import switched_on

VALUES: dict[str, Any] = {
    "name": "whole",
    "size": 32,
    "phases": [
        {"name": "one", "epochs": 9, "batch_size": 4},
        {"name": "two", "epochs": 5, "batch_size": 128},
    ],
    "techniques": {"mixup": {"alpha": 0.2, "further": {"name": "late", "epochs": 50}}},
    "study": {"vary": ["mixup", "tta"], "seeds": [3, 1, 4, 1 + 4]},
}


def test_few_epochs_seeds_and_images_per_batch() -> None:
    quick = quick_recipe(Recipe.from_dict(VALUES))
    assert quick.name == "whole-quick"
    assert quick.study.seed_list == [3, 1]
    assert len(quick.study.seed_list) == QUICK_SEEDS
    assert [(phase.epochs, phase.batch_size) for phase in quick.phases] == [(1, 4), (1, QUICK_BATCH)]
    assert quick.batch_size == QUICK_BATCH
    assert quick.techniques["mixup"]["further"]["epochs"] == 1


def test_micro_batches_stay_parts_of_the_small_batches() -> None:
    phases = [
        {"name": "one", "epochs": 2, "batch_size": 128, "micro_batch": 16},
        {"name": "two", "epochs": 2},
    ]
    quick = quick_recipe(Recipe.from_dict(VALUES | {"phases": phases, "techniques": {}, "micro_batch": 32}))
    assert [phase.micro_batch for phase in switched_on(quick, []).phases] == [QUICK_BATCH, QUICK_BATCH]


def test_every_variant_is_there_and_no_key_is_the_study_s() -> None:
    recipe = Recipe.from_dict(VALUES)
    whole, quick = (make_plan(r, [FoldData(0, "a", "b")]) for r in (recipe, quick_recipe(recipe)))
    assert {trial.variant for trial in quick.trials} == {trial.variant for trial in whole.trials}
    assert not set(quick.stages) & set(whole.stages)


def test_one_fold() -> None:
    folds = VALUES | {"data": {"split": {"folds": 5}}}
    assert quick_recipe(Recipe.from_dict(folds)).study.folds == [0]
    assert quick_recipe(Recipe.from_dict(folds, {"study.folds": [3, 4]})).study.folds == [3]


def test_a_study_that_is_small_already_stays() -> None:
    recipe = Recipe.from_dict(VALUES | {"batch_size": 2, "study": {"seeds": 1}})
    quick = quick_recipe(recipe)
    assert (quick.batch_size, quick.study.seed_list) == (2, [0])


def test_factors_are_those_of_the_study() -> None:
    values = VALUES | {"study": {"vary": [{"phases.one.epochs": [9, 12]}, {"batch_size": [64, 128]}]}}
    quick = quick_recipe(Recipe.from_dict(values))
    plan = make_plan(quick, [FoldData(0, "a", "b")])
    assert len(plan.trials) == 3 * QUICK_SEEDS
