"""The table of effects: every contrast on every metric, with intervals and a verdict."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from ablate.analysis.contrasts import Contrast, against_baseline
from ablate.analysis.crossed import crossed_mean, seed_mean, t_interval
from ablate.analysis.metrics import Metric, find_metric, require_columns
from ablate.analysis.names import METRIC_UNITS
from ablate.analysis.pairing import PairedPredictions

COLUMNS = [
    *(
        "factor",
        "level",
        "contrast",
        "metric",
        "n_seeds",
        "effect",
        "ci_low",
        "ci_high",
        "p_value",
        "p_adjusted",
    ),
    *("verdict", "seed_ci_low", "seed_ci_high", "primary"),
]
SIGNIFICANCE = 0.05


def effects(
    trials: pd.DataFrame,
    predictions: pd.DataFrame,
    *,
    contrasts: Sequence[Contrast] | None = None,
    baseline: str = "baseline",
    metrics: Sequence[str] = ("accuracy", "balanced_accuracy", "log_loss"),
    metric: str = "accuracy",
    smallest_effect: float = 0.005,
    confidence: float = 0.95,
) -> pd.DataFrame:
    """A row per contrast and metric, with the columns of `effects.csv` in their order.

    `trials` needs `variant, seed`; `predictions` needs `variant, seed, item, target, pred` and, for log loss,
    `p_0 … p_{K-1}`; `fold`, `status` and `split` are used where they are. Without `contrasts`, each variant
    is compared with the baseline. Only the seeds and folds count that have finished (`status` is `ok`) in all
    variants of a contrast.

    `effect` is the mean over seeds of the difference in the metric, in the metric's unit (accuracy: a share,
    0.01 is a point), folds pooled. `ci_*` and `p_value` are about new images and new seeds: crossed random
    effects of seeds and items (see `crossed`). `seed_ci_*` is about new seeds on these images: the paired t
    interval. `p_adjusted` is Holm's over the primary contrasts on `metric`, the study's. One seed gives an
    effect, no interval. `smallest_effect` is in the unit of `metric` and used for all metrics in that unit.

    Raises AblateError for an unknown metric or baseline, missing columns, NaN predictions of a finished
    trial, and items that do not match between the variants of a contrast.
    """
    require_columns(trials, ["variant", "seed"], "trials")
    chosen = [find_metric(name) for name in dict.fromkeys([*metrics, metric])]
    if contrasts is None:
        contrasts = against_baseline(list(trials["variant"]), baseline)
    paired = PairedPredictions(trials, predictions)
    rows = [
        _measure(paired, contrast, each, confidence) | {"primary": contrast.primary and each.name == metric}
        for contrast in contrasts
        for each in chosen
    ]
    frame = pd.DataFrame(rows, columns=COLUMNS).astype({"primary": bool, "n_seeds": int})
    frame["p_adjusted"] = holm(frame["p_value"].where(frame["primary"]).to_numpy(dtype=float))
    frame["verdict"] = [
        verdict(
            row["ci_low"],
            row["ci_high"],
            row["p_adjusted"] if row["primary"] else row["p_value"],
            smallest_effect if METRIC_UNITS[row["metric"]] == METRIC_UNITS[metric] else 0.0,
            find_metric(row["metric"]).higher_is_better,
        )
        for row in frame.to_dict("records")
    ]
    return frame.astype({"verdict": str})


def _measure(
    paired: PairedPredictions, contrast: Contrast, metric: Metric, confidence: float
) -> dict[str, object]:
    table = paired.table(contrast, metric)
    estimate = crossed_mean(table)
    interval = t_interval(estimate, confidence)
    by_seed = t_interval(seed_mean(np.nanmean(table, axis=1) if table.size else np.empty(0)), confidence)
    return {
        "factor": contrast.factor,
        "level": contrast.level,
        "contrast": contrast.name,
        "metric": metric.name,
        "n_seeds": len(table),
        "effect": estimate.mean,
        "ci_low": interval.low,
        "ci_high": interval.high,
        "p_value": interval.p_value,
        "seed_ci_low": by_seed.low,
        "seed_ci_high": by_seed.high,
    }


def holm(p_values: np.ndarray) -> np.ndarray:
    """Holm's adjusted p-values (Scand J Stat 1979); NaN stays NaN and is not counted."""
    adjusted = np.full(len(p_values), np.nan)
    known = int((~np.isnan(p_values)).sum())
    order = np.argsort(p_values)[:known]  # NaN sorts last
    # statsmodels' multipletests gives the same, and collects all garbage each time: slow beside torch
    adjusted[order] = np.minimum(np.maximum.accumulate(p_values[order] * np.arange(known, 0, -1)), 1.0)
    return adjusted


def verdict(low: float, high: float, p_value: float, smallest_effect: float, higher_is_better: bool) -> str:
    """`negligible`, `helps`, `hurts` or `undecided`, from an interval and a p-value; NaN decides nothing.

    An interval within ± smallest_effect is negligible, however sure its sign.
    """
    if math.isnan(low) or math.isnan(high):
        return "undecided"
    if -smallest_effect <= low and high <= smallest_effect:
        return "negligible"
    if p_value < SIGNIFICANCE:
        return "helps" if (low + high > 0) == higher_is_better else "hurts"
    return "undecided"
