"""The crossed analysis against statsmodels and scipy, a worked example, and simulated coverage."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats
from statsmodels.api import stats as sm_stats
from statsmodels.formula.api import ols

from ablate.analysis.crossed import Estimate, crossed_mean, mean_of, mean_squares, t_interval

TABLES = arrays(
    float, st.tuples(st.integers(2, 5), st.integers(2, 12)), elements=st.integers(-3, 3).map(float)
)


def draw(rng: np.random.Generator, seeds: int, items: int, sd: tuple[float, float, float]) -> np.ndarray:
    """A table with standard deviations of seeds, items and rest, and a mean of 0."""
    table = rng.normal(0, sd[0], (seeds, 1)) + rng.normal(0, sd[1], (1, items))
    return table + rng.normal(0, sd[2], (seeds, items))


def test_the_mean_squares_are_those_of_statsmodels():
    table = draw(np.random.default_rng(1), 4, 9, (1.0, 0.5, 0.7))
    long = pd.DataFrame(table).melt(ignore_index=False, var_name="item").rename_axis("seed").reset_index()
    anova = sm_stats.anova_lm(ols("value ~ C(seed) + C(item)", long).fit())
    found = mean_squares(table)
    expected = anova["mean_sq"].to_numpy()
    np.testing.assert_allclose([found.seed, *found.item, *found.residual], expected, rtol=1e-10)
    assert [found.df_seed, *found.df_item, *found.df_residual] == anova["df"].tolist() == [3, 8, 24]


def test_a_worked_example_by_hand():
    # rows' means 2, 4, columns' means 2, 3, 4, residuals ±1, 0, ∓1: SS 6, 4, 4
    table = np.array([[2.0, 2.0, 2.0], [2.0, 4.0, 6.0]])
    ms = mean_squares(table)
    assert (ms.seed, ms.item.item(), ms.residual.item()) == pytest.approx((6.0, 2.0, 2.0))
    found = crossed_mean(table)  # the items' part is 0: variance 6 / (2·3) with one degree of freedom
    assert (found.mean, found.se, found.df) == pytest.approx((3.0, 1.0, 1.0))


def test_variance_and_satterthwaite_when_all_parts_count():
    table = draw(np.random.default_rng(2), 5, 40, (0.3, 1.0, 0.5))
    ms = mean_squares(table)
    assert ms.item > ms.residual
    total = ms.seed + ms.item - ms.residual
    found = crossed_mean(table)
    assert found.se**2 == pytest.approx(total / 200, rel=1e-10)
    df = total**2 / (ms.seed**2 / 4 + ms.item**2 / 39 + ms.residual**2 / 156)
    assert found.df == pytest.approx(df, rel=1e-10)


def test_without_item_variance_it_is_the_t_test_over_seeds():
    table = np.repeat(np.array([[0.1], [0.3], [0.2], [-0.1]]), 7, axis=1)
    interval = t_interval(crossed_mean(table))
    expected: Any = stats.ttest_1samp(table[:, 0], 0)
    assert interval.p_value == pytest.approx(expected.pvalue, abs=1e-10)
    low_high = expected.confidence_interval(0.95)
    assert (interval.low, interval.high) == pytest.approx((low_high.low, low_high.high), abs=1e-10)


@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_the_seed_interval_is_scipys(confidence: float):
    values = np.array([0.012, -0.004, 0.009, 0.02, 0.003])
    expected: Any = stats.ttest_1samp(values, 0)
    interval = t_interval(mean_of(values), confidence)
    both = expected.confidence_interval(confidence)
    assert (interval.low, interval.high, interval.p_value) == pytest.approx(
        (both.low, both.high, expected.pvalue)
    )


def test_one_seed_or_one_item_gives_a_mean_and_no_interval():
    for table in (np.array([[1.0, 0.0, 1.0, 0.0]]), np.array([[0.0], [1.0]])):
        found = crossed_mean(table)
        assert found.mean == 0.5
        assert math.isnan(found.se)
        assert math.isnan(t_interval(found).low)
    assert math.isnan(mean_of(np.array([0.3])).se)
    assert math.isnan(crossed_mean(np.empty((0, 0))).mean)
    assert math.isnan(mean_of(np.empty(0)).mean)


def test_constant_tables_have_an_interval_of_no_width():
    zero = t_interval(crossed_mean(np.zeros((3, 5))))
    assert (zero.low, zero.high, zero.p_value) == (0.0, 0.0, 1.0)
    one = t_interval(crossed_mean(np.ones((3, 5))))
    assert (one.low, one.high, one.p_value) == (1.0, 1.0, 0.0)


def test_seeds_that_agree_by_chance_are_not_taken_for_certainty():
    # every seed gains two items of six, each time others: the seeds' mean square is 0, the formula too
    table = np.array([[1.0, 1, 0, 0, 0, 0], [0, 0, 1, 1, 0, 0], [0, 0, 0, 0, 1, 1]])
    ms = mean_squares(table)
    assert ms.seed == pytest.approx(0)
    assert ms.item.item() == pytest.approx(0)
    found = crossed_mean(table)
    assert found.se == pytest.approx(math.sqrt(ms.residual.item() / 18))
    assert found.df == 2


def test_equal_mean_squares_are_equal_whatever_the_rounding():
    rng = np.random.default_rng(0)
    table = np.array([[0.0, 0, 0], [0, 0, 0], [0, 0, 1]])  # all three mean squares are 1/9
    expected = crossed_mean(table)
    for _ in range(20):
        found = crossed_mean(table[rng.permutation(3)][:, rng.permutation(3)] / 3)
        assert (found.se * 3, found.df) == pytest.approx((expected.se, expected.df))


@settings(max_examples=60, deadline=None)
@given(TABLES, st.randoms(use_true_random=False))
def test_order_does_not_matter_and_a_flipped_sign_mirrors_the_interval(table: np.ndarray, random):
    found = crossed_mean(table)
    rows, columns = (random.sample(range(n), n) for n in table.shape)
    shuffled = crossed_mean(table[rows][:, columns])
    flipped = crossed_mean(-table)
    assert (shuffled.mean, shuffled.se) == pytest.approx((found.mean, found.se), abs=1e-9)
    assert shuffled.df == pytest.approx(found.df, rel=1e-6)
    assert (flipped.mean, flipped.se) == pytest.approx((-found.mean, found.se), abs=1e-12)
    forward, mirrored = t_interval(found), t_interval(flipped)
    assert (mirrored.low, mirrored.high) == pytest.approx((-forward.high, -forward.low))
    assert mirrored.p_value == pytest.approx(forward.p_value)


def coverage(seeds: int, items: int, sd: tuple[float, float, float], holes: bool = False) -> float:
    """The share of 600 drawn studies whose 95% interval holds the true mean, 0."""
    rng = np.random.default_rng(7)
    hits = 0
    for _ in range(600):
        table = draw(rng, seeds, items, sd)
        if holes:  # the first seed lost its last fold of five
            table[0, -items // 5 :] = np.nan
        interval = t_interval(crossed_mean(table))
        hits += interval.low <= 0 <= interval.high
    return hits / 600


@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize("sd", [(0.05, 0.1, 0.5), (0.0, 0.5, 0.5), (0.2, 0.0, 0.3)])
def test_intervals_cover_new_seeds_and_items(seeds: int, sd: tuple[float, float, float]):
    assert 0.92 <= coverage(seeds, 250, sd) <= 0.985


def test_seeds_alone_would_not_cover_new_items():
    rng = np.random.default_rng(3)
    tables = [draw(rng, 5, 250, (0.0, 0.5, 0.1)) for _ in range(200)]
    intervals = [t_interval(mean_of(table.mean(axis=1))) for table in tables]
    assert np.mean([each.low <= 0 <= each.high for each in intervals]) < 0.6


def test_missing_folds_keep_the_coverage_and_use_what_is_there():
    assert 0.92 <= coverage(4, 250, (0.05, 0.3, 0.5), holes=True) <= 0.985
    table = draw(np.random.default_rng(5), 3, 10, (1.0, 1.0, 1.0))
    table[0, 5:] = np.nan
    found = crossed_mean(table)
    assert found.mean == pytest.approx(np.mean([table[0, :5].mean(), table[1].mean(), table[2].mean()]))
    ms = mean_squares(table)
    assert (ms.df_seed, ms.df_item.item(), ms.df_residual.item()) == (2, 8, 12)
    # of ten items five have two seeds and five three: 2.5 on average; weights 1/10 + 2·1/15 … of each half
    weights = np.array([1 / 5 / 3 + 2 / 10 / 3] * 5 + [2 / 10 / 3] * 5)
    assert ms.item_weight.item() == pytest.approx((weights**2).sum() / 2.5)


def test_seeds_on_items_of_their_own_are_compared_by_their_means():
    # items cannot be told from seeds, so their means say it all
    table = np.array([[1.0, 2.0, np.nan, np.nan], [np.nan, np.nan, 4.0, 6.0]])
    found = crossed_mean(table)
    expected = mean_of(np.array([1.5, 5.0]))
    assert (found.mean, found.se, found.df) == pytest.approx((expected.mean, expected.se, expected.df))


def test_degrees_of_freedom_never_fall_below_one():
    rng = np.random.default_rng(0)
    found = [crossed_mean(draw(rng, 2, 20, (0.0, 0.1, 1.0))) for _ in range(300)]
    assert min(each.df for each in found) == 1.0


def test_t_interval_of_a_known_estimate():
    interval = t_interval(Estimate(2.0, 1.0, 10))
    assert (interval.low, interval.high) == pytest.approx((2 - 2.2281389, 2 + 2.2281389))
    assert interval.p_value == pytest.approx(0.0733880)


def test_students_own_example():
    # Student, Biometrika 1908: additional hours of sleep by two drugs, ten patients, the differences
    hours = np.array([1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4])
    found, interval = mean_of(hours), t_interval(mean_of(hours))
    assert found.mean / found.se == pytest.approx(4.0621, abs=1e-4)
    assert interval.p_value == pytest.approx(0.002833, abs=1e-6)
    assert (interval.low, interval.high) == pytest.approx((0.7001142, 2.4598858), abs=1e-7)
