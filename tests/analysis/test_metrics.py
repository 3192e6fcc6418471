"""Metrics against scikit-learn, item values against scores, and predictions that cannot be scored."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from ablate.analysis.metrics import METRICS, find_metric, metric_values
from ablate.analysis.names import METRIC_NAMES
from ablate.errors import AblateError

Tables = tuple[pd.DataFrame, pd.DataFrame]


def one_trial(targets: list[int], classes: int, seed: int) -> pd.DataFrame:
    p = np.random.default_rng(seed).dirichlet(np.full(classes, 0.5), size=len(targets))
    frame = pd.DataFrame(p, columns=[f"p_{k}" for k in range(classes)])
    return frame.assign(target=targets, pred=p.argmax(axis=1))


def test_the_registry_and_the_names_agree():
    assert {name: metric.higher_is_better for name, metric in METRICS.items()} == METRIC_NAMES
    assert all(name == metric.name for name, metric in METRICS.items())


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=40), st.integers(0, 1000))
def test_scores_are_scikit_learns_and_the_mean_of_the_item_values(targets: list[int], seed: int):
    trial = one_trial(targets, 4, seed)
    p = trial[["p_0", "p_1", "p_2", "p_3"]].to_numpy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn's, for classes that are predicted but absent
        expected = {
            "accuracy": reference.accuracy_score(trial["target"], trial["pred"]),
            "balanced_accuracy": reference.balanced_accuracy_score(trial["target"], trial["pred"]),
            "log_loss": reference.log_loss(trial["target"], p, labels=[0, 1, 2, 3]),
        }
    for name, metric in METRICS.items():
        assert metric.score(trial) == pytest.approx(expected[name], abs=1e-10)
        values = metric.item_values(trial)
        assert values.shape == (len(targets),)
        assert values.mean() == pytest.approx(expected[name], abs=1e-10)


def test_a_class_that_is_missing_from_validation_is_left_out_without_a_warning():
    trial = pd.DataFrame({"target": [0, 0, 2, 2], "pred": [0, 1, 2, 2]})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert METRICS["balanced_accuracy"].score(trial) == 0.75
    assert METRICS["balanced_accuracy"].item_values(trial).mean() == 0.75


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_a_probability_of_zero_is_clipped_as_scikit_learn_does(kind: type):
    p = np.array([[0.0, 1.0], [0.5, 0.5], [1.0, 0.0]], dtype=kind)
    trial = pd.DataFrame(p, columns=["p_0", "p_1"]).assign(target=[0, 1, 0], pred=[1, 0, 0])
    expected = reference.log_loss([0, 1, 0], p)
    assert METRICS["log_loss"].score(trial) == pytest.approx(expected, abs=1e-6)
    assert METRICS["log_loss"].item_values(trial).mean() == pytest.approx(expected, abs=1e-6)


def test_ten_classes_and_more_keep_their_order():
    trial = one_trial([10, 2, 11, 9], 12, 0)
    shuffled = trial[sorted(trial.columns)]  # p_10 before p_2
    p = trial[[f"p_{k}" for k in range(12)]].to_numpy()
    expected = -np.log(p[np.arange(4), [10, 2, 11, 9]])
    np.testing.assert_allclose(METRICS["log_loss"].item_values(shuffled), expected)
    assert METRICS["log_loss"].score(shuffled) == pytest.approx(expected.mean())


def test_above_1000_classes_the_target_probability_is_enough():
    trial = pd.DataFrame({"target": [1203, 7], "pred": [1203, 8], "p_0": [0.1, 0.2], "p_target": [0.5, 0.25]})
    assert METRICS["log_loss"].score(trial) == pytest.approx(np.log(8) / 2)
    assert METRICS["log_loss"].item_values(trial).tolist() == pytest.approx([np.log(2), np.log(4)])


def test_metric_values_has_a_row_per_trial_in_order_and_looks_at_one_split(study: Tables):
    _, predictions = study
    test = predictions[predictions["variant"] == "baseline"].assign(split="test", pred=0, target=0)
    found = metric_values(pd.concat([predictions, test]), ["accuracy", "log_loss"])
    assert list(found.columns) == ["variant", "seed", "fold", "accuracy", "log_loss"]
    assert list(found["variant"].unique()) == ["baseline", "baseline+mixup", "baseline+tta"]
    assert len(found) == 12
    one = predictions[(predictions["variant"] == "baseline+mixup") & (predictions["seed"] == 2)]
    row = found[(found["variant"] == "baseline+mixup") & (found["seed"] == 2)]
    assert row["accuracy"].item() == reference.accuracy_score(one["target"], one["pred"])
    assert (
        metric_values(pd.concat([predictions, test]), ["accuracy"], split="test")["accuracy"].tolist()
        == [1.0] * 4
    )


def test_tables_without_fold_and_split_are_one_fold_and_all_validation(study: Tables):
    _, predictions = study
    bare = predictions.drop(columns=["fold", "split"])
    pd.testing.assert_frame_equal(metric_values(bare, ["accuracy"]), metric_values(predictions, ["accuracy"]))


@pytest.mark.parametrize("column", ["p_1", "pred"])
def test_nan_is_an_error_that_names_the_trial(study: Tables, column: str):
    _, predictions = study
    predictions = predictions.astype({"pred": float})
    broken = predictions[(predictions["variant"] == "baseline+tta") & (predictions["seed"] == 3)].index[:2]
    predictions.loc[broken, column] = np.nan
    with pytest.raises(AblateError, match=rf"baseline\+tta, seed 3, fold 0 .*{column} \(2 of 60 items\)"):
        metric_values(predictions, ["accuracy"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table: table.drop(columns=["p_0", "p_1", "p_2"]), "probabilities p_0"),
        (lambda table: table.assign(target=table["target"] + 1), "class codes from 0 to 2"),
        (lambda table: table.assign(target=table["target"].map({0: "a", 1: "b", 2: "c"})), "class codes"),
        (lambda table: table.drop(columns=["pred"]), "no column pred"),
    ],
)
def test_predictions_that_cannot_be_scored_say_why(
    study: Tables, change: Callable[[pd.DataFrame], pd.DataFrame], message: str
):
    with pytest.raises(AblateError, match=message):
        metric_values(change(study[1]), ["log_loss"])


def test_classes_by_name_are_enough_for_hits():
    trial = pd.DataFrame({"target": ["cat", "dog", "dog"], "pred": ["cat", "dog", "cat"]})
    assert METRICS["accuracy"].score(trial) == pytest.approx(2 / 3)
    assert METRICS["balanced_accuracy"].score(trial) == 0.75


def test_an_unknown_metric_lists_the_known_ones():
    with pytest.raises(AblateError, match=r"'acuracy'.*accuracy, balanced_accuracy, log_loss"):
        find_metric("acuracy")
