"""A plan in numbers and words: what `ablate plan` prints and `plan.json` keeps."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ablate import __version__, techniques
from ablate.analysis.names import measured
from ablate.analysis.power import detectable_effect
from ablate.recipe.recipe import Recipe
from ablate.study.design import factors, phrase
from ablate.study.estimate import Estimator
from ablate.study.graph import Plan
from ablate.study.prepare import Prepared
from ablate.study.store import Store


def plan_numbers(recipe: Recipe, plan: Plan, prepared: Prepared) -> dict[str, Any]:
    """The plan in numbers.

    Returns:
        `trials`, `stages`, `requested_epochs`, `unique_epochs`, `merge_rate`, `detectable_effect` (a
        difference in accuracy, or None with one seed), `expected` (what that assumes), `design` (in words),
        `variants`, `seeds`, `folds`, `train_images` (of the first fold), `valid_images` (of all folds),
        `metric`, `smallest_effect`, `skipped_images`, `leaking_images` (extra images that some fold must not
        train on).
    """
    folds = sorted({trial.fold for trial in plan.trials})
    valid = sum(len(prepared.folds[fold].valid) for fold in folds)
    groups, expected = prepared.items.groups, recipe.study.expected
    # images of one patient or lesion say less than as many images of others
    cases = valid if groups is None else sum(len(np.unique(groups[prepared.folds[f].valid])) for f in folds)
    seeds = len({trial.seed for trial in plan.trials})
    known = list(techniques.known(recipe.technique_sources))
    return {
        "trials": len(plan.trials),
        "stages": len(plan.needed(trial.predict for trial in plan.trials)),
        "requested_epochs": plan.requested_epochs,
        "unique_epochs": plan.unique_epochs,
        "merge_rate": round(plan.merge_rate, 3),
        "detectable_effect": detectable_effect(cases, seeds, error=expected.error, seed_sd=expected.seed_sd),
        "expected": expected.model_dump(),
        "design": phrase(recipe.study, factors(recipe.study, known)),
        "variants": len({trial.variant for trial in plan.trials}),
        "seeds": seeds,
        "folds": len(folds),
        "train_images": len(prepared.folds[folds[0]].train),
        "valid_images": valid,
        "metric": recipe.study.metric,
        "smallest_effect": recipe.study.smallest_effect,
        "skipped_images": len(prepared.skipped),
        "leaking_images": prepared.n_leaking,
    }


def left_numbers(plan: Plan, store: Store) -> dict[str, Any]:
    """What a plan still lacks in a store, in numbers. They change while a study runs, so no file keeps them.

    Returns:
        `stored_stages`, `epochs_left`, `unmeasured_stages` (of the stages that are left, those like none that
        was measured), `estimated_seconds` and `estimated_bytes` (of all the others; None where nothing was
        measured), `free_bytes` (on the store's disk).
    """
    stored = set(store.keys())
    needed = plan.needed(trial.predict for trial in plan.trials)
    missing = [plan.stages[key] for key in needed if key not in stored]
    estimates = [*map(Estimator(store), missing)]
    known = [estimate for estimate in estimates if estimate is not None]
    unknown = bool(missing) and not known
    return {
        "stored_stages": len(needed) - len(missing),
        "epochs_left": sum(stage.epochs for stage in missing),
        "unmeasured_stages": len(missing) - len(known),
        "estimated_seconds": None if unknown else round(sum(one.seconds for one in known), 1),
        "estimated_bytes": None if unknown else round(sum(one.bytes for one in known)),
        "free_bytes": _free(store.root),
    }


def _free(folder: Path) -> int:
    """The free bytes of the disk that a folder is on, or will be."""
    return shutil.disk_usage(next(path for path in (folder, *folder.parents) if path.exists())).free


def plan_file(
    recipe: Recipe,
    plan: Plan,
    prepared: Prepared,
    store: str | Path,
    device: str,
    threads: int,
    quick: bool,
    looks: Sequence[int] | None = None,
) -> str:
    """The text of `plan.json`; with `looks`, the plan has the trials that they have asked for so far."""
    content = {
        "schema": 1,
        "name": recipe.name,
        "ablate": __version__,
        "quick": quick,
        "shared": plan.shared,
        "metric": recipe.study.metric,
        "metrics": measured(recipe.study.metric, recipe.study.metrics),
        "smallest_effect": recipe.study.smallest_effect,
        "looks": None if looks is None else list(looks),
        "baseline": _reference(plan),
        "split_folds": recipe.data.split.folds,
        "summary": plan_numbers(recipe, plan, prepared),
        "contrasts": [vars(contrast) for contrast in plan.contrasts],
        "versions": plan.versions,
        "device": device,
        "threads": threads,
        "store": str(store),
        "classes": prepared.items.classes,
        "factors": plan.factors,
        "trials": [vars(trial) for trial in plan.trials],
        "stages": {key: vars(stage) for key, stage in plan.stages.items()},
    }
    return (
        "{\n" + ",\n".join(f"{json.dumps(name)}: {_lines(value)}" for name, value in content.items()) + "\n}"
    )


def _reference(plan: Plan) -> str:
    """The variant that others are seen beside: the baseline, or what a design without one begins with."""
    variants = [trial.variant for trial in plan.trials]
    return "baseline" if "baseline" in variants else variants[0]


def _lines(value: Any) -> str:
    """JSON with a line for each item: `indent` is many times slower, and plans can have 10,000s of stages."""
    if isinstance(value, dict):
        lines = (f" {json.dumps(name)}: {json.dumps(item)}" for name, item in value.items())
        return "{\n" + ",\n".join(lines) + "\n}"
    if isinstance(value, list):
        return "[\n" + ",\n".join(f" {json.dumps(item)}" for item in value) + "\n]"
    return json.dumps(value)
