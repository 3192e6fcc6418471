"""balanced_sampling: show every class equally often."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from ablate.techniques.base import Context, InPhases


def balanced_draw(targets: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw as many items as there are, with replacement, each class with the same probability.

    Args:
        targets: The class of each item, shape (n,).
        rng: Where the draws come from.

    Returns:
        Positions, int64 of shape (n,): an item of a class of n_c has the weight 1 / n_c.
    """
    counts = np.unique(targets, return_counts=True)[1]
    by_class, begins = np.argsort(targets, kind="stable"), np.cumsum(counts) - counts
    drawn = rng.integers(len(counts), size=len(targets))
    return by_class[begins[drawn] + rng.integers(counts[drawn])]


class BalancedSampling(InPhases):
    """Fill each epoch with as many images as before, drawn so that every class comes up equally often.

    Images of rare classes come several times in an epoch, each time under other random transforms, and some
    of frequent classes not at all.
    """

    name: ClassVar[str] = "balanced_sampling"
    paper: ClassVar[str] = "Kang et al. 2020, arXiv 1910.09217"

    def sampler(self, context: Context, epoch: int) -> np.ndarray | None:
        return balanced_draw(context.train_targets, context.streams.generator("sample", epoch))
