"""Looks against published constants, Monte Carlo simulation and t statistics of few seeds."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.stats import norm, ttest_1samp

from ablate.analysis.looks import boundaries, first_crossings, looks_up_to, nominal_levels, sequential_p
from ablate.errors import AblateError

LOOKS = (3, 5, 8, 12)


@pytest.mark.parametrize(
    ("max_seeds", "looks"),
    [
        (3, (3,)),
        (4, (4,)),
        (5, (3, 5)),
        (6, (3, 6)),
        (8, (3, 5, 8)),
        (9, (3, 5, 9)),
        (10, (3, 5, 8, 10)),
        (12, LOOKS),
        (13, (3, 5, 8, 13)),
        (23, (3, 5, 8, 12, 17, 23)),
        (25, (3, 5, 8, 12, 17, 23, 25)),
    ],
)
def test_looks_end_at_the_most_seeds_and_no_last_step_is_a_single_seed(max_seeds, looks):
    assert looks_up_to(max_seeds) == looks


@pytest.mark.parametrize("max_seeds", range(3, 200))
def test_looks_rise_by_two_seeds_or_more(max_seeds):
    looks = looks_up_to(max_seeds)
    assert looks[-1] == max_seeds
    assert all(after - before >= 2 for before, after in itertools.pairwise(looks))


def test_fewer_seeds_than_the_first_look_are_refused():
    with pytest.raises(AblateError, match=r"^max_seeds: 2 is less than the 3 seeds of the first look; .*\.$"):
        looks_up_to(2)


@pytest.mark.parametrize("looks", [[], [2, 4], [3, 3]])
def test_looks_that_are_no_rising_numbers_from_three_on_are_refused(looks):
    with pytest.raises(
        AblateError, match=r"^looks: .* are no rising numbers of seeds from 3 on; give such as"
    ):
        nominal_levels(looks)


# Jennison & Turnbull, Group Sequential Methods (1999), tables 2.1 and 2.3, alpha 0.05
@pytest.mark.parametrize(
    ("number", "pocock", "obrien_fleming"),
    [(2, 2.178, 1.977), (3, 2.289, 2.004), (4, 2.361, 2.024), (5, 2.413, 2.040)],
)
def test_the_recursion_gives_the_published_constants(number, pocock, obrien_fleming):
    looks = np.arange(1, number + 1)

    def of(shape):
        return brentq(lambda c: sum(first_crossings(looks, c * shape)) - 0.05, 1.5, 3)

    assert of(np.ones(number)) == pytest.approx(pocock, abs=0.0005001)
    assert of(np.sqrt(number / looks)) == pytest.approx(obrien_fleming, abs=0.0005001)


def test_boundaries_are_those_that_lan_and_demets_published():
    # Lan & DeMets (Biometrika 1983): alpha·t spent at five equally spaced looks, 0.025 on each side
    bounds = boundaries([1, 2, 3, 4, 5], [0.01, 0.02, 0.03, 0.04, 0.05])
    np.testing.assert_allclose(bounds, [2.58, 2.49, 2.41, 2.34, 2.28], atol=0.00501)


def test_one_look_is_the_usual_test():
    assert nominal_levels([7], 0.05) == pytest.approx((0.05,), rel=1e-9)
    assert sequential_p(0.031, [7], 0) == pytest.approx(0.031, rel=1e-9)


def test_the_error_rate_is_spent_in_proportion_to_the_seeds():
    bounds = norm.isf(np.array(nominal_levels(LOOKS)) / 2)
    expected = 0.05 * np.diff([0, *LOOKS]) / 12
    information = [look - 2.5 for look in LOOKS]
    np.testing.assert_allclose(first_crossings(information, bounds), expected, rtol=1e-9)


def test_first_crossings_agree_with_a_simulated_random_walk():
    bounds = np.array([2.0, 1.1, 1.6, 0.9])
    steps = np.random.default_rng(1).normal(size=(200_000, 12))
    z = steps.cumsum(axis=1)[:, np.array(LOOKS) - 1] / np.sqrt(LOOKS)
    crossed = np.abs(z) >= bounds
    first = np.where(crossed.any(axis=1), crossed.argmax(axis=1), -1)
    simulated = [(first == look).mean() for look in range(4)]
    # four standard errors of the largest of the four
    np.testing.assert_allclose(first_crossings(LOOKS, bounds), simulated, atol=4 * math.sqrt(0.25 / 200_000))


@pytest.mark.parametrize("looks", [(3, 5), LOOKS, (3, 5, 9), (3, 5, 8, 12, 17, 23)])
def test_t_tests_of_few_seeds_keep_the_error_rate_and_spend_it(looks):
    studies = 40_000
    seeds = np.random.default_rng(2).normal(size=(studies, looks[-1]))
    wrong = np.zeros(studies, dtype=bool)
    for look, level in zip(looks, nominal_levels(looks), strict=True):
        wrong |= ttest_1samp(seeds[:, :look], 0, axis=1).pvalue < level
    assert 0.046 < wrong.mean() < 0.05 + 3 * math.sqrt(0.05 * 0.95 / studies)


def test_images_that_are_common_to_all_looks_only_lower_the_error_rate():
    bounds = norm.isf(np.array(nominal_levels(LOOKS)) / 2)
    # seeds' part 1 / n and images' part of the variance: independent increments, with this information
    errors = [
        sum(first_crossings([1 / (1 / n + images) for n in LOOKS], bounds)) for images in (0, 0.1, 1, 9)
    ]
    assert errors[0] < 0.05
    assert all(after < before for before, after in itertools.pairwise(errors))


@pytest.mark.parametrize("looks", [LOOKS, (3, 5, 9), looks_up_to(60)])
@pytest.mark.parametrize("alpha", [1e-12, 1e-6, 0.003, 0.05, 0.2, 0.7, 0.97])
def test_sequential_p_is_the_inverse_of_the_levels(looks, alpha):
    found = [sequential_p(level, looks, k) for k, level in enumerate(nominal_levels(looks, alpha))]
    np.testing.assert_allclose(found, alpha, rtol=1e-5)


def test_sequential_p_rises_with_p_and_never_falls_below_it():
    p = np.concatenate([[0, 1e-300, 1e-20], np.logspace(-14, 0, 400)])
    for k in range(len(LOOKS)):
        found = np.array([sequential_p(float(one), LOOKS, k) for one in p])
        assert (np.diff(found) >= 0).all()
        assert (found >= p).all()
        assert found[0] == 0
        assert found[-1] == 1
    assert math.isnan(sequential_p(math.nan, LOOKS, 1))
