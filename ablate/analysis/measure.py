"""One contrast on one metric: the effect, how sure it is, and what the reader should know about it."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ablate.analysis import linear
from ablate.analysis.contrasts import Contrast
from ablate.analysis.crossed import Estimate, crossed_mean, mean_of
from ablate.analysis.metrics import Metric
from ablate.analysis.names import heading
from ablate.analysis.pairing import Folds, PairedPredictions

CROSSED, LINEAR, FOLDS, NONE = "seeds and images", "linear model", "folds", "none"
"""What an interval is made of."""


@dataclass(frozen=True)
class Measured:
    """An effect: for new seeds and new images (`estimate`), and for new seeds on these images (`by_seed`)."""

    estimate: Estimate
    by_seed: Estimate
    interval: str = NONE
    n_seeds: int = 0
    n_items: int = 0
    n_cases: int = 0
    notes: list[str] = field(default_factory=list)


def measure(
    paired: PairedPredictions,
    contrast: Contrast,
    metric: Metric,
    *,
    seeds: Sequence[Hashable],
    model: Sequence[Contrast] = (),
    n_folds: int | None = None,
) -> Measured:
    """The effect of a contrast on the seeds given, as far as they finished in its variants.

    Args:
        paired: The predictions.
        contrast: What is compared.
        metric: On what.
        seeds: The seeds to use; those that are not finished in all variants are left out.
        model: The contrasts of the design, by which missing trials of a larger design are bridged.
        n_folds: Of the cross-validation, of which the table may hold a part; default, those in the table.
    """
    complete = {seed: folds for seed, folds in paired.seeds(contrast.variants).items() if seed in set(seeds)}
    lost = _lost(paired, contrast, seeds, complete)
    if lost and len(contrast.variants) > 2:
        terms = [*(each for each in model if each.name != contrast.name), contrast]
        fitted = linear.fit(paired, contrast, terms, metric, seeds)
        if fitted is not None and not math.isnan(fitted.estimate.se):
            return Measured(
                fitted.estimate,
                fitted.seeds_only,
                LINEAR,
                n_seeds=len({key[1] for key in paired.trials(contrast.variants, seeds)}),
                n_items=paired.n_items(contrast.variants, seeds),
                n_cases=fitted.n_cases,
                notes=[
                    f"Trials are missing ({lost}), so this is from a linear model with seeds and folds as "
                    "blocks, as if the factors did not interact."
                ],
            )
    if not complete:
        absent = [variant for variant in contrast.variants if not paired.trials([variant], seeds)]
        why = f" ({', '.join(absent)} finished in none)" if absent else ""
        notes = [f"No seed finished in all of its variants{why}."]
        return Measured(Estimate(math.nan), Estimate(math.nan), notes=notes)
    notes = [f"Left out, since not all of its variants finished: {lost}."] if lost else []
    cases = paired.cases(contrast, metric, complete)
    sizes: dict[str, Any] = {
        "n_seeds": len(complete),
        "n_items": cases.n_items,
        "n_cases": cases.values.shape[1],
    }
    if not cases.values.size or np.isnan(cases.values).all(axis=1).any():
        notes.append(_not_defined(metric))
        return Measured(Estimate(math.nan), Estimate(math.nan), notes=notes, **sizes)
    notes += _about_predictions(paired, contrast, complete)
    if sizes["n_cases"] == 1:
        notes.append(
            "All images are of one group, so there is no telling how groups differ, and no interval."
        )
        return Measured(Estimate(float(cases.values.mean())), Estimate(math.nan), notes=notes, **sizes)
    if len(complete) == 1:
        return _one_seed(paired, contrast, metric, complete, n_folds, notes, sizes)
    estimate = crossed_mean(cases.values, cases.strata)
    return Measured(estimate, mean_of(np.nanmean(cases.values, axis=1)), CROSSED, notes=notes, **sizes)


def _one_seed(
    paired: PairedPredictions,
    contrast: Contrast,
    metric: Metric,
    complete: dict[Hashable, Folds],
    n_folds: int | None,
    notes: list[str],
    sizes: dict[str, Any],
) -> Measured:
    """The interval over the folds of a single seed, corrected for their overlap; none without folds."""
    ((seed, folds),) = complete.items()
    by_fold = paired.scores(contrast, metric, seed, folds)
    mean = Estimate(float(by_fold.mean()))
    if math.isnan(mean.mean):
        return Measured(mean, mean, notes=[*notes, _not_defined(metric)], **sizes)
    if len(folds) < 2:
        note = "One seed cannot tell the effect from the luck of the seed, so there is no interval."
        return Measured(mean, mean, notes=[*notes, note], **sizes)
    k = max(n_folds or 0, len(folds))
    note = (
        f"One seed: the interval is over {len(folds)} folds, corrected for their overlap (Nadeau and "
        "Bengio), and cannot tell the effect from the luck of the seed."
    )
    return Measured(mean_of(by_fold, 1 / (k - 1)), mean, FOLDS, notes=[*notes, note], **sizes)


def _not_defined(metric: Metric) -> str:
    return f"{heading(metric.name)} is not defined on these images: a class is missing."


def _lost(
    paired: PairedPredictions,
    contrast: Contrast,
    seeds: Sequence[Hashable],
    complete: dict[Hashable, Folds],
) -> str:
    """The seeds, or folds of them, that were asked for and not finished in all of the contrast's variants."""
    wanted, variants = set(seeds), set(contrast.variants)
    asked = [key for key in paired.asked if key[0] in variants and key[1] in wanted]
    parts = dict.fromkeys((seed, fold) for _, seed, fold in asked if fold not in complete.get(seed, ()))
    folds = len({key[2] for key in asked}) > 1
    named = [f"seed {seed}" + (f" fold {fold}" if folds else "") for seed, fold in parts]
    return ", ".join(named[:8]) + (f" and {len(named) - 8} more" if len(named) > 8 else "")


def _about_predictions(
    paired: PairedPredictions, contrast: Contrast, complete: dict[Hashable, Folds]
) -> list[str]:
    """What makes an effect empty: variants that predict alike, or one class for every image."""
    trials = [(seed, fold) for seed, folds in complete.items() for fold in folds]
    notes = []
    for variant in contrast.variants:
        if all(paired.predicted(variant, *trial).is_constant for trial in trials):
            notes.append(f"{variant} predicts one class for every image.")
    if len(contrast.variants) == 2:
        a, b = contrast.variants
        if all(paired.predicted(a, *trial).equals(paired.predicted(b, *trial)) for trial in trials):
            notes.append(
                "Both variants predict exactly the same for every image: the change changed nothing."
            )
    return notes
