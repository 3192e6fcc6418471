"""What the tables of a study say of its trials, and which predictions people are shown."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import confusion_matrix

from ablate.tracking.outputs import Outputs, confused, shown_items

NAMES = ["cat", "dog", "fox"]


@pytest.fixture
def predicted() -> pd.DataFrame:
    """Forty items of three classes."""
    rng = np.random.default_rng(0)
    chances = rng.dirichlet([1, 1, 1], 40)
    table = pd.DataFrame({"item": [f"{i}.jpg" for i in range(40)], "target": rng.integers(0, 3, 40)})
    table["pred"] = chances.argmax(1)
    return table.assign(**{f"p_{k}": chances[:, k] for k in range(3)})


def test_the_worst_mistakes_come_first_then_right_ones_at_even_distances(predicted: pd.DataFrame) -> None:
    shown = pd.DataFrame(shown_items(predicted, NAMES, limit=10))
    chance = predicted.to_numpy()[np.arange(40), 3 + predicted["target"]].astype(float)
    wrong = predicted[predicted["target"] != predicted["pred"]]
    worst = wrong["item"].to_numpy()[np.argsort(chance[wrong.index], kind="stable")]
    assert shown["item"].tolist()[:5] == worst[:5].tolist()
    assert shown["right"].tolist() == [False] * 5 + [True] * 5
    assert shown["p_target"].tolist()[:5] == sorted(chance[wrong.index])[:5]
    assert (shown["p_pred"] >= shown["p_target"]).all()
    assert set(shown["target"]) <= set(NAMES)
    right = predicted.index[predicted["target"] == predicted["pred"]]
    assert shown["item"].tolist()[5::4] == [f"{right[0]}.jpg", f"{right[-1]}.jpg"]


def test_few_predictions_are_shown_all(predicted: pd.DataFrame) -> None:
    assert sorted(shown_items(predicted, NAMES)["item"]) == sorted(predicted["item"])
    assert len(shown_items(predicted.iloc[:1], NAMES)["item"]) == 1


def test_predictions_of_very_many_classes_are_shown_too(predicted: pd.DataFrame) -> None:
    few = predicted.drop(columns=["p_0", "p_1", "p_2"]).assign(p_target=0.25, rank_target=2, p_top_1=0.5)
    shown = shown_items(few, NAMES)
    assert set(shown["p_target"]) == {0.25}
    assert set(shown["p_pred"]) == {0.5}


def test_confused_pairs_are_those_of_the_confusion_matrix(predicted: pd.DataFrame) -> None:
    matrix = confusion_matrix(predicted["target"], predicted["pred"])
    found = {(true, pred): (count, share) for true, pred, count, share in confused(predicted, NAMES)}
    for i, true in enumerate(NAMES):
        for j, pred in enumerate(NAMES):
            if i != j and matrix[i, j]:
                assert found.pop((true, pred)) == (matrix[i, j], matrix[i, j] / matrix[i].sum())
    assert not found
    counts = [row[2] for row in confused(predicted, NAMES)]
    assert counts == sorted(counts, reverse=True)
    assert len(confused(predicted, NAMES, limit=2)) == 2


def test_status_scores_and_predictions_of_a_study(untold: Path) -> None:
    outputs = Outputs(untold, ["label_smoothing"])
    key = ("baseline", 0, 0)
    assert outputs.status(key) == "pending"
    assert not outputs.settled
    outputs.refresh()
    row = pd.read_csv(untold / "trials.csv").iloc[0]
    assert outputs.status(key) == "ok"
    assert outputs.settled
    scores = outputs.scores(key)
    assert scores["score_accuracy"] == row["accuracy"]
    assert scores["train_seconds"] == row["train_seconds"]
    assert set(scores) == {"score_accuracy", "score_balanced_accuracy", "score_log_loss", "train_seconds"}
    table = outputs.predictions(key)
    assert table is not None
    assert (table["target"] == table["pred"]).mean() == pytest.approx(row["accuracy"])
    assert outputs.predictions(("none", 0, 0)) is None


def test_tables_that_are_just_being_written_are_waited_for(tmp_path: Path) -> None:
    (tmp_path / "predictions.parquet").write_bytes(b"")
    (tmp_path / "trials.csv").write_text("variant,seed,fold,accuracy,status\nbaseline,0,0,,failed\n")
    os.utime(tmp_path / "predictions.parquet", (1, 1))
    outputs = Outputs(tmp_path, [])
    outputs.refresh()
    assert not outputs.settled
    assert outputs.status(("baseline", 0, 0)) == "failed"
    assert outputs.scores(("baseline", 0, 0)) == {}
    (tmp_path / "trials.csv").unlink()  # another plan
    outputs.refresh()
    assert outputs.status(("baseline", 0, 0)) == "pending"
