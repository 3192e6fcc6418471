"""The statistics of a table of seeds × items: one mean, and how sure it is.

Seeds and items are both random samples, crossed: every seed is scored on every item, as in a study of several
readers and many cases (Gallas et al., "One-shot estimate of MRMC variance", Acad Radiol 2006; Hillis,
Stat Med 2007). The model is value[s, i] = mean + seed[s] + item[i] + rest[s, i].
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats


@dataclass(frozen=True)
class Estimate:
    """A mean, its standard error, and the degrees of freedom of that; NaN where they cannot be known."""

    mean: float
    se: float
    df: float


@dataclass(frozen=True)
class Interval:
    """A confidence interval and the two-sided p-value of the hypothesis that the mean is 0."""

    low: float
    high: float
    p_value: float


@dataclass(frozen=True)
class MeanSquares:
    """The analysis of variance of a table: a mean square and its degrees of freedom for each source.

    `item_size` is the number of seeds per item, weighted by the items' degrees of freedom: S in a full table.
    """

    seed: float
    item: float
    residual: float
    df_seed: int
    df_item: int
    df_residual: int
    item_size: float


def mean_squares(table: np.ndarray) -> MeanSquares:
    """Two-way analysis of variance without replication of a table of shape (S seeds, N items), S ≥ 2.

    NaN marks items that a seed has no value for (a fold that failed). Items are then compared within groups
    that have the same seeds, and the groups' sums of squares are added; a full table is one group. The seeds'
    mean square is that of their row means. A source without degrees of freedom has a mean square of 0.
    """
    present = ~np.isnan(table)
    row_variance = float(np.nanmean(table, axis=1).var(ddof=1))
    ss_item = ss_residual = size = 0.0
    df_item = df_residual = 0
    patterns, group = np.unique(present, axis=1, return_inverse=True)
    for g, pattern in enumerate(patterns.T):
        block = table[pattern][:, group.ravel() == g]
        s, n = block.shape
        item_means, seed_means, mean = block.mean(axis=0), block.mean(axis=1, keepdims=True), block.mean()
        ss_item += s * float(((item_means - mean) ** 2).sum())
        ss_residual += float(((block - item_means - seed_means + mean) ** 2).sum())
        df_item += n - 1
        df_residual += (s - 1) * (n - 1)
        size += s * (n - 1)
    return MeanSquares(
        seed=row_variance * int(present.sum()) / len(table),
        item=ss_item / df_item if df_item else 0.0,
        residual=ss_residual / df_residual if df_residual else 0.0,
        df_seed=len(table) - 1,
        df_item=df_item,
        df_residual=df_residual,
        item_size=size / df_item if df_item else float(len(table)),
    )


def crossed_mean(table: np.ndarray) -> Estimate:
    """The mean over seeds and items and its standard error for new seeds and new items.

    `table` has shape (S, N); NaN marks missing values, the mean is that of the seeds' means. For a full table
    the variance of the mean is (MS_seed + max(MS_item − MS_residual, 0)) / (S·N), its degrees of freedom are
    Satterthwaite's (Biometrics Bulletin 1946) for the terms that are in it, and at least 1. With missing
    values the seeds' part holds some variance of items too, which makes the interval wider, not narrower.

    One seed or one item has a mean and no standard error. Where seeds agree so exactly that the formula gives
    0 although the table varies, MS_residual, which MS_seed's expectation is never below, stands in for it.
    """
    table = table[~np.isnan(table).all(axis=1)]
    if len(table) == 0:
        return Estimate(math.nan, math.nan, math.nan)
    mean = float(np.nanmean(table, axis=1).mean())
    if min(table.shape) == 1:
        return Estimate(mean, math.nan, math.nan)
    ms = mean_squares(table)
    present = ~np.isnan(table)
    seed_part = ms.seed / int(present.sum())
    # an item's weight in the mean: 1/N in a full table
    item_weight = (present / present.sum(axis=1, keepdims=True)).mean(axis=0)
    per_square = float((item_weight**2).sum()) / ms.item_size
    item_part = per_square * (ms.item - ms.residual) if ms.df_residual else 0.0
    variance = seed_part + max(item_part, 0.0)
    residual_part = per_square * ms.residual
    # mean squares that are equal but for rounding count as equal: the degrees of freedom jump there
    rounding = 1e-12 * (seed_part + residual_part)
    if variance <= rounding:
        return Estimate(mean, math.sqrt(residual_part), ms.df_seed)
    if item_part <= rounding:
        return Estimate(mean, math.sqrt(variance), ms.df_seed)
    spread = seed_part**2 / ms.df_seed
    spread += (per_square * ms.item) ** 2 / ms.df_item + residual_part**2 / ms.df_residual
    return Estimate(mean, math.sqrt(variance), max(variance**2 / spread, 1.0))


def seed_mean(values: np.ndarray) -> Estimate:
    """The mean of one value per seed, shape (S,), and its standard error for new seeds on the same items."""
    if len(values) == 0:
        return Estimate(math.nan, math.nan, math.nan)
    mean = float(values.mean())
    if len(values) == 1:
        return Estimate(mean, math.nan, math.nan)
    return Estimate(mean, float(values.std(ddof=1)) / math.sqrt(len(values)), len(values) - 1)


def t_interval(estimate: Estimate, confidence: float = 0.95) -> Interval:
    """Student's t interval and test of an estimate; NaN throughout where the standard error is unknown.

    A standard error of 0 gives the mean itself as the interval, with p = 1 for a mean of 0 and p = 0
    otherwise.
    """
    if math.isnan(estimate.se):
        return Interval(math.nan, math.nan, math.nan)
    if estimate.se == 0:
        return Interval(estimate.mean, estimate.mean, 1.0 if estimate.mean == 0 else 0.0)
    half = float(stats.t.ppf((1 + confidence) / 2, estimate.df)) * estimate.se
    p_value = 2 * float(stats.t.sf(abs(estimate.mean) / estimate.se, estimate.df))
    return Interval(estimate.mean - half, estimate.mean + half, p_value)
