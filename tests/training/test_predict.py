"""Predictions: what fastai gives for the same items, in the order asked for, written as the contract says."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from sklearn.metrics import top_k_accuracy_score

from ablate.streams import Streams
from ablate.techniques import build
from ablate.training.data import dataloaders
from ablate.training.learner import build_learner, quiet
from ablate.training.predict import (
    AT_ONCE,
    chunks,
    kept_columns,
    predict,
    predicted_columns,
    write_predictions,
)


def test_plain_predictions_are_fastais_get_preds(parts):
    made = parts()
    learn = quiet(build_learner(made, dataloaders(made)))
    items = made.side("valid")
    ours = predict(learn, made, items, Streams(0, "predict"))
    assert np.allclose(ours, learn.get_preds()[0].numpy(), atol=1e-6)
    backwards = predict(learn, made, items[::-1], Streams(0, "predict"))
    assert np.allclose(backwards, ours[::-1], atol=1e-6)


def test_views_draw_from_the_streams_of_prediction(parts):
    made = parts()
    made = dataclasses.replace(made, on={**made.on, "tta": build("tta", {"n": 2, "transforms": "augment"})})
    learn = quiet(build_learner(made, dataloaders(made)))
    items = made.side("valid")
    one, same, other = (predict(learn, made, items, Streams(seed, "predict")) for seed in (1, 1, 2))
    assert np.array_equal(one, same)
    assert not np.allclose(one, other, atol=1e-6)


def test_the_file_has_the_columns_of_the_contract(parts, tmp_path: Path):
    items = parts().side("valid")
    probabilities = np.random.default_rng(0).dirichlet(np.ones(3), len(items)).astype(np.float32)
    targets = np.array([item.target for item in items])
    write_predictions(tmp_path, items, kept_columns(probabilities, targets))
    table = pq.read_table(tmp_path / "predictions.parquet").to_pydict()
    assert list(table) == ["item", "group", "target", "pred", "p_0", "p_1", "p_2"]
    assert table["pred"] == probabilities.argmax(1).tolist()
    assert np.allclose(table["p_2"], probabilities[:, 2])


def draw_many(n: int, n_classes: int, digits: int) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of many classes, many of them equal after rounding, and targets."""
    rng = np.random.default_rng(n_classes)
    probabilities = rng.dirichlet(np.full(n_classes, 0.05), n).round(digits).astype(np.float32)
    return probabilities, rng.integers(0, n_classes, n)


@pytest.mark.parametrize("n_classes", [1001, 1500])
def test_above_a_thousand_classes_the_top_ten_and_the_targets_are_kept(n_classes: int):
    probabilities, targets = draw_many(40, n_classes, 3)
    columns = kept_columns(probabilities, targets)
    assert list(columns) == [
        "pred",
        *(f"top_{i}" for i in range(1, 11)),
        *(f"p_top_{i}" for i in range(1, 11)),
        "p_target",
        "rank_target",
    ]
    assert columns["pred"].tolist() == probabilities.argmax(1).tolist()
    assert columns["p_target"].tolist() == [row[t] for row, t in zip(probabilities, targets, strict=True)]
    for row, target, i in zip(probabilities, targets, range(40), strict=True):
        order = sorted(range(n_classes), key=lambda k, row=row: (-row[k], -k))
        assert [columns[f"top_{j}"][i] for j in range(1, 11)] == order[:10]
        assert [columns[f"p_top_{j}"][i] for j in range(1, 11)] == row[order[:10]].tolist()
        assert columns["rank_target"][i] == order.index(target) + 1


def test_ranks_give_scikit_learns_top_k_accuracy():
    probabilities, targets = draw_many(200, 1200, 4)
    rank = kept_columns(probabilities, targets)["rank_target"]
    for k in (1, 2, 10, 100, 1000):
        expected = top_k_accuracy_score(targets, probabilities, k=k, labels=range(1200))
        assert np.mean(rank <= k) == pytest.approx(expected)


def test_up_to_a_thousand_classes_all_are_kept():
    columns = kept_columns(*draw_many(5, 1000, 6))
    assert list(columns) == ["pred", *(f"p_{k}" for k in range(1000))]


@pytest.mark.parametrize(
    ("n_items", "n_classes", "batch_size"), [(1000, 81_313, 64), (316_000, 5, 64), (5000, 81_313, 1024)]
)
def test_chunks_are_whole_batches_and_bounded(n_items: int, n_classes: int, batch_size: int):
    parts = list(chunks(n_items, n_classes, batch_size))
    assert [range(n_items)[part][0] for part in parts] == list(range(0, n_items, parts[0].stop))
    assert range(n_items)[parts[-1]][-1] == n_items - 1
    assert parts[0].stop % batch_size == 0
    assert parts[0].stop * n_classes <= max(AT_ONCE, batch_size * n_classes)


def test_chunks_give_the_same_bits_as_one_piece(parts, monkeypatch: pytest.MonkeyPatch):
    made = parts(batch_size=2)
    made = dataclasses.replace(made, on={**made.on, "tta": build("tta", {"n": 2, "transforms": "augment"})})
    learn = quiet(build_learner(made, dataloaders(made)))
    items = made.side("valid")
    whole = predict(learn, made, items, Streams(0, "predict"))
    asked: list[int] = []

    def seen(learn: Any, parts: Any, items: Any, streams: Any) -> np.ndarray:
        asked.append(len(items))
        return predict(learn, parts, items, streams)

    monkeypatch.setattr("ablate.training.predict.AT_ONCE", 4 * 3)
    monkeypatch.setattr("ablate.training.predict.predict", seen)
    columns = predicted_columns(learn, made, items, Streams(0, "predict"))
    assert columns is not None
    assert asked == [4, 2]
    assert np.array_equal(np.stack([columns[f"p_{k}"] for k in range(3)], axis=1), whole)
    assert columns["pred"].tolist() == whole.argmax(1).tolist()


def test_predictions_that_are_not_finite_are_not_kept(parts):
    made = parts()
    learn = quiet(build_learner(made, dataloaders(made)))
    with torch.no_grad():
        next(learn.model.parameters()).fill_(float("nan"))
    assert predicted_columns(learn, made, made.side("valid"), Streams(0, "predict")) is None
