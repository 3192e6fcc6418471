"""The detectable effect against statsmodels, against simulation, and in its limits."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.power import TTestPower

from ablate.analysis.crossed import crossed_mean, t_interval
from ablate.analysis.power import detectable_effect


@pytest.mark.parametrize(
    ("seeds", "power", "alpha"),
    [(3, 0.8, 0.05), (5, 0.8, 0.05), (5, 0.9, 0.1), (12, 0.95, 0.01)],
)
def test_without_item_noise_it_is_the_paired_t_test_of_statsmodels(seeds: int, power: float, alpha: float):
    found = detectable_effect(1000, seeds, error=0.0, seed_sd=0.001, power=power, alpha=alpha)
    assert found is not None
    reached = TTestPower().power(found / (np.sqrt(2) * 0.001), seeds, alpha, alternative="two-sided")
    assert reached == pytest.approx(power, abs=1e-6)


@pytest.mark.parametrize(
    ("df", "alpha", "noncentrality"), [(1, 0.01, 124.8), (2, 0.01, 18.0), (4, 0.05, 3.5)]
)
def test_the_power_is_that_of_the_noncentral_t(df: int, alpha: float, noncentrality: float):
    critical = stats.t.isf(alpha / 2, df)
    reached = stats.nct.sf(critical, df, noncentrality) + stats.nct.cdf(-critical, df, noncentrality)
    found = detectable_effect(1000, df + 1, error=0.0, seed_sd=0.001, power=float(reached), alpha=alpha)
    assert found == pytest.approx(noncentrality * 0.001 * np.sqrt(2 / (df + 1)), rel=1e-4)


@pytest.mark.parametrize("power", [0.85, 0.9, 0.95, 0.99])
def test_large_noncentralities_are_right_where_scipys_nctdtr_is_not_a_number(power: float):
    found = detectable_effect(1000, 3, error=0.0, seed_sd=0.001, power=power, alpha=0.01)
    assert found is not None
    rng = np.random.default_rng(1)
    t = (rng.normal(size=200_000) + found / (0.001 * np.sqrt(2 / 3))) / np.sqrt(rng.chisquare(2, 200_000) / 2)
    assert np.mean(np.abs(t) > stats.t.isf(0.005, 2)) == pytest.approx(power, abs=0.005)


def test_without_seed_noise_and_many_seeds_the_images_alone_count():
    found = detectable_effect(1000, 10**9, error=0.1, seed_sd=0.0, shared=0.8)
    assert found is not None
    assert TTestPower().power(found / np.sqrt(0.2 * 0.09), 1000, 0.05) == pytest.approx(0.8, abs=1e-6)


def test_more_seeds_and_images_detect_smaller_effects_and_noise_larger_ones():
    def detectable(items: int, seeds: int, **options: float) -> float:
        found = detectable_effect(items, seeds, **options)
        assert found is not None
        return found

    for items, seeds in itertools.product((100, 300, 1000), (5, 10, 20)):
        here = detectable(items, seeds)
        assert detectable(2 * items, seeds) < here
        assert detectable(items, seeds + 1) < here
        assert detectable(items, seeds, error=0.3) > here
        assert detectable(items, seeds, seed_sd=0.02) > here
        assert detectable(items, seeds, shared=0.5) > here
        assert detectable(items, seeds, power=0.9) > here


def test_a_simulated_study_of_that_effect_is_found_as_often_as_asked():
    items, seeds, error, seed_sd = 400, 5, 0.1, 0.01
    effect = detectable_effect(items, seeds, error=error, seed_sd=seed_sd)
    assert effect is not None
    rng = np.random.default_rng(0)
    hit = error * (1 - error)
    found = 0
    for _ in range(1000):
        table = effect + rng.normal(0, np.sqrt(2) * seed_sd, (seeds, 1))
        table = table + rng.normal(0, np.sqrt(0.2 * hit), items) + rng.normal(0, np.sqrt(hit), (seeds, items))
        found += t_interval(crossed_mean(table)).p_value < 0.05
    assert found / 1000 == pytest.approx(0.8, abs=0.06)


def test_the_cassava_walk_through_cannot_see_what_it_reports():
    # differences of 0.2 to 0.5 points on 4,280 images, here even with five seeds
    found = detectable_effect(4280, 5, error=0.12)
    assert found is not None
    assert 0.005 < found < 0.03


@pytest.mark.parametrize(("items", "seeds"), [(1000, 1), (1000, 0), (1, 5), (0, 5)])
def test_too_few_seeds_or_items_detect_nothing(items: int, seeds: int):
    assert detectable_effect(items, seeds) is None


def test_more_than_a_hundred_points_cannot_be_detected():
    assert detectable_effect(5, 2, error=0.5) is None


def test_no_noise_at_all_detects_everything():
    assert detectable_effect(100, 3, error=0.0, seed_sd=0.0) == 0.0
