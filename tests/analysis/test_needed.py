"""What would decide an effect: variances taken apart and put together, and studies of that size."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ablate.analysis.crossed import crossed_mean, mean_squares
from ablate.analysis.needed import Variances, detectable_by, needed


def drawn(seeds: int = 5, items: int = 400, sd: tuple[float, float, float] = (0.2, 0.5, 0.8)) -> np.ndarray:
    rng = np.random.default_rng(1)
    table = rng.normal(0, sd[0], (seeds, 1)) + rng.normal(0, sd[1], (1, items))
    return 0.1 + table + rng.normal(0, sd[2], (seeds, items))


def test_the_variances_are_those_of_the_mean_squares():
    table = drawn()
    ms, estimate = mean_squares(table), crossed_mean(table)
    found = Variances.of(estimate, 5, 400)
    rest, item = ms.residual.item(), (ms.item.item() - ms.residual.item()) / 5
    assert (found.rest, found.item) == pytest.approx((rest, item))
    assert found.seed == pytest.approx((ms.seed - rest) / 400)
    again = found.error(5, 400)
    assert (again.seed, again.item) == pytest.approx((estimate.seed_part, estimate.item_part))


def test_seeds_decide_what_seeds_leave_open():
    found = Variances(effect=0.02, n_seeds=3, n_cases=5000, seed=0.015**2, item=0.0, rest=0.0)
    more = needed(found, smallest_effect=0.001, confidence=0.95, alpha=0.05).more_seeds
    assert more is not None
    # by hand: the first n at which t(n − 1) · 0.015 / √n is below 0.02
    assert found.error(3 + more, 5000).p_value(0.02) < 0.05 <= found.error(3 + more - 1, 5000).p_value(0.02)
    assert 3 + more == 5


def test_images_decide_what_no_seed_can():
    found = Variances(effect=0.004, n_seeds=5, n_cases=250, seed=0.002**2, item=0.09, rest=0.1)
    assert found.error(10_000, 250).p_value(0.004) > 0.5
    what = needed(found, smallest_effect=0.001, confidence=0.95, alpha=0.05)
    assert what.more_seeds is None
    assert what.cases is not None
    assert found.error(10, what.cases).p_value(0.004) < 0.05
    # about the least: (1.96 · 0.3 / 0.004)² and more, since seeds weigh too
    assert (1.96 * 0.3 / 0.004) ** 2 < what.cases < 3 * (1.96 * 0.3 / 0.004) ** 2


def test_an_effect_of_nothing_is_decided_by_being_negligible():
    found = Variances(effect=0.0, n_seeds=3, n_cases=4000, seed=0.004**2, item=0.0, rest=0.0)
    what = needed(found, smallest_effect=0.005, confidence=0.95, alpha=0.05)
    assert what.more_seeds == 2  # by hand: t(4) · 0.004 / √5 = 0.00497, and t(3) · 0.004 / √4 = 0.0064


def test_the_detectable_effect_is_found_as_often_as_asked():
    rng = np.random.default_rng(0)
    estimate = crossed_mean(drawn(seeds=8))
    wanted = detectable_by(estimate, power=0.8)
    parts = Variances.of(estimate, 8, 400)
    found = 0
    for _ in range(300):
        table = wanted + rng.normal(0, math.sqrt(parts.seed), (8, 1))
        table = table + rng.normal(0, math.sqrt(parts.item), (1, 400))
        table = table + rng.normal(0, math.sqrt(parts.rest), (8, 400))
        each = crossed_mean(table)
        found += each.error.p_value(abs(each.mean)) < 0.05
    assert found / 300 == pytest.approx(0.8, abs=0.07)


def test_an_unknown_error_detects_nothing_that_could_be_told():
    assert math.isnan(detectable_by(crossed_mean(np.zeros((1, 4)))))
