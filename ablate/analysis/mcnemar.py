"""McNemar's exact test: whether two trained models differ, which says little of two recipes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.special import bdtr

from ablate.analysis.contrasts import Contrast
from ablate.analysis.pairing import PairedPredictions

COLUMNS = ["contrast", "seed", "fold", "only_first", "only_second", "p_value"]


def mcnemar(only_first: int, only_second: int) -> float:
    """The exact two-sided p-value, of the items that one model alone has right (McNemar, Psychometrika 1947).

    1.0 where the models have the same items right.
    """
    differing = only_first + only_second
    return min(1.0, 2 * float(bdtr(min(only_first, only_second), differing, 0.5)))


def fixed_models(paired: PairedPredictions, contrasts: Sequence[Contrast]) -> pd.DataFrame:
    """McNemar's test for each pair of models: a row per contrast of two variants, seed and fold.

    A diagnostic of two fixed models. The p-value does not know that training once more gives other models.
    """
    rows = []
    for contrast in contrasts:
        if len(contrast.variants) != 2:
            continue
        first, second = sorted(contrast.variants, key=lambda variant: -contrast.weights[variant])
        for seed, folds in paired.seeds([first, second]).items():
            for fold in folds:
                one, other = (paired.predicted(variant, seed, fold).hits for variant in (first, second))
                only = int(np.sum(one > other)), int(np.sum(other > one))
                rows.append((contrast.name, seed, fold, *only, mcnemar(*only)))
    return pd.DataFrame(rows, columns=COLUMNS)
