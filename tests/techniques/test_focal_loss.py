"""Focal loss against torchvision's, the formula worked by hand and a notebook's own Keras function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import sigmoid_focal_loss

from ablate.errors import AblateError
from ablate.techniques.base import Context
from ablate.techniques.focal_loss import FocalLoss, focal
from ablate.training.losses import CrossEntropy
from ablate.training.output import SigmoidOutput


def context_for(n_classes: int, make_parts: Callable) -> Context:
    return replace(make_parts().context, n_classes=n_classes)


def batch(n_classes: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(64, n_classes, generator=generator, dtype=torch.float64)
    return logits.to(dtype).requires_grad_(), torch.randint(n_classes, (64,), generator=generator)


def by_hand(z: np.ndarray, y: np.ndarray, gamma: float, alpha: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """−α_y (1 − p_y)^γ log p_y for each item, and its derivative by the logits, worked out on paper."""
    p = np.exp(z - z.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    own, a = p[np.arange(len(y)), y], alpha[y]
    loss = -a * (1 - own) ** gamma * np.log(own)
    by_p = a * (gamma * (1 - own) ** (gamma - 1) * np.log(own) - (1 - own) ** gamma / own)
    return loss, (by_p * own)[:, None] * (np.eye(z.shape[1])[y] - p)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0, 5.0])
@pytest.mark.parametrize("alpha", [None, [0.25, 1.0, 3.0, 0.0]])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-7), (torch.float32, 1e-6)])
def test_it_is_the_formula_worked_by_hand(
    gamma: float, alpha: list[float] | None, dtype: torch.dtype, tolerance: float, make_parts: Callable
):
    logits, target = batch(4, dtype)
    loss = FocalLoss(gamma=gamma, alpha=alpha).loss(None, context_for(4, make_parts))
    weights = np.ones(4) if alpha is None else np.array(alpha)
    expected, gradient = by_hand(logits.detach().double().numpy(), target.numpy(), gamma, weights)
    value = loss(logits, target)
    assert float(value) == pytest.approx(expected.mean(), abs=tolerance)
    ours = torch.autograd.grad(value, logits)[0].double().numpy()
    np.testing.assert_allclose(ours, gradient / 64, rtol=0, atol=tolerance)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize(("gamma", "alpha"), [(2.0, 0.8), (2.0, 0.25), (0.0, 0.5), (1.5, None)])
def test_with_one_sigmoid_output_it_is_torchvisions(
    gamma: float, alpha: float | None, reduction: Any, make_parts: Callable
):
    torch.manual_seed(0)
    layer, x = SigmoidOutput(nn.Linear(6, 2)), 2 * torch.randn(40, 6)
    target = torch.randint(2, (40,))
    loss = FocalLoss(gamma=gamma, alpha=alpha, reduction=reduction).loss(None, context_for(2, make_parts))
    ours = loss(layer(x), target)
    z = layer.logit(x)[:, 0]
    expected = sigmoid_focal_loss(z, target.float(), -1 if alpha is None else alpha, gamma, reduction)
    torch.testing.assert_close(ours, expected, rtol=1e-6, atol=1e-6)
    weight = layer.logit.weight
    gradients = [torch.autograd.grad(value, weight)[0] for value in (ours, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-6, atol=2e-6)


def test_it_is_the_notebooks_sum(make_parts: Callable):
    """gamma 2, alpha 0.8, summed over the batch: a Keras function over sigmoids, clipped at 1e-7."""
    z, target = batch(1, torch.float64)[0][:, 0].detach(), batch(2)[1]
    logits = functional.pad(z[:, None], (1, 0)).requires_grad_()
    p, y = 1 / (1 + np.exp(-z.numpy())), target.numpy()
    where_1 = np.clip(np.where(y == 1, p, 1), 1e-7, 1 - 1e-7)
    where_0 = np.clip(np.where(y == 0, p, 0), 1e-7, 1 - 1e-7)
    expected = -np.sum(0.8 * (1 - where_1) ** 2 * np.log(where_1))
    expected -= np.sum(0.2 * where_0**2 * np.log(1 - where_0))
    ours = FocalLoss(gamma=2, alpha=0.8, reduction="sum").loss(None, context_for(2, make_parts))
    assert float(ours(logits, target)) == pytest.approx(expected, abs=1e-6)


def test_no_gamma_is_cross_entropy(make_parts: Callable):
    logits, target = batch(5)
    loss = FocalLoss(gamma=0).loss(None, context_for(5, make_parts))
    assert torch.equal(loss(logits, target), CrossEntropy()(logits, target))


@pytest.mark.parametrize("gamma", [0.0, 0.1, 0.5, 1.0, 2.0])
def test_certainty_has_a_gradient(gamma: float):
    log_p = torch.tensor([0.0, -1e-30, -1e-7, -1e-3, -100.0], requires_grad=True)
    loss = focal(log_p, gamma)
    (gradient,) = torch.autograd.grad(loss.sum(), log_p)
    assert loss.isfinite().all()
    assert gradient.isfinite().all()
    assert loss[0] == 0


@pytest.mark.parametrize(
    ("alpha", "n_classes", "message"),
    [
        (0.8, 3, "focal_loss.alpha: is one number, for 2 classes, but there are 3 classes; give a list of 3"),
        ([0.2, 0.8], 10, "focal_loss.alpha: has 2 numbers, but there are 10 classes; give a list of 10"),
    ],
)
def test_alpha_of_another_number_of_classes(alpha: Any, n_classes: int, message: str, make_parts: Callable):
    with pytest.raises(AblateError, match=message):
        FocalLoss(alpha=alpha).loss(None, context_for(n_classes, make_parts))


@pytest.mark.parametrize(
    "options",
    [
        {"gamma": -1},
        {"alpha": 0},
        {"alpha": 1.0},
        {"alpha": [1.0, -1]},
        {"alpha": "x"},
        {"reduction": "none"},
    ],
)
def test_impossible_options(options: dict[str, object]):
    with pytest.raises(ValidationError, match=next(iter(options))):
        FocalLoss.model_validate(options)
