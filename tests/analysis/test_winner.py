"""The best variant, over the seeds that all have."""

from __future__ import annotations

import pandas as pd
import pytest

from ablate.analysis.winner import winner


def trials(scores: dict[str, list[float | None]], metric: str = "accuracy") -> pd.DataFrame:
    rows = [
        {
            "variant": variant,
            "seed": seed,
            "fold": 0,
            metric: score,
            "status": "failed" if score is None else "ok",
        }
        for variant, values in scores.items()
        for seed, score in enumerate(values)
    ]
    return pd.DataFrame(rows)


@pytest.mark.parametrize(
    ("scores", "metric", "expected"),
    [
        ({"a": [0.5, 0.6], "b": [0.7, 0.6]}, "accuracy", "b"),
        ({"a": [0.5, 0.6], "b": [0.7, 0.6]}, "log_loss", "a"),
        # b's further seeds are lucky ones that a does not have
        ({"a": [0.6], "b": [0.5, 0.9, 0.9]}, "accuracy", "a"),
        ({"a": [0.6, None], "b": [None, 0.5]}, "accuracy", "a"),
        ({"a": [None], "b": [None]}, "accuracy", None),
    ],
)
def test_the_best_mean_of_paired_seeds_wins(scores: dict, metric: str, expected: str | None):
    assert winner(trials(scores, metric), metric) == expected


def test_a_table_without_the_metric_has_no_winner():
    assert winner(trials({"a": [0.5]}), "roc_auc") is None
