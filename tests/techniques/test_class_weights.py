"""Class weights against scikit-learn's and torch's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from fastai.losses import BCEWithLogitsLossFlat, CrossEntropyLossFlat
from pydantic import ValidationError
from sklearn.utils.class_weight import compute_class_weight
from torch import nn

from ablate.errors import AblateError
from ablate.techniques import compose
from ablate.techniques.base import Context, Technique
from ablate.techniques.bce_loss import BCELoss
from ablate.techniques.class_weights import ClassWeights, balanced_weights
from ablate.techniques.focal_loss import FocalLoss
from ablate.techniques.label_smoothing import LabelSmoothing
from ablate.training.data import dataloaders
from ablate.training.learner import build_learner, quiet

TARGETS = np.array([0] * 50 + [1] * 7 + [2] * 20 + [3])
NAMES = ["ant", "bee", "cat", "dog"]
WEIGHTS = [0.5, 2.0, 0.0, 3.0]


@pytest.fixture
def context(make_parts: Callable) -> Context:
    return replace(make_parts().context, n_classes=4, classes=NAMES, train_targets=TARGETS)


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(64, 4, generator=generator)
    return logits.requires_grad_(), torch.randint(4, (64,), generator=generator)


def test_balanced_weights_are_scikit_learns():
    ours = balanced_weights(TARGETS, NAMES)
    np.testing.assert_allclose(ours, compute_class_weight("balanced", classes=np.arange(4), y=TARGETS))
    assert ours[TARGETS].mean() == pytest.approx(1)


@pytest.mark.parametrize("weights", ["balanced", WEIGHTS])
@pytest.mark.parametrize("eps", [None, 0.0, 0.1])
def test_the_loss_of_each_item_is_torchs(weights: Any, eps: float | None, context: Context):
    logits, target = batch()
    on: list[Technique] = [ClassWeights(weights=weights)] + ([] if eps is None else [LabelSmoothing(eps=eps)])
    loss = compose.loss(on, CrossEntropyLossFlat(), context)
    by_class = balanced_weights(TARGETS, NAMES) if weights == "balanced" else weights
    torchs = nn.CrossEntropyLoss(torch.tensor(by_class).float(), reduction="none", label_smoothing=eps or 0.0)
    expected = torchs(logits, target)
    torch.testing.assert_close(loss.of(logits, target), expected)
    ours = loss(logits, target)
    torch.testing.assert_close(ours, expected.sum() / len(target))  # as Keras: not by the weights' sum
    gradients = [torch.autograd.grad(value, logits)[0] for value in (ours, expected.mean())]
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-7)


def test_they_weigh_whichever_loss_is_on(context: Context):
    logits, target = batch()
    for other in (FocalLoss(), BCELoss(), FocalLoss(alpha=[1.0, 2.0, 3.0, 4.0], reduction="sum")):
        alone = compose.loss([other], CrossEntropyLossFlat(), context)
        loss = compose.loss([ClassWeights(weights=WEIGHTS), other], CrossEntropyLossFlat(), context)
        expected = torch.tensor(WEIGHTS)[target] * alone.of(logits, target)
        torch.testing.assert_close(loss.of(logits, target), expected)
        assert loss.reduction == alone.reduction
        assert torch.equal(loss.activation(logits), alone.activation(logits))


def test_they_come_from_the_training_items(make_parts: Callable):
    parts = make_parts(ClassWeights())
    learn = quiet(build_learner(parts, dataloaders(parts)))
    targets = parts.items.targets[parts.fold.train]
    expected = compute_class_weight("balanced", classes=np.arange(10), y=targets)
    np.testing.assert_allclose(learn.loss_func.weights.numpy(), expected, rtol=1e-6)
    learn.fit(1)
    assert np.isfinite(learn.recorder.values[0]).all()


def test_a_list_of_another_length(context: Context):
    message = "weights: has 2 numbers, but there are 4 classes; give one for each of ant, bee, cat, dog."
    with pytest.raises(AblateError, match=message):
        ClassWeights(weights=[1, 2]).loss(CrossEntropyLossFlat(), context)


def test_a_class_without_training_images(context: Context):
    without = replace(context, train_targets=TARGETS[:50])
    with pytest.raises(AblateError, match="class_weights: class 'bee' has no training images, so balanced"):
        ClassWeights().loss(CrossEntropyLossFlat(), without)
    assert ClassWeights(weights=WEIGHTS).loss(CrossEntropyLossFlat(), without)


def test_a_loss_from_elsewhere(context: Context):
    with pytest.raises(AblateError, match="class_weights: cannot act on BCEWithLogitsLossFlat"):
        ClassWeights().loss(BCEWithLogitsLossFlat(), context)


@pytest.mark.parametrize("weights", ["even", [-1.0], ["a"], None, {"ant": 2}])
def test_impossible_options(weights: object):
    with pytest.raises(ValidationError, match="weights"):
        ClassWeights.model_validate({"weights": weights})
