"""What trials predicted, counted, against scikit-learn and by hand."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from many_classes import draw_many_classes
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support, recall_score

from ablate.analysis import outcomes as module
from ablate.analysis.metrics import metric_values
from ablate.analysis.outcomes import Outcomes, read_outcomes

Tables = tuple[pd.DataFrame, pd.DataFrame]


def outcomes_of(folder: Path, trials: pd.DataFrame, predictions: pd.DataFrame) -> Outcomes:
    predictions.to_parquet(folder / "predictions.parquet")
    found = read_outcomes(folder / "predictions.parquet", trials)
    assert found is not None
    return found


def rows_of(predictions: pd.DataFrame, variant: str) -> pd.DataFrame:
    return predictions[predictions["variant"] == variant]


def test_recalls_and_confusions_are_those_of_scikit_learn(tmp_path: Path, study: Tables):
    found = outcomes_of(tmp_path, *study)
    assert found.variants == ["baseline", "baseline+mixup", "baseline+tta"]
    assert found.trials.tolist() == [4, 4, 4]
    for number, variant in enumerate(found.variants):
        rows = rows_of(study[1], variant)
        expected = recall_score(rows["target"], rows["pred"], average=None)
        assert found.recalls()[number] == pytest.approx(expected)
        expected = confusion_matrix(rows["target"], rows["pred"], normalize="true")
        assert found.confusion(variant) == pytest.approx(expected)
        precision, recall, f1, _ = precision_recall_fscore_support(rows["target"], rows["pred"])
        assert found.class_report(variant) == pytest.approx(np.stack([precision, recall, f1], axis=1))


def test_a_class_that_is_missing_has_no_recall(tmp_path: Path, study: Tables):
    study[1].to_parquet(tmp_path / "p.parquet")
    found = read_outcomes(tmp_path / "p.parquet", study[0], classes=5)
    assert found is not None
    assert np.isnan(found.recalls()[:, 3:]).all()
    assert np.isnan(found.confusion("baseline")[3:]).all()
    assert np.isnan(found.class_report("baseline")[3:]).all()
    assert found.class_counts.sum() == 60
    assert found.class_counts[3:].tolist() == [0, 0]


def test_mistakes_are_counted_per_trial(tmp_path: Path, study: Tables):
    table = outcomes_of(tmp_path, *study).mistakes().set_index(["target", "pred"])
    wrong = study[1][study[1]["target"] != study[1]["pred"]]
    expected = wrong.groupby(["target", "pred", "variant"]).size().unstack() / 4
    for variant in table:
        assert table[variant].sort_index().to_numpy() == pytest.approx(expected[variant].to_numpy())
    assert table.max(axis=1).is_monotonic_decreasing


def test_only_finished_validation_predictions_count(tmp_path: Path, study: Tables):
    trials, predictions = study
    test = predictions.assign(split="test", pred=predictions["target"])
    found = outcomes_of(tmp_path, trials.iloc[1:], pd.concat([predictions, test], ignore_index=True))
    kept = predictions[(predictions["variant"] != "baseline") | (predictions["seed"] != 0)]
    assert len(found.pred) == len(kept)
    assert found.hit.mean() == pytest.approx((kept["target"] == kept["pred"]).mean())
    assert found.trials.tolist() == [3, 4, 4]


def test_nothing_finished_is_nothing(tmp_path: Path, study: Tables):
    study[1].to_parquet(tmp_path / "p.parquet")
    assert read_outcomes(tmp_path / "p.parquet", study[0].iloc[:0]) is None


def test_the_order_of_rows_changes_nothing(tmp_path: Path, study: Tables):
    trials, predictions = study
    first = outcomes_of(tmp_path, trials, predictions)
    mixed = outcomes_of(tmp_path, trials, predictions.sample(frac=1, random_state=0))
    assert mixed.variants == first.variants
    assert np.array_equal(mixed.recalls(), first.recalls())
    assert np.allclose(mixed.calibration_errors(), first.calibration_errors())


def by_hand(confidence: np.ndarray, hit: np.ndarray) -> float:
    edges = np.linspace(0, 1, 16)
    total = 0.0
    for low, high in pairwise(edges):
        inside = (confidence > low) & (confidence <= high)
        if inside.any():
            total += inside.sum() * abs(confidence[inside].mean() - hit[inside].mean())
    return total / len(confidence)


@pytest.mark.parametrize("at_once", [1, 10**9])
def test_the_calibration_error_is_the_mean_over_trials(
    tmp_path: Path, study: Tables, monkeypatch: pytest.MonkeyPatch, at_once: int
):
    monkeypatch.setattr(module, "MOST_VALUES", at_once)
    trials, predictions = study
    found = outcomes_of(tmp_path, trials, predictions)
    for number, variant in enumerate(found.variants):
        errors = []
        for _, rows in rows_of(predictions, variant).groupby("seed"):
            p = rows[["p_0", "p_1", "p_2"]].to_numpy().astype(np.float32).max(axis=1).astype(float)
            errors.append(by_hand(p, (rows["target"] == rows["pred"]).to_numpy()))
        assert found.calibration_errors()[number] == pytest.approx(np.mean(errors), abs=1e-6)


def test_reliability_adds_up_to_all_predictions(tmp_path: Path, study: Tables):
    table = outcomes_of(tmp_path, *study).reliability("baseline")
    rows = rows_of(study[1], "baseline")
    assert table["count"].sum() == len(rows)
    right = (table["accuracy"] * table["count"]).sum()
    assert right == pytest.approx((rows["target"] == rows["pred"]).sum())
    assert table["confidence"].is_monotonic_increasing


def test_without_probabilities_there_is_no_confidence(tmp_path: Path, study: Tables):
    trials, predictions = study
    found = outcomes_of(tmp_path, trials, predictions.drop(columns=["p_0", "p_1", "p_2"]))
    assert found.confidence is None


def test_the_images_that_change_most_come_first(tmp_path: Path, tables: Callable[..., Tables]):
    trials, predictions = tables({"baseline": 1.0, "baseline+a": 1.0}, seeds=2, items=5)
    target = predictions["target"]
    wrong = (target + 1) % 3
    change = {"img_0_0003": (0, 1), "img_0_0001": (0,)}  # in these seeds of the second variant
    for row in predictions.index:
        item, seed = predictions.loc[row, "item"], predictions.loc[row, "seed"]
        other = predictions.loc[row, "variant"] == "baseline+a" and seed in change.get(item, ())
        predictions.loc[row, "pred"] = wrong[row] if other else target[row]
    found = outcomes_of(tmp_path, trials, predictions)
    most = found.most_changed("baseline", 10)
    assert [found.items[item] for item in most] == ["img_0_0003", "img_0_0001"]
    assert found.most_changed("baseline", 1) == most[:1]
    right = found.target_of(most[1])
    votes = found.votes(most)[most[1]]
    assert votes["baseline"] == [(right, 2)]
    assert sorted(votes["baseline+a"]) == sorted([(right, 1), ((right + 1) % 3, 1)])
    assert found.most_changed("no such variant", 10) == []


def test_above_1000_classes_the_confidence_is_the_top_classs_probability(tmp_path: Path):
    trials, predictions = draw_many_classes({"baseline": 0.6, "baseline+a": 0.7}, 1500, items=300)
    found = outcomes_of(tmp_path, trials, predictions)
    assert found.confidence is not None
    assert found.confidence.tolist() == predictions["p_top_1"].tolist()
    expected = metric_values(predictions, ["expected_calibration_error"])
    by_variant = expected.groupby("variant")["expected_calibration_error"].mean()
    assert found.calibration_errors() == pytest.approx(by_variant[found.variants].to_numpy())


def test_the_most_probable_classes_alone_give_no_confidence(tmp_path: Path, study: Tables):
    trials, predictions = study
    found = outcomes_of(tmp_path, trials, predictions.assign(p_target=0.5, rank_target=1))
    assert found.confidence is None
