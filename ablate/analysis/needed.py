"""What it would take to decide an effect, from the variances that a study measured."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from ablate.analysis.crossed import Estimate
from ablate.analysis.power import detectable
from ablate.analysis.uncertainty import Uncertainty

MOST_SEEDS, MOST_CASES = 10_000, 10**9


@dataclass(frozen=True)
class Variances:
    """What an estimate of seeds and cases says of one seed, one case (`item`) and one of both (`rest`)."""

    effect: float
    n_seeds: int
    n_cases: int
    seed: float
    item: float
    rest: float

    @classmethod
    def of(cls, estimate: Estimate, n_seeds: int, n_cases: int) -> Variances:
        """The variances behind an estimate of crossed seeds and cases."""
        return cls(
            estimate.mean,
            n_seeds,
            n_cases,
            seed=(estimate.seed_part - estimate.rest_part) * n_seeds,
            item=estimate.item_part * n_cases,
            rest=estimate.rest_part * n_seeds * n_cases,
        )

    def error(self, n_seeds: float, n_cases: float) -> Uncertainty:
        """How far the effect of so many seeds and cases would stray."""
        seeds = (self.seed + self.rest / n_cases) / n_seeds
        return Uncertainty(seeds, n_seeds - 1, self.item / n_cases, n_cases - 1)


@dataclass(frozen=True)
class Needed:
    """How many more seeds would decide an effect; or, where they never can, about how many cases would."""

    more_seeds: int | None = None
    cases: int | None = None


def needed(variances: Variances, smallest_effect: float, confidence: float, alpha: float) -> Needed:
    """What would decide an effect if it stays what it is: negligible at a confidence, or not 0 at alpha.

    Cases are told for ten seeds, or twice as many as there are where that is more; for a hundred and more
    where seeds alone forbid a decision. The answer is a guide: the effect itself is only an estimate.
    """

    def decides(n_seeds: float, n_cases: float) -> bool:
        error, effect = variances.error(n_seeds, n_cases), abs(variances.effect)
        return error.p_value(effect) < alpha or effect + error.half_width(confidence) <= smallest_effect

    def cases_with(n_seeds: int) -> int:
        return _rounded(_first(lambda n: decides(n_seeds, n), variances.n_cases, MOST_CASES))

    if decides(MOST_SEEDS, variances.n_cases):
        seeds = _first(lambda n: decides(n, variances.n_cases), variances.n_seeds, MOST_SEEDS)
        return Needed(more_seeds=seeds - variances.n_seeds)
    for seeds in (max(10, 2 * variances.n_seeds), 100, MOST_SEEDS):
        if decides(seeds, MOST_CASES):
            return Needed(cases=cases_with(seeds))
    return Needed()


def detectable_by(estimate: Estimate, power: float = 0.8, alpha: float = 0.05) -> float:
    """The effect that the study as it was run detects with that power, from its own variances.

    NaN where they are unknown, or nothing varied.
    """
    return detectable(estimate.error, power, alpha) if estimate.se > 0 else math.nan


def _first(holds: Callable[[int], bool], low: int, high: int) -> int:
    """The smallest number above `low` at which something holds that holds at `high` and from then on."""
    step = 1
    while low + step < high and not holds(low + step):
        step *= 2
    low, high = low + step // 2, min(low + step, high)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


def _rounded(number: int) -> int:
    """Two digits, rounded up: more would pretend to know."""
    unit = 10 ** max(len(str(number)) - 2, 0)
    return -(-number // unit) * unit
