"""Two parts of a variance: scipy's t where one is all, Satterthwaite by hand, and never surer than seeds."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from ablate.analysis.uncertainty import Uncertainty

POSITIVE = st.sampled_from([1e-9, 0.01, 0.3, 1.0, 40.0])
PARTS = st.sampled_from([0.0, 1e-9, 0.01, 0.3, 1.0, 40.0])
DEGREES = st.sampled_from([1, 2, 4, 7, 30, 249, 20_000])


@given(POSITIVE, DEGREES, st.floats(0.01, 30), st.floats(0.5, 0.9999))
def test_one_part_alone_is_students_t(part: float, df: int, distance: float, confidence: float):
    for error in (Uncertainty(part, df), Uncertainty(0.0, 5, part, df)):
        expected = 2 * stats.t.sf(distance / math.sqrt(part), df)
        assert error.p_value(distance) == pytest.approx(expected, rel=1e-9, abs=1e-300)
        half = stats.t.ppf((1 + confidence) / 2, df) * math.sqrt(part)
        assert error.half_width(confidence) == pytest.approx(half, rel=1e-9)


def test_satterthwaites_degrees_of_freedom_by_hand():
    # (1 + 3)² / (1²/2 + 3²/6) = 16 / 2
    error = Uncertainty(1.0, 2, 3.0, 6)
    assert (error.se, error.df) == (2.0, 8.0)
    # at 95% t(8) · 2 = 4.61 is more than the seeds' t(2) · 1 = 4.30, at 99% 6.71 is less than 9.92
    assert error.half_width(0.95) == pytest.approx(2 * stats.t.ppf(0.975, 8))
    assert error.half_width(0.99) == pytest.approx(stats.t.ppf(0.995, 2))


@given(
    POSITIVE,
    DEGREES,
    PARTS,
    DEGREES,
    st.floats(0.0, 20.0),
    st.sampled_from([0.5, 0.9, 0.95, 0.999]),
)
def test_interval_and_test_say_the_same_and_are_never_surer_than_seeds(
    seed: float, df_seed: int, item: float, df_item: int, distance: float, confidence: float
):
    error, alone = Uncertainty(seed, df_seed, item, df_item), Uncertainty(seed, df_seed)
    half = error.half_width(confidence)
    assert error.p_value(half) == pytest.approx(1 - confidence, rel=1e-6)
    assert half >= alone.half_width(confidence)
    assert error.p_value(distance) >= alone.p_value(distance)


def test_nothing_that_varies_never_strays():
    error = Uncertainty(0.0, 2)
    assert (error.p_value(0.0), error.p_value(0.1), error.half_width(0.95)) == (1.0, 0.0, 0.0)


@pytest.mark.parametrize("seeds", [3, 5, 10])
@pytest.mark.parametrize("share", [0.05, 0.5, 0.8, 0.95])
def test_tests_hold_at_the_levels_that_a_correction_needs(seeds: int, share: float):
    rng = np.random.default_rng(seeds)
    drawn = 20_000
    seed = share * rng.chisquare(seeds - 1, drawn) / (seeds - 1)
    item = (1 - share) * rng.chisquare(249, drawn) / 249
    error = rng.normal(size=drawn)
    p = np.array(
        [
            Uncertainty(a, seeds - 1, b, 249).p_value(abs(e))
            for a, b, e in zip(seed.tolist(), item.tolist(), error.tolist(), strict=True)
        ]
    )
    for level, most in ((0.05, 1.2), (0.01, 1.45)):
        assert np.mean(p < level) <= most * level
