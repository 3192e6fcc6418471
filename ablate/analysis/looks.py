"""Looking at a study several times while seeds are added, with an error rate for all looks together.

Group-sequential tests with alpha spending (Lan & DeMets, Biometrika 1983) at looks that are fixed beforehand.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from ablate.errors import AblateError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

FIRST_LOOK = 3
_LOST_SEEDS = 2.5
"""The t statistics of looks are correlated about as normal ones would be with so many fewer seeds at each."""
_NODES = 100
_SMALLEST_ALPHA = 1e-14
_GRID = 160
"""Levels of alpha that `sequential_p` interpolates between."""


def looks_up_to(max_seeds: int) -> tuple[int, ...]:
    """The numbers of seeds at which a study is looked at: 3, 5, 8, 12, 17, 23 … and `max_seeds` at last.

    A look spends a part of the error rate, which one seed more is not worth: where the last step would be a
    single seed, the look before it is left out (9: 3, 5, 9; 4: 4 alone).

    Raises:
        AblateError: `max_seeds` is less than 3.
    """
    if max_seeds < FIRST_LOOK:
        raise AblateError(
            f"max_seeds: {max_seeds} is less than the {FIRST_LOOK} seeds of the first look; give at least "
            f"{FIRST_LOOK}."
        )
    looks, step = [FIRST_LOOK], 2
    while looks[-1] + step <= max_seeds:
        looks.append(looks[-1] + step)
        step += 1
    if looks[-1] == max_seeds - 1:
        looks.pop()
    if not looks or looks[-1] < max_seeds:
        looks.append(max_seeds)
    return tuple(looks)


def nominal_levels(looks: Sequence[int], alpha: float = 0.05) -> tuple[float, ...]:
    """The two-sided level to test at in each look, so that any look is significant with probability `alpha`.

    Args:
        looks: The numbers of seeds, rising, the first at least 3.
        alpha: The error rate of all looks together, from 0 to 1.

    The error rate is spent in proportion to the seeds (the power family with exponent 1 of Kim & DeMets,
    Biometrika 1987). The levels are those of normal statistics and are applied to p-values of t tests: the
    significance-level approach of Jennison & Turnbull (Group Sequential Methods, 1999, chapters 3 and 6).

    With so few seeds it would let 5.6% pass for 5%: the standard errors change between looks too, so that t
    statistics are less correlated than normal ones. Information in proportion to seeds − 2.5 allows for it:
    in 2 million simulated studies of seeds alone, for the looks up to 5, 6, 7, 8, 9, 12, 17 and 25 seeds,
    4.7 to 5.0% were ever significant for an alpha of 5%, and at most 1.05 times alpha for one of 0.2 or 1%.

    Images make it conservative. With n seeds the estimate has variance v(n) = seeds' part / n + images' part,
    and estimates at j < k seeds have covariance v(k): the images are the same, and the first j seeds are a
    part of the k. So neighbouring looks have a correlation of √(v(k)/v(j)) ≥ √(j/k), that without images, and
    the probability of staying within given symmetric boundaries only grows with it (Royen, Far East J Theor
    Stat 2014).

    Raises:
        AblateError: `looks` are not such numbers.
    """
    seeds = np.asarray(looks, dtype=float)
    if not len(seeds) or seeds[0] < FIRST_LOOK or (np.diff(seeds) <= 0).any():
        raise AblateError(
            f"looks: {list(looks)} are no rising numbers of seeds from {FIRST_LOOK} on; give such as 3, 5, 8."
        )
    bounds = boundaries(seeds - _LOST_SEEDS, seeds / seeds[-1] * alpha)
    return tuple(math.erfc(bound / math.sqrt(2)) for bound in bounds)


def boundaries(information: Sequence[float] | Array, spent: Sequence[float] | Array) -> list[float]:
    """The boundaries of |z| at which a given error rate has been spent by each look: Lan & DeMets's.

    Args:
        information: Of each look, rising, in any unit.
        spent: The probability of having reached a boundary by each look without an effect.
    """
    walk, bounds = _Walk(), []
    for amount, target in zip(information, np.diff(spent, prepend=0.0), strict=True):
        walk.step_to(float(amount))
        bounds.append(walk.bound_for(float(target)))
        walk.stop_beyond(bounds[-1])
    return bounds


def first_crossings(information: Sequence[float], bounds: Sequence[float]) -> list[float]:
    """The probability, for each look, that |z| reaches its boundary there first, without an effect.

    Args:
        information: Of each look, rising, in any unit.
        bounds: The boundary of |z| at each look, not negative.

    The recursion of Armitage, McPherson & Rowe (J R Stat Soc A 1969) by Gauss-Legendre quadrature:
    z·√information is a random walk with independent normal steps, and the density of what has not stopped is
    carried along.
    """
    walk, found = _Walk(), []
    for amount, bound in zip(information, bounds, strict=True):
        walk.step_to(amount)
        found.append(walk.crossing(bound))
        walk.stop_beyond(bound)
    return found


def sequential_p(p: float, looks: Sequence[int], k: int) -> float:
    """The smallest alpha at which a p-value would be significant at a look: the inverse of `nominal_levels`.

    Args:
        p: The p-value of look k by itself.
        looks: The numbers of seeds of all looks.
        k: The look's index, from 0.

    The smallest over the looks so far is a p-value for the whole sequence of looks, to which Holm's procedure
    may be applied (Maurer & Bretz, Stat Biopharm Res 2013). Interpolated between levels that are worked out
    once, to a relative error of 1e-5; below about 1e-14 it is in proportion to p. NaN stays NaN.
    """
    log_ratio, log_levels = _inverse(tuple(looks))[k]
    if math.isnan(p) or p <= 0:
        return p
    if math.log(p) >= log_levels[-1]:  # not significant at any alpha
        return 1.0
    return min(1.0, p * math.exp(log_ratio(max(math.log(p), log_levels[0]))))


@cache
def _inverse(looks: tuple[int, ...]) -> list[tuple[Any, Array]]:
    """For each look, log(alpha / level) as a function of log(level), and the levels that it is known at."""
    from scipy.interpolate import PchipInterpolator

    # dense towards 1, where levels bend
    exponent = np.linspace(0, 1, _GRID) ** 2
    alphas = _SMALLEST_ALPHA ** exponent[::-1]
    levels = np.log([nominal_levels(looks, float(alpha)) for alpha in alphas]).T
    return [(PchipInterpolator(level, np.log(alphas) - level), level) for level in levels]


class _Walk:
    """A random walk that stops when it leaves boundaries: where it may be, with what probability."""

    def __init__(self) -> None:
        self.points, self.masses = np.zeros(1), np.ones(1)
        """The walk at the last look, unless it has stopped: nodes, and density × weight."""
        self.information, self.step = 0.0, 0.0

    def step_to(self, information: float) -> None:
        """Go on to the next look; the points are still those of the last."""
        self.step = math.sqrt(information - self.information)
        self.information = information

    def crossing(self, bound: float) -> float:
        """The probability of having gone on so far and being at or beyond the boundary of |z| now."""
        from scipy.special import ndtr

        edge = bound * math.sqrt(self.information)
        beyond = ndtr((-edge - self.points) / self.step) + ndtr((self.points - edge) / self.step)
        return float(self.masses @ beyond)

    def bound_for(self, probability: float) -> float:
        """The boundary that is crossed now with this probability."""
        from scipy.optimize import brentq
        from scipy.special import ndtri

        if probability >= self.crossing(0.0):
            return 0.0
        # without those that have stopped there can only be fewer beyond it
        highest = max(-float(ndtri(probability / 2)), 0.0) + 1e-9
        target = math.log(probability)
        return float(brentq(lambda bound: math.log(self.crossing(bound)) - target, 0.0, highest, xtol=1e-12))

    def stop_beyond(self, bound: float) -> None:
        """Leave out what has crossed, and carry the density to the nodes inside."""
        nodes, weights = _gauss_legendre()
        edge = bound * math.sqrt(self.information)
        points = edge * nodes
        steps = (points[:, None] - self.points) / self.step
        density = np.exp(-(steps**2) / 2) @ self.masses / (self.step * math.sqrt(2 * math.pi))
        self.points, self.masses = points, edge * weights * density


@cache
def _gauss_legendre() -> tuple[Array, Array]:
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    return nodes, weights
