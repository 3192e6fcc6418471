"""Predictions matched seed by seed and item by item."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from ablate.analysis.contrasts import Contrast
from ablate.analysis.metrics import METRICS
from ablate.analysis.pairing import PairedPredictions
from ablate.errors import AblateError

CONTRAST = Contrast("x", "on", "b − a", {"b": 1.0, "a": -1.0})


def tables(hits: dict[tuple[str, int], list[int]], items: str = "pqr") -> tuple[pd.DataFrame, pd.DataFrame]:
    """Trials and predictions from which items each trial gets right."""
    trials = pd.DataFrame([{"variant": v, "seed": s, "fold": 0, "status": "ok"} for v, s in hits])
    rows = [
        {"variant": v, "seed": s, "fold": 0, "split": "valid", "item": item, "target": 0, "pred": 1 - hit}
        for (v, s), right in hits.items()
        for item, hit in zip(items, right, strict=True)
    ]
    predictions = pd.DataFrame(rows)
    predictions["p_0"] = 0.9 - 0.8 * predictions["pred"]
    predictions["p_1"] = 1 - predictions["p_0"]
    return trials, predictions


def test_the_table_is_seeds_by_items_by_hand():
    hits = {("a", 0): [1, 0, 0], ("a", 1): [1, 1, 0], ("b", 0): [1, 1, 0], ("b", 1): [0, 1, 1]}
    trials, predictions = tables(hits)
    table = PairedPredictions(trials, predictions.sample(frac=1, random_state=0)).table(
        CONTRAST, METRICS["accuracy"]
    )
    assert sorted(map(tuple, np.sort(table, axis=1))) == sorted([(0, 0, 1), (-1, 0, 1)])


def test_only_seeds_that_both_variants_finished_are_paired():
    hits = {("a", 0): [1, 0, 0], ("a", 1): [1, 1, 0], ("b", 0): [1, 1, 0], ("b", 1): [0, 1, 1]}
    trials, predictions = tables(hits)
    trials.loc[3, "status"] = "failed"
    assert list(PairedPredictions(trials, predictions).seeds(["a", "b"])) == [0]


def test_items_that_do_not_match_are_an_error():
    trials, predictions = tables({("a", 0): [1, 0, 0], ("b", 0): [1, 1, 0]})
    predictions.loc[predictions.variant == "b", "item"] = ["p", "q", "z"]
    with pytest.raises(AblateError):
        PairedPredictions(trials, predictions).table(CONTRAST, METRICS["accuracy"])
