"""One-against-all binary cross-entropy against timm's, smoothing included."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from fastai.losses import CrossEntropyLossFlat
from timm.loss.binary_cross_entropy import BinaryCrossEntropy
from torch import Tensor
from torch.nn import functional

from ablate.techniques import compose
from ablate.techniques.base import Technique
from ablate.techniques.bce_loss import BCELoss
from ablate.techniques.label_smoothing import LabelSmoothing
from ablate.training.data import dataloaders
from ablate.training.learner import build_learner, quiet
from ablate.training.mixing import MixedLoss

K = 10


def batch(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = 4 * torch.randn(64, K, generator=generator, dtype=torch.float64)
    return logits.to(dtype).requires_grad_(), torch.randint(K, (64,), generator=generator)


def composed(context: Any, *on: Technique) -> Any:
    return compose.loss(on, CrossEntropyLossFlat(), context)


def assert_same(ours: Tensor, expected: Tensor, logits: Tensor) -> None:
    torch.testing.assert_close(ours, expected, rtol=1e-6, atol=1e-6)
    gradients = [torch.autograd.grad(value, logits)[0] for value in (ours, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("sum_classes", [False, True])
@pytest.mark.parametrize("eps", [None, 0.0, 0.1, 0.5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_it_is_timms(eps: float | None, sum_classes: bool, dtype: torch.dtype, make_parts: Callable):
    logits, target = batch(dtype)
    smoothing = [] if eps is None else [LabelSmoothing(eps=eps)]
    ours = composed(make_parts().context, BCELoss(sum_classes=sum_classes), *smoothing)
    timms = BinaryCrossEntropy(smoothing=eps or 0.0, sum_classes=sum_classes)
    assert_same(ours(logits, target), timms(logits, target), logits)


@pytest.mark.parametrize("sum_classes", [False, True])
def test_mixed_it_is_timms_of_the_soft_target(sum_classes: bool, make_parts: Callable):
    logits, target = batch()
    partner, share = target.flip(0), torch.rand(64)
    soft = torch.lerp(
        functional.one_hot(partner, K).float(), functional.one_hot(target, K).float(), share[:, None]
    )
    ours = MixedLoss(BCELoss(sum_classes=sum_classes).loss(None, make_parts().context))
    timms = BinaryCrossEntropy(smoothing=0.0, sum_classes=sum_classes)
    assert_same(ours(logits, target, partner, share), timms(logits, soft), logits)


def test_probabilities_are_sigmoids_that_sum_to_one(make_parts: Callable):
    parts = make_parts(BCELoss())
    learn = quiet(build_learner(parts, dataloaders(parts)))
    logits = learn.get_preds(act=lambda raw: raw)[0]
    probabilities, _, decoded = learn.get_preds(with_decoded=True)
    sigmoids = logits.sigmoid()
    torch.testing.assert_close(probabilities, sigmoids / sigmoids.sum(1, keepdim=True))
    assert torch.equal(decoded, logits.argmax(1))
    far = learn.loss_func.activation(torch.tensor([[-300.0, -310.0, -400.0]]))  # where all sigmoids are 0
    torch.testing.assert_close(far, torch.tensor([[-300.0, -310.0, -400.0]]).softmax(1))
