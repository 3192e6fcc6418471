"""How small an effect a planned study can detect, before anything has run (no pandas, no scipy.stats)."""

from __future__ import annotations

import math
from functools import cache
from typing import TYPE_CHECKING

from ablate.analysis.uncertainty import Uncertainty

if TYPE_CHECKING:
    import numpy as np


def detectable_effect(
    n_items: int,
    n_seeds: int,
    *,
    error: float = 0.1,
    seed_sd: float = 0.005,
    shared: float = 0.8,
    power: float = 0.8,
    alpha: float = 0.05,
) -> float | None:
    """The smallest difference in accuracy between two variants that a paired study detects (0.01: a point).

    Detects means: with probability `power`, at two-sided `alpha`, for new images and new seeds, one contrast
    alone. Returns None where nothing can be: fewer than two seeds or items, or not even a difference of 1 is
    enough.

    The variance of the mean difference over S seeds and N images is assumed to be
    2·seed_sd²/S + error·(1−error)·(1/(S·N) + (1−shared)/N):

    - `seed_sd` is the standard deviation between seeds of a variant's accuracy on infinitely many images.
      The default, half a point, is what remains of the 0.56 points that Jordan (arXiv 2304.01910) saw on
      CIFAR-10 after 4 epochs when the 0.22 that independent errors explain are taken off; longer training
      leaves less. Seeds pair runs weakly (Summers & Dinneen, arXiv 2103.04514), so pairing is given no
      credit.
    - A hit has variance error·(1 − error). Half of it is taken as the run's luck, independent between runs,
      and half as the image's own difficulty, which has a correlation of `shared` between the two variants.
      Only the difficulty that they do not share limits what more seeds can tell.

    The test is that of the effects, with S − 1 degrees of freedom for the seeds' part and N − 1 for the
    images'.
    """
    if n_seeds < 2 or n_items < 2:
        return None
    hit_variance = error * (1 - error)
    seed_part = 2 * seed_sd**2 / n_seeds + hit_variance / (n_seeds * n_items)
    item_part = hit_variance * (1 - shared) / n_items
    effect = detectable(Uncertainty(seed_part, n_seeds - 1, item_part, n_items - 1), power, alpha)
    return effect if effect <= 1 else None


def detectable(error: Uncertainty, power: float = 0.8, alpha: float = 0.05) -> float:
    """The effect that a test at two-sided alpha finds with that power.

    By the noncentral t with the degrees of freedom at which Student's t asks for as much as the test does,
    which are fewer than Satterthwaite's where seeds are few.
    """
    if error.se == 0:
        return 0.0
    df = _degrees_of_freedom(error.half_width(1 - alpha) / error.se, alpha)
    return error.se * noncentrality(df, power, alpha)


def _degrees_of_freedom(quantile: float, alpha: float) -> float:
    """Those with which Student's t has a given 1 − alpha/2 quantile; at most a million."""
    from scipy.special import stdtrit

    low, high = 1.0, 1e6
    while high > low * (1 + 1e-9):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if stdtrit(middle, 1 - alpha / 2) > quantile else (low, middle)
    return high


def noncentrality(df: float, power: float, alpha: float) -> float:
    """The noncentrality at which a two-sided t test has the given power, by bisection."""
    import numpy as np  # numpy and scipy.special are light, but not free: only when power is asked for
    from scipy.special import gammaincinv, ndtr, stdtrit

    # scipy's noncentral t, nctdtr, is NaN for some of the large noncentralities that two or three seeds need:
    # average the normal probability over the quantiles of the standard error instead (exact to 1e-6)
    nodes, node_weights = _gauss_legendre()
    standard_error = np.sqrt(2 * gammaincinv(df / 2, (nodes + 1) / 2) / df)
    bound = float(stdtrit(df, 1 - alpha / 2)) * standard_error

    def power_at(noncentrality: float) -> float:
        return float(node_weights @ (ndtr(noncentrality - bound) + ndtr(-noncentrality - bound))) / 2

    low, high = 0.0, 1.0
    while power_at(high) < power:
        low, high = high, 2 * high
    while high - low > 1e-9 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if power_at(middle) < power else (low, middle)
    return high


@cache
def _gauss_legendre() -> tuple[np.ndarray, np.ndarray]:
    import numpy as np

    return np.polynomial.legendre.leggauss(200)
