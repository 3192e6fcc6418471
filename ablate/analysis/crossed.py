"""The statistics of a table of seeds × cases: one mean, and how sure it is.

Seeds and cases are both random samples, crossed: every seed is scored on every case, as in a study of several
readers and many cases (Gallas et al., "One-shot estimate of MRMC variance", Acad Radiol 2006; Hillis,
Stat Med 2007). The model is value[s, i] = mean + seed[s] + case[i] + rest[s, i]. Cases may come in strata
whose sizes count as given, such as the classes in a mean of recalls: a case then deviates from its stratum's
mean.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ablate.analysis.uncertainty import Uncertainty


@dataclass(frozen=True)
class Estimate:
    """A mean, and the parts of its variance; NaN where they cannot be known.

    Attributes:
        mean: The mean itself.
        seed_part: What more seeds would shrink, known with `df_seed` degrees of freedom.
        df_seed: See there.
        item_part: What stays however many seeds there are, known with `df_item` degrees of freedom.
        df_item: See there.
        rest_part: The share of the seeds' part that more cases would shrink as well.
    """

    mean: float
    seed_part: float = math.nan
    df_seed: float = math.nan
    item_part: float = 0.0
    df_item: float = 1.0
    rest_part: float = 0.0

    @property
    def se(self) -> float:
        """The standard error of the mean."""
        return self.error.se

    @property
    def df(self) -> float:
        """Satterthwaite's degrees of freedom of the standard error."""
        return self.error.df

    @property
    def error(self) -> Uncertainty:
        """How far the mean strays from the truth."""
        return Uncertainty(self.seed_part, self.df_seed, self.item_part, self.df_item)


@dataclass(frozen=True)
class Interval:
    """A confidence interval and the two-sided p-value of the hypothesis that the mean is 0."""

    low: float = math.nan
    high: float = math.nan
    p_value: float = math.nan


@dataclass(frozen=True)
class MeanSquares:
    """The analysis of variance of a table; mean squares and degrees of freedom of cases are by stratum.

    `item_weight` is what (item − residual) is multiplied by to give the stratum's part of the variance of the
    mean: 1 / (S·N) in a full table of one stratum.
    """

    seed: float
    df_seed: int
    item: np.ndarray
    residual: np.ndarray
    df_item: np.ndarray
    df_residual: np.ndarray
    item_weight: np.ndarray


def mean_squares(table: np.ndarray, strata: np.ndarray | None = None) -> MeanSquares:
    """Two-way analysis of variance without replication of a table of shape (S seeds, N cases), S ≥ 2.

    NaN marks cases that a seed has no value for (a fold that failed). Cases are compared within blocks that
    have the same stratum and the same seeds; the blocks' sums of squares are added by stratum. A full table
    of one stratum is one block. The seeds' mean square is that of their row means. A source without degrees
    of freedom has a mean square of 0.
    """
    strata = np.zeros(table.shape[1], dtype=int) if strata is None else strata
    present = ~np.isnan(table)
    values = np.where(present, table, 0.0)
    row_size = present.sum(axis=1, keepdims=True)
    seed = float((values.sum(axis=1) / row_size[:, 0]).var(ddof=1)) * int(present.sum()) / len(table)

    stratum_of, block = _blocks(present, strata)
    n_blocks = len(stratum_of)
    size = np.bincount(block, minlength=n_blocks)
    seeds_of_item = present.sum(axis=0)
    seeds_of_block = np.zeros(n_blocks)
    seeds_of_block[block] = seeds_of_item
    item_mean = values.sum(axis=0) / seeds_of_item
    block_mean = np.bincount(block, item_mean, minlength=n_blocks) / size
    row_means = np.stack([np.bincount(block, row, minlength=n_blocks) for row in values]) / size
    rest = np.where(present, values - item_mean - row_means[:, block] + block_mean[block], 0.0)

    def by_stratum(of_block: np.ndarray) -> np.ndarray:
        return np.bincount(stratum_of, of_block)

    ss_item = by_stratum(seeds_of_block * np.bincount(block, (item_mean - block_mean[block]) ** 2))
    ss_residual = by_stratum(np.bincount(block, (rest**2).sum(axis=0)))
    df_item, df_residual = by_stratum(size - 1.0), by_stratum((seeds_of_block - 1) * (size - 1))
    weight = (present / row_size).mean(axis=0)  # of a case in the mean: 1/N in a full table
    # seeds per case, weighted by the cases' degrees of freedom: S in a full table
    seeds_per_case = _ratio(by_stratum(seeds_of_block * (size - 1)), df_item)
    return MeanSquares(
        seed=seed,
        df_seed=len(table) - 1,
        item=_ratio(ss_item, df_item),
        residual=_ratio(ss_residual, df_residual),
        df_item=df_item,
        df_residual=df_residual,
        item_weight=_ratio(np.bincount(strata, weight**2), seeds_per_case),
    )


def _blocks(present: np.ndarray, strata: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The stratum of each block, of cases with the same stratum and seeds, and the block of each case."""
    if present.all():
        return np.arange(int(strata.max()) + 1), strata
    pattern = np.unique(present, axis=1, return_inverse=True)[1].ravel()
    pairs, block = np.unique(np.stack([strata, pattern]), axis=1, return_inverse=True)
    return pairs[0], block.ravel()


def _ratio(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.divide(a, b, out=np.zeros(len(a)), where=b > 0)


def crossed_mean(table: np.ndarray, strata: np.ndarray | None = None) -> Estimate:
    """The mean over seeds and cases and its standard error for new seeds and new cases.

    `table` has shape (S, N); NaN marks missing values, the mean is that of the seeds' means. `strata` (N,)
    are 0, 1, … without a gap. For a full table of one stratum the variance of the mean is
    (MS_seed + max(MS_item − MS_residual, 0)) / (S·N): MS_seed has S − 1 degrees of freedom, the items' part
    Satterthwaite's for its terms. With strata the items' terms are sums over them. With missing values the
    seeds' part holds some variance of items too, which makes the interval wider, not narrower.

    One seed or one case has a mean and no standard error. Where seeds agree so exactly that the whole
    variance is 0 although the table varies, MS_residual, which MS_seed's expectation is never below, stands
    in for it.
    """
    seen = ~np.isnan(table).all(axis=1)
    table = table[seen]
    if table.size == 0:
        return Estimate(math.nan)
    mean = float(np.nanmean(table, axis=1).mean())
    if min(table.shape) == 1:
        return Estimate(mean)
    ms = mean_squares(table, strata)
    seed_part = ms.seed / int((~np.isnan(table)).sum())
    rest_part = float((ms.item_weight * ms.residual).sum())
    item_part = float((ms.item_weight * (ms.item - ms.residual))[ms.df_residual > 0].sum())
    # mean squares that are equal but for rounding count as equal: the degrees of freedom jump there
    rounding = 1e-12 * (seed_part + rest_part)
    if item_part <= rounding:
        variance = seed_part if seed_part > rounding else rest_part
        return Estimate(mean, variance, ms.df_seed, rest_part=min(rest_part, variance))
    spread = float(_ratio((ms.item_weight * ms.item) ** 2, ms.df_item).sum())
    spread += float(_ratio((ms.item_weight * ms.residual) ** 2, ms.df_residual).sum())
    df_item = max(item_part**2 / spread, 1.0)
    return Estimate(mean, seed_part, ms.df_seed, item_part, df_item, min(rest_part, seed_part))


def mean_of(values: np.ndarray, correlation: float = 0.0) -> Estimate:
    """The mean of one value per seed, shape (S,), and its standard error for new seeds on the same cases.

    `correlation` is the ratio of test to training images for values of the folds of a cross-validation, whose
    training images overlap: the variance of the mean is then s²·(1/k + n_test/n_train) (Nadeau & Bengio, Mach
    Learn 2003).
    """
    if len(values) < 2:
        return Estimate(float(values.mean()) if len(values) else math.nan)
    variance = float(values.var(ddof=1)) * (1 / len(values) + correlation)
    return Estimate(float(values.mean()), variance, len(values) - 1)


def t_interval(estimate: Estimate, confidence: float = 0.95) -> Interval:
    """The interval and test of an estimate; NaN throughout where the standard error is unknown.

    Student's t, see `Uncertainty`. A standard error of 0 gives the mean itself as the interval, with p = 1
    for a mean of 0 and p = 0 otherwise.
    """
    if math.isnan(estimate.se):
        return Interval()
    half = estimate.error.half_width(confidence)
    return Interval(estimate.mean - half, estimate.mean + half, estimate.error.p_value(abs(estimate.mean)))
