"""With which seeds contrasts are judged: looks not come to decide nothing, and evidence keeps its look."""

from __future__ import annotations

import math
from collections.abc import Hashable

import pandas as pd
import pytest

from ablate.analysis.contrasts import Contrast
from ablate.analysis.crossed import Interval
from ablate.analysis.decide import Decision, decide
from ablate.analysis.effects import analyse
from ablate.analysis.looks import nominal_levels, sequential_p

LOOKS = (3, 5, 8)
A, B = (Contrast(name, "on", name, {name: 1.0, "baseline": -1.0}) for name in "ab")


def judged(
    p: dict[str, list[float]],
    come: dict[str, int] | None = None,
    negligible: tuple[str, int] | None = None,
    contrasts: tuple[Contrast, ...] = (A, B),
) -> list[Decision]:
    """The decisions from the p-value of each contrast at each look, and how many seeds each has come to."""
    at = {n: k for k, n in enumerate(LOOKS)}

    def interval(contrast: Contrast, seeds: list[Hashable], confidence: float) -> Interval:
        k = at[len(seeds)]
        inside = negligible == (contrast.name, k)
        return Interval(-0.1 if inside else -1.0, 0.1, p[contrast.name][k])

    return decide(
        contrasts,
        list(range(8)),
        interval=interval,
        negligible=lambda found: found.low > -0.5,
        reached=lambda contrast, seeds: len(seeds) <= (come or {}).get(contrast.name, 8),
        confidence=0.95,
        looks=LOOKS,
    )


def test_each_contrast_is_decided_at_its_own_look():
    a, b = judged({"a": [1e-6, 0.5, 0.5], "b": [0.5, 0.5, 1e-5]})
    assert (a.look, a.seeds, a.confidence) == (3, [0, 1, 2], pytest.approx(1 - nominal_levels(LOOKS)[0]))
    assert (b.look, len(b.seeds)) == (8, 8)
    assert a.p_adjusted == pytest.approx(2 * sequential_p(1e-6, LOOKS, 0))


def test_a_verdict_stands_on_the_look_that_its_evidence_is_from():
    # at look 1 a is not enough for two contrasts; when b is rejected at look 2 it is, as it was then
    level = nominal_levels(LOOKS)[0]
    assert 0.025 < sequential_p(0.6 * level, LOOKS, 0) < 0.05
    a, b = judged({"a": [0.6 * level, 0.9, 0.9], "b": [0.5, 1e-6, 0.5]})
    assert (b.look, a.look, len(a.seeds)) == (5, 3, 3)
    assert a.p_adjusted < 0.05


def test_looks_that_a_contrast_has_not_come_to_do_not_count():
    a, b = judged({"a": [0.5, 1e-9, 1e-9], "b": [0.5, 0.5, 0.5]}, come={"a": 3, "b": 5})
    assert (len(a.seeds), len(b.seeds)) == (3, 5)
    assert math.isnan(a.look)
    assert a.p_adjusted > 0.05


def test_before_the_first_look_nothing_is_said():
    a, b = judged({"a": [1e-9] * 3, "b": [1e-9] * 3}, come={"a": 2, "b": 8})
    assert (a.early, math.isnan(a.p_adjusted), math.isnan(a.look)) == (True, True, True)
    assert not b.early


def test_what_is_negligible_is_decided_too():
    a, _ = judged({"a": [0.5, 0.5, 1e-9], "b": [0.5, 0.5, 0.5]}, negligible=("a", 1))
    assert (a.look, len(a.seeds)) == (5, 5)
    assert a.p_adjusted > 0.05


def test_exploratory_contrasts_go_to_their_last_look():
    explored = Contrast("b", "on", "b", {"b": 1.0, "baseline": -1.0}, primary=False)
    a, b = judged({"a": [1e-9] * 3, "b": [1e-9] * 3}, contrasts=(A, explored))
    assert (len(b.seeds), math.isnan(b.p_adjusted), math.isnan(b.look)) == (8, True, True)
    assert a.p_adjusted == pytest.approx(sequential_p(1e-9, LOOKS, 0))


def test_seeds_that_are_still_to_come_decide_nothing(tables):
    trials, predictions = tables({"baseline": 1.0, "b": 1.6}, seeds=5)
    options = {"looks": LOOKS, "metrics": [], "smallest_effect": 1e-6}
    here = analyse(trials, predictions, **options)
    keys = pd.MultiIndex.from_product([["baseline", "b"], [5, 6, 7], [0]], names=["variant", "seed", "fold"])
    pending = keys.to_frame(index=False).assign(status="pending")
    more = analyse(pd.concat([trials, pending]), predictions, **options)
    pd.testing.assert_frame_equal(here.effects, more.effects)
    pd.testing.assert_frame_equal(here.details, more.details)


def test_a_variant_that_was_left_at_its_look_is_not_judged_again(tables):
    trials, predictions = tables({"baseline": 1.0, "b": 1.3, "c": 1.2}, seeds=5)
    stopped = [
        (trials["variant"] != "b") | (trials["seed"] < 3),
        (predictions["variant"] != "b") | (predictions["seed"] < 3),
    ]
    options = {"looks": LOOKS, "metrics": [], "smallest_effect": 1e-6}
    found = analyse(trials[stopped[0]], predictions[stopped[1]], **options)
    alone = analyse(trials[trials["seed"] < 3], predictions[predictions["seed"] < 3], **options)
    columns = ["effect", "ci_low", "ci_high", "p_value", "n_seeds"]
    assert found.effects[columns].iloc[0].tolist() == alone.effects[columns].iloc[0].tolist()
    assert found.details["note"][0] == ""
    assert found.effects["n_seeds"].tolist() == [3, 5]
