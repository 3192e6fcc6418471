"""Holm's procedure against statsmodels and a published example, and the order of verdicts."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.multitest import multipletests

from ablate.analysis.verdicts import holm, verdict


def test_holms_own_kind_of_example():
    # Wright, Biometrics 1992, and many textbooks: four hypotheses
    assert holm(np.array([0.01, 0.04, 0.03, 0.005])).tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])


@settings(max_examples=8, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_is_that_of_statsmodels(p_values: list[float]):
    expected = np.asarray(multipletests(p_values, method="holm")[1])
    np.testing.assert_allclose(holm(np.array(p_values)), expected, atol=1e-12)


def test_holm_counts_only_what_is_known():
    found = holm(np.array([0.01, np.nan, 0.04, 0.03]))
    assert found[[0, 2, 3]].tolist() == pytest.approx([0.03, 0.06, 0.06])
    assert math.isnan(found[1])
    assert np.isnan(holm(np.array([np.nan]))).all()


@pytest.mark.parametrize(
    ("low", "high", "p", "higher", "expected"),
    [
        (0.001, 0.004, 0.001, True, "negligible"),
        (-0.005, 0.005, 1.0, True, "negligible"),
        (0.001, 0.020, 0.001, True, "helps"),
        (0.001, 0.020, 0.001, False, "hurts"),
        (-0.020, -0.001, 0.001, True, "hurts"),
        (0.001, 0.020, 0.05, True, "undecided"),
        (-0.010, 0.020, 0.3, True, "undecided"),
        (math.nan, math.nan, math.nan, True, "undecided"),
    ],
)
def test_verdicts_in_their_order(low: float, high: float, p: float, higher: bool, expected: str):
    assert verdict(low, high, p, 0.005, higher) == expected
