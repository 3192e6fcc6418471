"""Metrics and their item values against scikit-learn, and predictions that cannot be scored."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from ablate.analysis.metrics import find_metric, metric_values
from ablate.analysis.predicted import Predicted
from ablate.errors import AblateError

Tables = tuple[pd.DataFrame, pd.DataFrame]
Score = Callable[..., float]
N, K = 60, 4


def one_trial(seed: int, n: int = N, classes: int = K) -> Predicted:
    """Predictions with ties among the probabilities, and every class among the targets."""
    rng = np.random.default_rng(seed)
    p = np.round(rng.dirichlet(np.ones(classes), n), 1) + 0.01
    p /= p.sum(axis=1, keepdims=True)
    target = np.concatenate([np.arange(classes), rng.integers(0, classes, n - classes)])
    return Predicted(target, p.argmax(axis=1), p)


def references(trial: Predicted) -> dict[str, Score]:
    """scikit-learn's metrics of a trial, each a function of the items' weights."""
    y, pred, p = trial.target, trial.pred, trial.probabilities
    assert p is not None

    def mean_over_classes(score: Score) -> Score:
        return lambda **w: float(np.mean([score(y == c, p[:, c], **w) for c in range(K)]))

    return {
        "accuracy": lambda **w: reference.accuracy_score(y, pred, **w),
        "balanced_accuracy": lambda **w: reference.balanced_accuracy_score(y, pred, **w),
        "top_2_accuracy": lambda **w: reference.top_k_accuracy_score(y, p, k=2, **w),
        "log_loss": lambda **w: reference.log_loss(y, p, **w),
        "recall": lambda **w: reference.recall_score(y, pred, average="macro", **w),
        "precision": lambda **w: reference.precision_score(y, pred, average="macro", zero_division=0, **w),
        "f1": lambda **w: reference.f1_score(y, pred, average="macro", **w),
        "recall:2": lambda **w: reference.recall_score(y == 2, pred == 2, **w),
        "precision:2": lambda **w: reference.precision_score(y == 2, pred == 2, zero_division=0, **w),
        "f1:2": lambda **w: reference.f1_score(y == 2, pred == 2, **w),
        "roc_auc": mean_over_classes(reference.roc_auc_score),
        "roc_auc:1": lambda **w: reference.roc_auc_score(y == 1, p[:, 1], **w),
        "average_precision": mean_over_classes(reference.average_precision_score),
        "average_precision:1": lambda **w: reference.average_precision_score(y == 1, p[:, 1], **w),
    }


NAMES = [*references(one_trial(0))]


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_the_mean_of_the_item_values_is_scikit_learns_metric(name: str, seed: int):
    trial = one_trial(seed)
    metric = find_metric(name)
    values = metric.values(trial)
    assert values.shape == (N,)
    assert values.mean() == metric.score(trial) == pytest.approx(references(trial)[name](), abs=1e-10)


@pytest.mark.parametrize("name", NAMES)
def test_item_values_are_the_derivative_of_scikit_learns_metric_by_the_items_weight(name: str):
    trial, step = one_trial(3), 1e-5
    score, metric = references(trial)[name], find_metric(name)
    values = metric.values(trial)
    if metric.within_class:  # the sizes of classes count as given: only deviations within them matter
        own = np.array([values[trial.target == c].mean() for c in range(K)])[trial.target]
    else:
        own = values.mean()
    for item in range(N):
        more, less = np.ones(N), np.ones(N)
        more[item], less[item] = 1 + step, 1 - step
        slope = (score(sample_weight=more) - score(sample_weight=less)) / (2 * step)
        if metric.within_class and name.startswith("roc_auc"):
            assert values[item] - values.mean() == pytest.approx(N * slope, abs=1e-6)
        else:
            assert (values - own)[item] == pytest.approx(N * slope, abs=1e-6)


def test_the_variance_of_the_auc_is_delongs():
    rng = np.random.default_rng(0)
    y = np.arange(80) < 20
    score = rng.normal(size=80) + y
    values = find_metric("roc_auc").values(Predicted(y.astype(int), y, np.stack([-score, score], axis=1)))
    # DeLong's formula, pair by pair
    wins = (score[y][:, None] > score[~y]).astype(float)
    delong = wins.mean(axis=1).var(ddof=1) / 20 + wins.mean(axis=0).var(ddof=1) / 60
    ours = sum(values[own].var(ddof=1) * own.sum() for own in (y, ~y)) / 80**2
    assert ours == pytest.approx(delong, rel=1e-10)


def test_calibration_error_by_hand():
    # confidences 0.9, 0.9, 0.6 in two bins: |0.9 − 0.5|·2/3 + |0.6 − 1|·1/3
    p = np.array([[0.9, 0.1], [0.1, 0.9], [0.6, 0.4]])
    trial = Predicted(np.array([0, 0, 0]), np.array([0, 1, 0]), p)
    metric = find_metric("expected_calibration_error")
    assert metric.score(trial) == pytest.approx(0.8 / 3 + 0.4 / 3)
    assert metric.values(trial).tolist() == pytest.approx([-0.1, 0.9, 0.4])


def test_confidences_on_an_edge_are_in_the_bin_below():
    p = np.array([[1 / 15, 14 / 15], [0.0, 1.0]])
    trial = Predicted(np.array([0, 1]), np.array([0, 1]), p)
    # bins of their own: |1/15 − 1|/2 + |1 − 1|/2
    assert find_metric("expected_calibration_error").score(trial) == pytest.approx(7 / 15)


@pytest.mark.parametrize("name", ["recall", "f1", "precision", "balanced_accuracy"])
def test_a_class_that_is_missing_from_validation_is_left_out_without_a_warning(name: str):
    trial = Predicted(np.array([0, 0, 2, 2]), np.array([0, 1, 2, 2]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = find_metric(name).score(trial)
    labels = {"labels": [0, 2], "average": "macro"}
    expected = {
        "f1": reference.f1_score(trial.target, trial.pred, **labels),
        "precision": reference.precision_score(trial.target, trial.pred, **labels),
    }.get(name, 0.75)
    assert found == pytest.approx(expected)


@pytest.mark.parametrize("name", ["recall:1", "f1:1", "precision:1", "roc_auc:1", "average_precision:1"])
def test_a_metric_of_a_missing_class_is_not_a_number(name: str):
    trial = Predicted(np.array([0, 0, 2]), np.array([0, 1, 2]), np.full((3, 3), 1 / 3))
    assert np.isnan(find_metric(name).score(trial))


def test_constant_predictions_have_an_auc_of_one_half():
    trial = Predicted(np.array([0, 1, 1]), np.array([0, 0, 0]), np.full((3, 2), 0.5))
    assert find_metric("roc_auc").score(trial) == 0.5
    assert find_metric("precision:1").score(trial) == 0.0


def test_classes_have_names():
    trial = one_trial(1)
    classes = ["ant", "bee", "cat", "dog"]
    assert find_metric("f1:cat", classes).score(trial) == find_metric("f1:2").score(trial)
    named = Predicted(np.array(["cat", "dog"]), np.array(["cat", "cat"]))
    assert find_metric("recall:dog").score(named) == 0.0
    with pytest.raises(AblateError, match="'f1:cow' is about no class of these data; they have ant, bee"):
        find_metric("f1:cow", classes)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_a_probability_of_zero_is_clipped_as_scikit_learn_does(kind: type):
    p = np.array([[0.0, 1.0], [0.5, 0.5], [1.0, 0.0]], dtype=kind)
    trial = Predicted(np.array([0, 1, 0]), np.array([1, 0, 0]), p)
    assert find_metric("log_loss").score(trial) == pytest.approx(reference.log_loss([0, 1, 0], p), abs=1e-6)


def test_ten_classes_and_more_keep_their_order():
    p = np.random.default_rng(0).dirichlet(np.ones(12), 4)
    table = pd.DataFrame(p, columns=[f"p_{k}" for k in range(12)]).assign(target=[10, 2, 11, 9], pred=0)
    shuffled = Predicted.read(table[sorted(table.columns)])  # p_10 before p_2
    expected = -np.log(p[np.arange(4), [10, 2, 11, 9]])
    np.testing.assert_allclose(find_metric("log_loss").values(shuffled), expected)


def test_above_1000_classes_the_targets_probability_and_rank_are_enough():
    table = pd.DataFrame({"target": [1203, 7], "pred": [1203, 8], "p_0": [0.1, 0.2]})
    trial = Predicted.read(table.assign(p_target=[0.5, 0.25], rank_target=[1, 5]))
    assert find_metric("log_loss").values(trial).tolist() == pytest.approx([np.log(2), np.log(4)])
    assert find_metric("top_4_accuracy").score(trial) == 0.5
    with pytest.raises(AblateError, match="roc_auc needs the probabilities"):
        find_metric("roc_auc").score(trial)


@pytest.mark.parametrize("classes", [1001, 1200])
def test_what_is_kept_above_1000_classes_gives_the_metrics_of_all_probabilities(classes: int):
    from ablate.training.predict import kept_columns

    whole = one_trial(0, n=2 * classes, classes=classes)
    assert whole.probabilities is not None
    kept = kept_columns(whole.probabilities.astype(np.float32), whole.target)
    trial = Predicted.read(pd.DataFrame(kept).assign(target=whole.target))
    whole = Predicted(whole.target, whole.pred, whole.probabilities.astype(np.float32))
    names = ("accuracy", "balanced_accuracy", "log_loss", "f1", "expected_calibration_error")
    for name in (*names, "top_10_accuracy", "top_100_accuracy", "top_1000_accuracy"):
        np.testing.assert_allclose(find_metric(name).values(trial), find_metric(name).values(whole))


def test_fewer_classes_than_k_is_an_error():
    with pytest.raises(AblateError, match="top_5_accuracy needs 5 classes or more; there are 4"):
        find_metric("top_5_accuracy").score(one_trial(0))
    with pytest.raises(AblateError, match="'top_5_accuracy' needs 5 classes or more, and these data have 3"):
        find_metric("top_5_accuracy", ["a", "b", "c"])
    assert find_metric("top_4_accuracy").score(one_trial(0)) == 1.0


def test_metric_values_has_a_row_per_trial_in_order_and_looks_at_one_split(study: Tables):
    _, predictions = study
    test = predictions[predictions["variant"] == "baseline"].assign(split="test", pred=0, target=0)
    both = pd.concat([predictions, test])
    found = metric_values(both, ["accuracy", "log_loss"])
    assert list(found.columns) == ["variant", "seed", "fold", "accuracy", "log_loss"]
    assert list(found["variant"].unique()) == ["baseline", "baseline+mixup", "baseline+tta"]
    assert len(found) == 12
    one = predictions[(predictions["variant"] == "baseline+mixup") & (predictions["seed"] == 2)]
    row = found[(found["variant"] == "baseline+mixup") & (found["seed"] == 2)]
    assert row["accuracy"].item() == reference.accuracy_score(one["target"], one["pred"])
    assert metric_values(both, ["accuracy"], split="test")["accuracy"].tolist() == [1.0] * 4


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
        (lambda table: table.assign(target=table["target"].map({0: "a", 1: "b", 2: "c"})), "classes alike"),
        (lambda table: table.assign(target=table["target"].astype(str), pred="1"), "class codes"),
        (lambda table: table.drop(columns=["pred"]), "no column pred"),
    ],
)
def test_predictions_that_cannot_be_scored_say_why(
    study: Tables, change: Callable[[pd.DataFrame], pd.DataFrame], message: str
):
    with pytest.raises(AblateError, match=message):
        metric_values(change(study[1]), ["log_loss"])


def test_an_unknown_metric_lists_the_known_ones():
    with pytest.raises(AblateError, match=r"'acuracy'.*accuracy, balanced_accuracy, recall"):
        find_metric("acuracy")
