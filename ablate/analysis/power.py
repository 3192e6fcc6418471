"""How small an effect a planned study can detect, before anything has run (no pandas, no scipy.stats)."""

from __future__ import annotations

import math


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

    The test is t with Satterthwaite's degrees of freedom for the seeds' (S − 1) and the images' (N − 1) part.
    With three seeds and thousands of images these fall to S − 1 as the images' part fades, so that still more
    images can raise the figure by a few percent.
    """
    if n_seeds < 2 or n_items < 2:
        return None
    hit_variance = error * (1 - error)
    seed_part = 2 * seed_sd**2 / n_seeds + hit_variance / (n_seeds * n_items)
    item_part = hit_variance * (1 - shared) / n_items
    variance = seed_part + item_part
    if variance == 0:
        return 0.0
    df = variance**2 / (seed_part**2 / (n_seeds - 1) + item_part**2 / (n_items - 1))
    effect = math.sqrt(variance) * _noncentrality(df, power, alpha)
    return effect if effect <= 1 else None


def _noncentrality(df: float, power: float, alpha: float) -> float:
    """The noncentrality at which a two-sided t test has the given power, by bisection."""
    import numpy as np  # numpy and scipy.special are light, but not free: only when power is asked for
    from scipy.special import gammaincinv, ndtr, stdtrit

    # scipy's noncentral t, nctdtr, is NaN for some of the large noncentralities that two or three seeds need:
    # average the normal probability over the quantiles of the standard error instead (exact to 1e-6)
    nodes, node_weights = np.polynomial.legendre.leggauss(200)
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
