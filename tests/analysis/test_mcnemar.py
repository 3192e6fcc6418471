"""McNemar's exact test against statsmodels and a published example."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.contingency_tables import mcnemar as reference

from ablate.analysis.contrasts import Contrast, against_baseline
from ablate.analysis.mcnemar import fixed_models, mcnemar
from ablate.analysis.pairing import PairedPredictions

Tables = tuple[pd.DataFrame, pd.DataFrame]


@given(st.integers(0, 400), st.integers(0, 400))
def test_the_p_value_is_statsmodels(first: int, second: int):
    expected = reference([[7, first], [second, 5]], exact=True).pvalue if first + second else 1.0
    assert mcnemar(first, second) == pytest.approx(expected, abs=1e-10)


def test_a_worked_example_by_hand():
    # five discordant pairs, one of them for the second: 2 · (1 + 5) / 2⁵
    assert mcnemar(4, 1) == pytest.approx(12 / 32)
    assert mcnemar(0, 0) == 1.0


def test_each_pair_of_models_is_tested_and_larger_contrasts_are_not(tables: Callable[..., Tables]):
    trials, predictions = tables({"baseline": 1.0, "b": 2.0, "c": 2.0}, seeds=2, folds=3)
    contrasts = against_baseline(list(trials["variant"]), "baseline")
    main = Contrast("f", "on", "mean of two", {"b": 0.5, "c": 0.5, "baseline": -1.0})
    found = fixed_models(PairedPredictions(trials, predictions), [*contrasts, main])
    assert len(found) == 2 * 2 * 3
    row = found.query("contrast == 'c − baseline' and seed == 1 and fold == 2").iloc[0]
    hit = {
        variant: (own["pred"] == own["target"]).to_numpy()
        for variant, own in predictions.query("seed == 1 and fold == 2")
        .sort_values("item")
        .groupby("variant")
    }
    assert row["only_first"] == (hit["c"] & ~hit["baseline"]).sum()
    assert row["only_second"] == (hit["baseline"] & ~hit["c"]).sum()
