"""Metrics of an order: ROC AUC and average precision, with what each item adds to them.

Each function takes scores and a mask of positives, both of shape (n,), and gives n values. Their mean is the
metric; value − metric is the item's influence on it (the derivative by the item's weight, times n), so that
the variance of their mean is the metric's own, to first order. Without a positive or a negative all are NaN.
"""

from __future__ import annotations

import numpy as np
from scipy.stats import rankdata


def roc_auc_values(scores: np.ndarray, positive: np.ndarray) -> np.ndarray:
    """Placement values: the share of the other class that each item is ranked right against; ties count half.

    Those of the positives and those of the negatives both have the AUC as their mean (DeLong, DeLong &
    Clarke-Pearson, Biometrics 1988); each is weighted by n over its class's size.
    """
    n, n_positive = len(scores), int(positive.sum())
    n_negative = n - n_positive
    if not n_positive or not n_negative:
        return np.full(n, np.nan)
    ranks, placement = rankdata(scores), np.empty(n)
    placement[positive] = (ranks[positive] - rankdata(scores[positive])) / n_negative
    placement[~positive] = 1 - (ranks[~positive] - rankdata(scores[~positive])) / n_positive
    auc = placement[positive].mean()
    return auc + np.where(positive, n / n_positive, n / n_negative) * (placement - auc)


def average_precision_values(scores: np.ndarray, positive: np.ndarray) -> np.ndarray:
    """The precision at each positive's own score, and how each item moves the precision of those below it.

    With H(s) the share of items that are positive and score at least s, S(s) the share that score at least s
    and π the share of positives, the metric is E[H/S | positive]. Its influence function is
    [positive](H/S − metric)/π + E over positives with lower or equal scores of ([positive] − H/S)/S.
    """
    n, n_positive = len(scores), int(positive.sum())
    if not n_positive or n_positive == n:
        return np.full(n, np.nan)
    order = np.argsort(-scores, kind="stable")
    mark = positive[order].astype(float)
    _, first, inverse = np.unique(-scores[order], return_index=True, return_inverse=True)
    last = np.append(first[1:], n) - 1  # items with equal scores pass a threshold together
    above = ((np.arange(n) + 1) / n)[last][inverse]
    precision = (np.cumsum(mark) / n)[last][inverse] / above
    metric = precision[mark > 0].mean()
    below = np.cumsum((mark / above)[::-1])[::-1][first][inverse] / n_positive
    below_precise = np.cumsum((mark * precision / above)[::-1])[::-1][first][inverse] / n_positive
    values = np.empty(n)
    values[order] = metric + mark * n / n_positive * (precision - metric) + mark * below - below_precise
    return values
