"""Which variant is the best: the one whose score on the test split is worth telling."""

from __future__ import annotations

import pandas as pd

from ablate.analysis.names import higher_is_better


def best_or_only(trials: pd.DataFrame, metric: str) -> str | None:
    """The variant to be scored on the test split: the winner, or the only one, with a score or without."""
    finished = trials[trials["status"] == "ok"] if "status" in trials else trials
    if trials["variant"].nunique() == 1 and len(finished):
        return str(finished["variant"].iloc[0])
    return winner(trials, metric)


def winner(trials: pd.DataFrame, metric: str) -> str | None:
    """The variant with the best mean of a metric; None where no finished trial has it.

    `trials` are as in `trials.csv`. Over the seeds that all variants finished, where there are any: variants
    that got seeds until they were decided have different numbers of them.
    """
    if metric not in trials:
        return None
    finished = trials[trials["status"] == "ok"] if "status" in trials else trials
    by_seed = finished.pivot_table(index="seed", columns="variant", values=metric, sort=False)
    paired = by_seed.dropna()
    means = (paired if len(paired) else by_seed).mean()
    if not len(means):
        return None
    return str(means.idxmax() if higher_is_better(metric) else means.idxmin())
