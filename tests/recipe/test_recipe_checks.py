"""ablate.recipe.checks: phases that cannot work together, before and after techniques have edited them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ablate.errors import RecipeError
from ablate.recipe.checks import phase_problems
from ablate.recipe.recipe import Recipe
from ablate.study.graph import FoldData
from ablate.study.plan import make_plan

Write = Callable[..., Path]
Told = Callable[..., str]


def planned(path: Path) -> str:
    """What planning a recipe that loads says."""
    recipe = Recipe.load(path)
    with pytest.raises(RecipeError) as caught:
        make_plan(recipe, [FoldData(0, None, None)])
    return str(caught.value).replace(f"{path.parent}/", "")


def test_duplicate_phase_names(told: Told) -> None:
    said = told(whole="name: a\nphases:\n  - {name: head, epochs: 1}\n  - {name: head, epochs: 2}\n")
    assert said.splitlines()[0] == "r.yaml:3: phases.head.name is 'head' in two phases; names must differ."
    assert said.splitlines()[1].startswith("r.yaml:4:")


def test_rates_in_the_wrong_order(told: Told) -> None:
    said = told(whole="name: a\nphases:\n  - {name: head, epochs: 1, lr: [1e-3, 1e-5]}\n")
    assert said == "r.yaml:3: phases.head.lr gives the higher rate first; write [lowest, highest]."


def test_size_above_presize(write: Write) -> None:
    said = planned(write("presize: 16\n"))
    assert said.splitlines()[0] == (
        "r.yaml:4: phases.head has size 32 above presize 16; images are presized first, so set "
        "presize to 32 or more."
    )
    assert said.splitlines()[1].startswith("r.yaml:5: phases.tune has size 32")


def test_size_above_presize_in_a_technique(write: Write) -> None:
    text = "techniques:\n  progressive_resizing:\n    head: {size: 64, presize: 48}\n"
    text += "study: {vary: [progressive_resizing]}\n"
    assert planned(write(text)) == (
        "r.yaml:8: techniques.progressive_resizing.head has size 64 above presize 48 in "
        "baseline+progressive_resizing; images are presized first, so set presize to 64 or more."
    )


def test_a_last_phase_at_another_size(write: Write) -> None:
    said = planned(
        write("techniques: {progressive_resizing: {tune: 64}}\nstudy: {vary: [progressive_resizing]}\n")
    )
    assert said == (
        "r.yaml:2: size is 32, but the last phase, tune, trains at 64 in baseline+progressive_resizing; "
        "images are predicted at size, so write size: 64, or train tune at 32."
    )


def test_micro_batches(write: Write) -> None:
    said = planned(write("micro_batch: 128\n"))
    assert said.splitlines()[0] == (
        "r.yaml:4: phases.head has micro_batch 128 above batch_size 64; a micro batch is a part of a batch."
    )


def test_an_added_phase_needs_a_name_of_its_own(write: Write) -> None:
    said = planned(write("techniques: {mixup: {further: {name: tune, epochs: 3}}}\nstudy: {vary: [mixup]}\n"))
    assert said == "r.yaml:3: phases has two phases named 'tune' in baseline+mixup; names must differ."


def test_phases_that_work(write: Write) -> None:
    recipe = Recipe.load(write("presize: 48\nmicro_batch: 16\n"))
    phases = [
        phase.model_copy(update={"size": 32, "presize": 48, "batch_size": 64, "micro_batch": 64})
        for phase in recipe.phases
    ]
    assert phase_problems(recipe, phases, "baseline") == []


@pytest.mark.parametrize("study", ["vary: [mixup]", "design: [[mixup]]"])
def test_nothing_is_compared_without_a_validation_set(told: Told, study: str) -> None:
    said = told(f"data: {{split: {{none: true}}}}\nstudy: {{{study}}}\n")
    assert said == (
        "r.yaml:6: data.split.none leaves no validation images to compare variants on; hold some out, as in "
        "split: {random: 0.1}, or drop study.vary and study.design."
    )


def test_without_a_validation_set_the_best_epoch_goes_by_the_training_loss(write: Write, told: Told) -> None:
    more = "data: {split: {none: true}}\nkeep: best\n"
    assert told(more) == (
        "r.yaml:7: keep best goes by the validation log_loss, and data.split: {none: true} leaves no "
        "validation images; write keep_by: train_loss, or keep: last."
    )
    assert Recipe.load(write(more + "keep_by: train_loss\n")).keep == "best"
    assert Recipe.load(write(more.replace("best", "last"))).keep == "last"
