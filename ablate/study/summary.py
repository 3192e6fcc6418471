"""A plan in numbers and words: what `ablate plan` prints and `plan.json` keeps."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ablate.analysis.power import detectable_effect
from ablate.recipe.recipe import Recipe
from ablate.study.graph import Plan
from ablate.study.prepare import Prepared


def plan_numbers(recipe: Recipe, plan: Plan, prepared: Prepared) -> dict[str, Any]:
    """The plan in numbers.

    Returns:
        `trials`, `stages`, `requested_epochs`, `unique_epochs`, `merge_rate`, `detectable_effect` (a
        difference in accuracy, or None with one seed), `variants`, `seeds`, `folds`, `train_images` (of the
        first fold), `valid_images` (of all folds), `metric`, `smallest_effect`.
    """
    folds = sorted({trial.fold for trial in plan.trials})
    valid = sum(len(prepared.folds[fold].valid) for fold in folds)
    seeds = len(recipe.study.seed_list)
    return {
        "trials": len(plan.trials),
        "stages": len(plan.needed(trial.predict for trial in plan.trials)),
        "requested_epochs": plan.requested_epochs,
        "unique_epochs": plan.unique_epochs,
        "merge_rate": round(plan.merge_rate, 3),
        "detectable_effect": detectable_effect(valid, seeds),
        "variants": len({trial.variant for trial in plan.trials}),
        "seeds": seeds,
        "folds": len(folds),
        "train_images": len(prepared.folds[folds[0]].train),
        "valid_images": valid,
        "metric": recipe.study.metric,
        "smallest_effect": recipe.study.smallest_effect,
    }


def plan_file(
    recipe: Recipe, plan: Plan, prepared: Prepared, store: Path, device: str, threads: int, quick: bool
) -> str:
    """The text of `plan.json`."""
    content = {
        "schema": 1,
        "name": recipe.name,
        "quick": quick,
        "metric": recipe.study.metric,
        "smallest_effect": recipe.study.smallest_effect,
        "baseline": "baseline",
        "summary": plan_numbers(recipe, plan, prepared),
        "contrasts": [contrast.to_dict() for contrast in plan.contrasts],
        "versions": plan.versions,
        "device": device,
        "threads": threads,
        "store": str(store),
        "classes": prepared.items.classes,
        "factors": plan.factors,
        "trials": [asdict(trial) for trial in plan.trials],
        "stages": {key: asdict(stage) for key, stage in plan.stages.items()},
    }
    return json.dumps(content, indent=1)
