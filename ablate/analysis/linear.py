"""Contrasts of designs with missing trials: a linear model of the trials, with seeds and folds as blocks.

The model's terms are the declared contrasts themselves: a trial's metric is its seed's and fold's level plus
a multiple of each contrast's weight of its variant. Least squares makes of it one weight per trial, which is
then used on the items too. Where no trial is missing that is the contrast's own weighted mean.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from ablate.analysis.contrasts import Contrast
from ablate.analysis.crossed import Estimate
from ablate.analysis.metrics import Metric
from ablate.analysis.pairing import Key, PairedPredictions


@dataclass(frozen=True)
class Fit:
    """A contrast in a linear model: for new seeds on these items alone, and for new seeds and new items."""

    seeds_only: Estimate
    estimate: Estimate
    n_cases: int


def fit(
    paired: PairedPredictions,
    contrast: Contrast,
    model: Sequence[Contrast],
    metric: Metric,
    seeds: Sequence[Hashable],
) -> Fit | None:
    """Fits the trials of some seeds; None where that is no answer.

    It is none where the trials cannot tell the contrast from the others of the model, where a variant of the
    contrast has no trial, which the model would make up, where trials of a fold have other items than others,
    and where a fold has a single case.

    The seeds' part is the ordinary least squares variance of the trials' metrics. The items' part is the
    variance over items of what the estimate is on each, less what least squares leaves unexplained there.
    With all trials of a two-variant contrast these are the numbers of `crossed_mean`.
    """
    keys = paired.trials({variant for each in model for variant in each.variants}, seeds)
    by_fold = {
        fold: [key for key in keys if key[2] == fold] for fold in dict.fromkeys(key[2] for key in keys)
    }
    there = {key[0] for key in keys}
    if not there.issuperset(contrast.variants) or not all(map(paired.same_items, by_fold.values())):
        return None
    design = _design(keys, model)
    target = np.zeros(design.shape[1])
    weights = np.array([[each.weights.get(v, 0.0) for v in contrast.variants] for each in model])
    target[-len(model) :] = weights @ [contrast.weights[v] for v in contrast.variants]
    inverse = np.linalg.pinv(design)
    if not np.allclose(target @ inverse @ design, target, atol=1e-8):
        return None
    by_trial = target @ inverse
    scores = np.array([metric.score(paired.predicted(*key)) for key in keys])
    mean = float(by_trial @ scores)
    df = len(keys) - int(np.linalg.matrix_rank(design))
    if df < 1:
        return None
    residual = scores - design @ (inverse @ scores)
    seed_part = float(residual @ residual) / df * float(by_trial @ by_trial)
    seeds_only = Estimate(mean, seed_part, df)

    item_part = rest_part = spread = 0.0
    n_cases = 0
    for fold, own in by_fold.items():
        chosen = [i for i, key in enumerate(keys) if key[2] == fold]
        values, strata = paired.values(own, metric)
        if values.shape[1] < 2:
            return None
        part, rest, own_spread = _items(values, strata, design[chosen], by_trial[chosen])
        item_part, rest_part, spread = item_part + part, rest_part + rest, spread + own_spread
        n_cases += values.shape[1]
    between = max(item_part - rest_part, 0.0)
    df_item = max(between**2 / spread, 1.0) if between else 1.0
    estimate = Estimate(mean, seed_part, df, between, df_item, min(rest_part, seed_part))
    return Fit(seeds_only, estimate, n_cases)


def _design(keys: Sequence[Key], model: Sequence[Contrast]) -> np.ndarray:
    """A row per trial: marks of its seed and, but for the first, its fold; then each contrast's weight."""
    seeds, folds = (list(dict.fromkeys(key[at] for key in keys)) for at in (1, 2))
    return np.array(
        [
            [float(seed == each) for each in seeds]
            + [float(fold == each) for each in folds[1:]]
            + [each.weights.get(str(variant), 0.0) for each in model]
            for variant, seed, fold in keys
        ]
    )


def _items(
    values: np.ndarray, strata: np.ndarray, design: np.ndarray, by_trial: np.ndarray
) -> tuple[float, float, float]:
    """Of one fold's trials: the variance that items give, what of it is noise, and the Satterthwaite term.

    `values` (trials, cases) have each trial's metric as the mean of their row.
    """
    n = values.shape[1]
    unexplained = values - design @ (np.linalg.pinv(design) @ values)
    df = len(values) - int(np.linalg.matrix_rank(design))
    total = noise = spread = 0.0
    for stratum in np.unique(strata):
        own = strata == stratum
        size = int(own.sum())
        if size < 2:
            continue
        scale = size / n**2
        part = scale * float((by_trial @ values[:, own]).var(ddof=1))
        rest = unexplained[:, own]
        rest = rest - rest.mean(axis=1, keepdims=True)
        # nothing unexplained is known of a saturated model: its noise stays in the items' part, which is safe
        rest_ms = float((rest**2).sum()) / (df * (size - 1)) if df else 0.0
        own_noise = scale * rest_ms * float(by_trial @ by_trial)
        total, noise = total + part, noise + own_noise
        spread += part**2 / (size - 1) + (own_noise**2 / (df * (size - 1)) if df else 0.0)
    return total, noise, spread
