"""From a recipe straight to the parts of one phase, for notebooks: no plan, no store."""

from __future__ import annotations

import os
from collections.abc import Sequence

from ablate import devices, techniques
from ablate.errors import AblateError
from ablate.recipe.problems import suggestion
from ablate.recipe.recipe import Recipe
from ablate.streams import Streams
from ablate.study import design
from ablate.study.prepare import prepare, presizes_of
from ablate.study.setting import Setting, work_out
from ablate.training.parts import Parts


def recipe_parts(recipe: Recipe, phase: str | None, on: Sequence[str], seed: int, fold: int) -> Parts:
    """The parts of a phase with some techniques on beside the baseline's.

    Raises:
        AblateError: There is no such phase, technique or fold.
    """
    known = techniques.registry()
    for name in on:
        if name not in known:
            raise AblateError(f"on: {name!r} is no technique{suggestion(name, known)}")
    levels = {name: design.Level(design.ON, on={name: {}}) for name in on}
    return setting_parts(work_out(recipe, design.Variant("notebook", levels)), phase, seed, fold)


def setting_parts(setting: Setting, phase: str | None, seed: int, fold: int) -> Parts:
    """The parts of one phase (default: the last) of a variant."""
    names = [own.name for own in setting.phases]
    if phase is not None and phase not in names:
        raise AblateError(f"phase: there is no {phase!r}{suggestion(phase, names)}")
    chosen = setting.phases[names.index(phase) if phase else -1]
    prepared = prepare(setting.recipe, presizes=presizes_of(setting.recipe, [setting]))
    if fold not in range(len(prepared.folds)):
        raise AblateError(f"fold: there is no fold {fold}; there are 0 to {len(prepared.folds) - 1}.")
    mean, std = prepared.pixels[fold]
    return Parts(
        model=setting.recipe.model,
        phase=chosen,
        on=setting.on,
        streams=Streams(seed, chosen.name, setting.salt),
        items=prepared.items,
        fold=prepared.folds[fold],
        pixel_mean=mean,
        pixel_std=std,
        device=devices.choose("auto"),
        workers=0 if prepared.in_memory else min(os.cpu_count() or 1, 8),
        presized=prepared.presized,
        jpeg=setting.recipe.data.jpeg,
        stream=setting.recipe.data.stream.shards if setting.recipe.data.stream else None,
        inactive=frozenset(
            name for name, technique in setting.on.items() if not technique.active_in(chosen.name)
        ),
    )
