"""`--quick`: the whole study in small, to see that everything works; never a result."""

from __future__ import annotations

from typing import Any

from ablate import techniques
from ablate.recipe.recipe import Recipe

QUICK_SEEDS, QUICK_BATCH = 2, 8


def quick_recipe(recipe: Recipe) -> Recipe:
    """The recipe with one epoch a phase, small batches, few seeds and one fold, under the name `…-quick`.

    Images are cut down by `ablate.data.splits.quick_fold`.
    """
    changes: dict[str, Any] = {
        "name": f"{recipe.name}-quick",
        "study.seeds": recipe.study.seed_list[:QUICK_SEEDS],
        "batch_size": min(recipe.batch_size, QUICK_BATCH),
    }
    if recipe.micro_batch is not None:
        changes["micro_batch"] = min(recipe.micro_batch, QUICK_BATCH)
    for i, phase in enumerate(recipe.phases):
        changes[f"phases.{i}.epochs"] = 1
        for name in ("batch_size", "micro_batch"):
            own = getattr(phase, name)
            if own is not None:
                changes[f"phases.{i}.{name}"] = min(own, QUICK_BATCH)
    known = techniques.known(recipe.technique_sources)
    for name, options in recipe.techniques.items():
        for key, value in options.items():
            if isinstance(value, dict) and "epochs" in value:
                changes[f"techniques.{name}.{key}.epochs"] = 1
        for key, value in known[name].quick.items():
            changes[f"techniques.{name}.{key}"] = value
    if recipe.data.split.folds:
        changes["study.folds"] = [(recipe.study.folds or [0])[0]]
    return recipe.override(changes)
