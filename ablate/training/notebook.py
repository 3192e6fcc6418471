"""From a recipe straight to the parts of one phase, for notebooks: no plan, no store."""

from __future__ import annotations

import os
from collections.abc import Sequence

from ablate import devices
from ablate.data.tabular import fit_encoder
from ablate.errors import AblateError
from ablate.progress import Told
from ablate.recipe.recipe import Recipe
from ablate.streams import Streams
from ablate.study.prepare import prepare, presizes_of
from ablate.study.setting import Setting, switched_on
from ablate.training.parts import Parts


def recipe_parts(recipe: Recipe, phase: str | None, on: Sequence[str], seed: int, fold: int) -> Parts:
    """The parts of a phase with some techniques on beside the baseline's.

    Raises:
        AblateError: There is no such phase, technique or fold.
    """
    return setting_parts(switched_on(recipe, on), phase, seed, fold)


def setting_parts(setting: Setting, phase: str | None, seed: int, fold: int) -> Parts:
    """The parts of one phase (default: the last) of a variant."""
    chosen = setting.phase(phase)
    prepared = prepare(
        setting.recipe, presizes=presizes_of(setting.recipe, [setting]), progress=Told(after=2), note=print
    )
    if fold not in range(len(prepared.folds)):
        raise AblateError(f"fold: there is no fold {fold}; there are 0 to {len(prepared.folds) - 1}.")
    mean, std = prepared.pixels[fold]
    return Parts(
        model=setting.recipe.model,
        phase=chosen,
        on=setting.on,
        streams=Streams(seed, chosen.name, setting.salt),
        items=prepared.items,
        encoder=fit_encoder(setting.recipe.data, prepared.items.items, prepared.folds[fold]),
        fold=prepared.folds[fold],
        pixel_mean=mean,
        pixel_std=std,
        device=devices.choose("auto"),
        workers=0 if prepared.in_memory else min(os.cpu_count() or 1, 8),
        presized=prepared.presized,
        jpeg=setting.recipe.data.jpeg,
        stream=setting.recipe.data.stream.shards if setting.recipe.data.stream else None,
        inactive=setting.inactive(chosen.name),
    )
