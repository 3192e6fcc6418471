"""Predictions: what fastai gives for the same items, in the order asked for, written as the contract says."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from ablate.streams import Streams
from ablate.techniques import build
from ablate.training.data import dataloaders
from ablate.training.learner import build_learner, quiet
from ablate.training.predict import predict, write_predictions


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
    write_predictions(tmp_path, items, probabilities)
    table = pq.read_table(tmp_path / "predictions.parquet").to_pydict()
    assert list(table) == ["item", "group", "target", "pred", "p_0", "p_1", "p_2"]
    assert table["pred"] == probabilities.argmax(1).tolist()
    assert np.allclose(table["p_2"], probabilities[:, 2])
