"""What an analysis says where little can be known: one seed, folds, lost trials, predictions all alike."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from ablate.analysis.effects import Analysis, analyse
from ablate.analysis.metrics import metric_values
from ablate.errors import AblateError

Tables = tuple[pd.DataFrame, pd.DataFrame]


def first(found: Analysis, metric: str = "accuracy") -> dict:
    """The row of a metric, effects and details together."""
    row, detail = (
        table[table["metric"] == metric].iloc[0].to_dict() for table in (found.effects, found.details)
    )
    return row | detail


def test_one_seed_says_what_cannot_be_known(tables: Callable[..., Tables]):
    row = first(analyse(*tables({"baseline": 0.0, "b": 9.0}, seeds=1)))
    assert row["interval"] == "none"
    assert "One seed cannot tell the effect from the luck of the seed" in row["note"]
    assert all(math.isnan(row[name]) for name in ("se", "df", "confidence", "detectable_effect", "ci_low"))
    assert row["verdict"] == "undecided"


@pytest.mark.parametrize(("n_folds", "ratio"), [(None, 1 / 3), (10, 1 / 9)])
def test_one_seed_of_several_folds_has_nadeau_and_bengios_interval(
    tables: Callable[..., Tables], n_folds: int | None, ratio: float
):
    trials, predictions = tables({"baseline": 1.0, "b": 2.0}, seeds=1, folds=4)
    row = first(analyse(trials, predictions, n_folds=n_folds))
    by_fold = metric_values(predictions, ["accuracy"]).pivot(
        index="fold", columns="variant", values="accuracy"
    )
    differences = (by_fold["b"] - by_fold["baseline"]).to_numpy()
    half = stats.t.ppf(0.975, 3) * math.sqrt(differences.var(ddof=1) * (1 / 4 + ratio))
    assert (row["interval"], row["n_seeds"]) == ("folds", 1)
    assert (row["ci_low"], row["ci_high"]) == pytest.approx(
        (differences.mean() - half, differences.mean() + half)
    )
    assert math.isnan(row["seed_ci_low"])
    assert "Nadeau and Bengio" in row["note"]


def test_lost_seeds_are_named_and_the_others_used(tables: Callable[..., Tables]):
    trials, predictions = tables({"baseline": 1.0, "b": 2.0}, seeds=5)
    trials.loc[(trials["variant"] == "b") & (trials["seed"] == 3), "status"] = "diverged"
    row = first(analyse(trials, predictions))
    assert row["n_seeds"] == 4
    assert row["note"] == "Left out, since not all of its variants finished: seed 3."
    kept = analyse(trials[trials["seed"] != 3], predictions[predictions["seed"] != 3])
    assert (row["ci_low"], row["ci_high"]) == (first(kept)["ci_low"], first(kept)["ci_high"])


def test_no_pair_at_all_is_said(tables: Callable[..., Tables]):
    trials, predictions = tables({"baseline": 1.0, "b": 2.0}, seeds=2)
    trials.loc[trials["variant"] == "b", "status"] = "failed"
    row = first(analyse(trials, predictions))
    assert (row["n_seeds"], row["verdict"], row["note"]) == (
        0,
        "undecided",
        "No seed finished in all of its variants (b finished in none).",
    )
    assert math.isnan(row["effect"])


def test_variants_that_predict_alike_are_told_and_negligible(tables: Callable[..., Tables]):
    trials, predictions = tables({"baseline": 1.0, "b": 1.0}, seeds=3)
    columns = [name for name in predictions if str(name).startswith("p")]
    base = predictions[predictions["variant"] == "baseline"][columns].to_numpy()
    predictions.loc[predictions["variant"] == "b", columns] = base
    row = first(analyse(trials, predictions))
    assert (row["effect"], row["ci_low"], row["ci_high"], row["p_value"]) == (0.0, 0.0, 0.0, 1.0)
    assert row["verdict"] == "negligible"
    assert "predict exactly the same for every image" in row["note"]


def test_constant_predictions_are_told(tables: Callable[..., Tables]):
    trials, predictions = tables({"baseline": 1.0, "b": 1.0}, seeds=3)
    predictions.loc[predictions["variant"] == "b", "pred"] = 1
    assert "b predicts one class for every image." in first(analyse(trials, predictions))["note"]


def test_a_metric_that_is_not_defined_has_no_number(tables: Callable[..., Tables]):
    trials, predictions = tables({"baseline": 1.0, "b": 1.0}, seeds=3)
    predictions = predictions[predictions["target"] == 1]
    row = first(analyse(trials, predictions, metric="roc_auc"), "roc_auc")
    assert math.isnan(row["effect"])
    assert row["verdict"] == "undecided"
    assert "not defined on these images: a class is missing" in row["note"]


def test_a_thousand_classes_of_a_few_images(tables: Callable[..., Tables]):
    trials, predictions = tables({"baseline": 3.0, "b": 4.0}, seeds=3, items=2000, classes=1000)
    found = analyse(trials, predictions, metric="balanced_accuracy", metrics=["accuracy", "top_5_accuracy"])
    for name in ("balanced_accuracy", "accuracy", "top_5_accuracy"):
        row = first(found, name)
        assert row["ci_low"] < row["effect"] < row["ci_high"]


def test_nan_probabilities_and_unmatched_items_are_refused(tables: Callable[..., Tables]):
    trials, predictions = tables({"baseline": 1.0, "b": 1.0}, seeds=2)
    broken = predictions.copy()
    broken.loc[5, "p_1"] = np.nan
    with pytest.raises(AblateError, match="missing or NaN in p_1"):
        analyse(trials, broken)
    predictions.loc[5, "item"] = "elsewhere"
    with pytest.raises(AblateError, match="do not match: 2 are in one of them only, such as"):
        analyse(trials, predictions)


def test_groups_are_the_cases(tables: Callable[..., Tables]):
    trials, predictions = tables({"baseline": 1.0, "b": 1.5}, seeds=4)
    grouped = predictions.assign(group=predictions["item"].str[-2:].astype(int) // 6)
    alone, together = first(analyse(trials, predictions)), first(analyse(trials, grouped))
    assert (alone["n_cases"], together["n_cases"], together["n_items"]) == (60, 10, 60)
    assert alone["effect"] == pytest.approx(together["effect"])
    assert alone["seed_ci_low"] == pytest.approx(together["seed_ci_low"])


def test_empty_groups_are_none_and_a_single_group_tells_nothing(tables: Callable[..., Tables]):
    trials, predictions = tables({"baseline": 1.0, "b": 1.5}, seeds=4)
    pd.testing.assert_frame_equal(
        analyse(trials, predictions.assign(group="")).effects, analyse(trials, predictions).effects
    )
    row = first(analyse(trials, predictions.assign(group="hospital")))
    assert (row["n_cases"], row["verdict"], row["interval"]) == (1, "undecided", "none")
    assert "All images are of one group" in row["note"]


def test_seeds_that_both_variants_lost_are_named_too(tables: Callable[..., Tables]):
    trials, predictions = tables({"baseline": 1.0, "b": 2.0}, seeds=4)
    row = first(
        analyse(trials.assign(status=["diverged" if s == 3 else "ok" for s in trials["seed"]]), predictions)
    )
    assert (row["n_seeds"], row["note"]) == (3, "Left out, since not all of its variants finished: seed 3.")


def test_a_metric_that_is_missing_in_a_fold_has_no_number(tables: Callable[..., Tables]):
    trials, predictions = tables({"baseline": 1.0, "b": 2.0}, seeds=1, folds=2)
    gone = predictions[(predictions["fold"] == 0) | (predictions["target"] != 2)]
    row = first(analyse(trials, gone, metric="recall:2"), "recall:2")
    assert math.isnan(row["effect"])
    assert row["note"] == "Recall of 2 is not defined on these images: a class is missing."
