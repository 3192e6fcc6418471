"""From intervals and p-values to verdicts, for all comparisons of a study together."""

from __future__ import annotations

import math

import numpy as np

SIGNIFICANCE = 0.05
VERDICTS = ("helps", "hurts", "negligible", "undecided")


def holm(p_values: np.ndarray) -> np.ndarray:
    """Holm's adjusted p-values (Scand J Stat 1979); NaN stays NaN and is not counted."""
    adjusted = np.full(len(p_values), np.nan)
    known = int((~np.isnan(p_values)).sum())
    order = np.argsort(p_values)[:known]  # NaN sorts last
    # statsmodels' multipletests gives the same, and collects all garbage each time: slow beside torch
    adjusted[order] = np.minimum(np.maximum.accumulate(p_values[order] * np.arange(known, 0, -1)), 1.0)
    return adjusted


def verdict(
    low: float,
    high: float,
    p_value: float,
    smallest_effect: float,
    higher_is_better: bool = True,
    alpha: float = SIGNIFICANCE,
) -> str:
    """`negligible`, `helps`, `hurts` or `undecided`, from an interval and a p-value; NaN decides nothing.

    An interval within ± smallest_effect is negligible, however sure its sign.
    """
    if math.isnan(low) or math.isnan(high):
        return "undecided"
    if -smallest_effect <= low and high <= smallest_effect:
        return "negligible"
    if p_value < alpha:
        return "helps" if (low + high > 0) == higher_is_better else "hurts"
    return "undecided"
