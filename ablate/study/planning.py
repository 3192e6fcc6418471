"""`ablate plan`: a plan from what is already known, without torch, without reading an image."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ablate import devices
from ablate.progress import Told
from ablate.recipe.recipe import Recipe
from ablate.study.graph import Plan
from ablate.study.plan import make_plan
from ablate.study.prepare import Prepared, prepare, presizes_of
from ablate.study.quick import quick_recipe
from ablate.study.remote_store import store_at
from ablate.study.stored import out_folder, store_place
from ablate.study.study import Study
from ablate.study.summary import left_numbers, plan_numbers
from ablate.study.until_decided import choose_looks, first_trials, part, require_question, with_seeds


def available_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def plan_prepared(
    recipe: Recipe, prepared: Prepared, device: str, threads: int, *, share: bool = True
) -> Plan:
    """The plan of a study over the folds that it runs."""
    chosen = recipe.study.folds or range(len(prepared.folds))
    return make_plan(
        recipe,
        [prepared.identities[fold] for fold in chosen],
        weights_hash=prepared.weights_hash,
        device=device,
        threads=threads,
        share=share,
    )


def plan_study(
    recipe: Recipe,
    out: str | Path | None = None,
    *,
    quick: bool = False,
    device: str = "auto",
    threads: int | None = None,
    share: bool = True,
    until_decided: bool = False,
    max_seeds: int | None = None,
) -> tuple[dict[str, Any], Plan]:
    """The plan of a study as `ablate run` would begin it or go on with it, in numbers and whole.

    Images that have not been looked at yet leave `Plan.data_known` false: what is shared is right, but which
    stages are already stored cannot be told. The numbers have `cache_bytes` too, of all presized images: None
    without a cache, 0 where nothing is known. With `until_decided` the plan is the most that can be asked
    for, and the numbers have `looks` (in seeds), `least_trials` and `least_epochs` too.
    """
    looks = choose_looks(until_decided, max_seeds, quick)
    if quick:
        recipe = quick_recipe(recipe)
    if looks:
        recipe = with_seeds(recipe, looks[-1])
    prepared = prepare(recipe, quick=quick, look=False, presizes=presizes_of(recipe), progress=Told())
    threads = threads or Study(out_folder(out) / recipe.name).threads or available_cores()
    plan = plan_prepared(recipe, prepared, devices.choose_for_plan(device), threads, share=share)
    numbers = plan_numbers(recipe, plan, prepared) | left_numbers(plan, store_at(store_place(out)))
    numbers["cache_bytes"] = prepared.cache_bytes
    if looks:
        require_question(plan)
        least = part(plan, first_trials(plan, looks))
        numbers |= {"looks": looks, "least_trials": len(least.trials), "least_epochs": least.unique_epochs}
    return numbers, plan
