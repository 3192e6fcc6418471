"""`ablate plan`: a plan from what is already known, without torch, without reading an image."""

from __future__ import annotations

from typing import Any

from ablate import devices
from ablate.recipe.recipe import Recipe
from ablate.study.execute import available_cores
from ablate.study.plan import Plan, make_plan
from ablate.study.prepare import prepare
from ablate.study.quick import quick_recipe
from ablate.study.summary import plan_numbers


def plan_study(
    recipe: Recipe, *, quick: bool = False, device: str = "auto", threads: int | None = None
) -> tuple[dict[str, Any], Plan]:
    """The plan of a study, in numbers and whole.

    Images that have not been looked at yet leave `Plan.data_known` false: what is shared is right, but which
    stages are already stored cannot be told.
    """
    if quick:
        recipe = quick_recipe(recipe)
    prepared = prepare(recipe, quick=quick, look=False)
    chosen = recipe.study.folds or range(len(prepared.folds))
    plan = make_plan(
        recipe,
        [prepared.identities[fold] for fold in chosen],
        weights_hash=prepared.weights_hash,
        device=devices.choose(device),
        threads=threads or available_cores(),
    )
    return plan_numbers(recipe, plan, prepared), plan
