"""Metrics of validation after each epoch: those of scikit-learn and of fastai."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from fastai.metrics import RocAuc, RocAucBinary
from fastai.torch_core import to_detach
from hypothesis import assume, given
from hypothesis import strategies as st
from sklearn import metrics as sklearn

from ablate.analysis.metrics import find_metric
from ablate.analysis.predicted import Predicted
from ablate.errors import AblateError
from ablate.training.data import dataloaders
from ablate.training.learner import build_learner, quiet
from ablate.training.monitors import ValidationMetric
from ablate.training.predict import kept_columns


def measured(
    metric: Any, logits: np.ndarray, target: np.ndarray, batch: int = 3, n: int | None = None
) -> Any:
    """A metric over some batches, as fastai's recorder takes it."""
    metric.reset()
    for start in range(0, len(target), batch):
        part = slice(start, start + batch)
        learn = SimpleNamespace(
            pred=torch.tensor(logits[part]),
            y=torch.tensor(target[part]),
            yb=(torch.tensor(target[part]),),
            dl=SimpleNamespace(n=n or len(target)),
            to_detach=to_detach,
            loss_func=None,
        )
        metric.accumulate(learn)
    return metric.value


@given(n=st.integers(4, 30), k=st.integers(2, 4), seed=st.integers(0, 999), batch=st.integers(1, 8))
def test_metrics_are_scikit_learns(n: int, k: int, seed: int, batch: int) -> None:
    rng = np.random.default_rng(seed)
    logits, target = rng.normal(size=(n, k)), rng.integers(k, size=n)
    assume(len(set(target.tolist())) == k)
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    scores = shares[:, 1] if k == 2 else shares
    expected = {
        "roc_auc": sklearn.roc_auc_score(target, scores, multi_class="ovr", average="macro"),
        "balanced_accuracy": sklearn.balanced_accuracy_score(target, logits.argmax(1)),
        "log_loss": sklearn.log_loss(target, shares, labels=range(k)),
    }
    for name, value in expected.items():
        assert measured(ValidationMetric(name), logits, target, batch) == pytest.approx(value, rel=1e-6)


@pytest.mark.parametrize("k", [2, 3])
def test_roc_auc_is_fastais(k: int) -> None:
    rng = np.random.default_rng(k)
    logits, target = rng.normal(size=(40, k)), rng.integers(k, size=40)
    theirs = measured(RocAucBinary() if k == 2 else RocAuc(), logits, target)
    assert measured(ValidationMetric("roc_auc"), logits, target) == pytest.approx(theirs)


def test_it_is_not_defined_on_a_single_class() -> None:
    logits, target = np.random.default_rng(0).normal(size=(5, 2)), np.ones(5, int)
    with pytest.raises(AblateError, match=r"^monitor: roc_auc is not defined on the validation images"):
        measured(ValidationMetric("roc_auc"), logits, target)
    # the one batch of a preflight may well be of a single class, and a network that diverged is no mistake
    assert np.isnan(measured(ValidationMetric("roc_auc"), logits, target, n=60))
    assert np.isnan(measured(ValidationMetric("roc_auc"), np.full((5, 2), np.nan), target))


def test_without_validation_there_is_no_value() -> None:
    metric = ValidationMetric("roc_auc")
    metric.reset()
    assert metric.value is None


@pytest.mark.parametrize(
    ("name", "said"), [("auc", "There is no metric 'auc'"), ("top_5_accuracy", "needs 5 classes or more")]
)
def test_metrics_that_there_are_not(name: str, said: str) -> None:
    with pytest.raises(AblateError, match=said):
        ValidationMetric(name, ["cat", "dog"])


def test_it_is_a_column_of_the_history(parts: Callable[..., Any]) -> None:
    made = parts(on=("early_stopping",), techniques={"early_stopping": {"monitor": "roc_auc"}})
    learn = quiet(build_learner(made, dataloaders(made)))
    learn.fit(2, 1e-3)
    assert list(learn.recorder.metric_names) == [
        *("epoch", "train_loss", "valid_loss", "accuracy", "roc_auc", "time")
    ]
    shares, target = learn.get_preds()
    expected = sklearn.roc_auc_score(target.numpy(), shares.numpy(), multi_class="ovr")
    assert learn.recorder.values[-1][-1] == pytest.approx(expected)


@pytest.mark.parametrize("name", ["log_loss", "top_10_accuracy", "balanced_accuracy"])
def test_with_many_classes_the_metric_is_that_of_what_predictions_keep(name: str) -> None:
    rng = np.random.default_rng(0)
    logits, target = rng.normal(size=(50, 1100)).round(1).astype(np.float32), rng.integers(1100, size=50)
    metric = ValidationMetric(name)
    shares = torch.tensor(logits).softmax(1).numpy()
    kept = pd.DataFrame(kept_columns(shares, target)).assign(target=target)
    expected = find_metric(name).score(Predicted.read(kept))
    assert measured(metric, logits, target, batch=8) == pytest.approx(expected, abs=1e-6)
    assert all(column.ndim == 1 for part in metric.seen for column in part.values())
