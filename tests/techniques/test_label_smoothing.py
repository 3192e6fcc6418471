from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from fastai.losses import CrossEntropyLossFlat, LabelSmoothingCrossEntropyFlat
from pydantic import ValidationError
from torch import nn
from torch.nn.functional import one_hot

from ablate.techniques import compose
from ablate.techniques.arcface import ArcFace
from ablate.techniques.base import Technique
from ablate.techniques.bce_loss import BCELoss
from ablate.techniques.class_weights import ClassWeights
from ablate.techniques.focal_loss import FocalLoss
from ablate.techniques.label_smoothing import LabelSmoothing
from ablate.training.data import dataloaders
from ablate.training.learner import build_learner, quiet


def logits_and_targets() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = 5 * torch.randn(64, 10, generator=generator)
    return logits.requires_grad_(), torch.randint(10, (64,), generator=generator)


@pytest.mark.parametrize("eps", [0.0, 0.05, 0.1, 0.5, 0.9])
def test_it_is_torchs_label_smoothing(eps: float, make_parts: Callable):
    logits, targets = logits_and_targets()
    ours = LabelSmoothing(eps=eps).loss(CrossEntropyLossFlat(), make_parts().context)
    loss, expected = ours(logits, targets), nn.CrossEntropyLoss(label_smoothing=eps)(logits, targets)
    torch.testing.assert_close(float(loss), float(expected), rtol=1e-6, atol=1e-6)
    (gradient,) = torch.autograd.grad(loss, logits)
    torch.testing.assert_close(
        gradient.as_subclass(torch.Tensor), torch.autograd.grad(expected, logits)[0], rtol=1e-5, atol=1e-8
    )


def test_no_eps_is_plain_cross_entropy(make_parts: Callable):
    logits, targets = logits_and_targets()
    ours = LabelSmoothing(eps=0.0).loss(CrossEntropyLossFlat(), make_parts().context)
    assert float(ours(logits, targets)) == pytest.approx(
        float(CrossEntropyLossFlat()(logits, targets)), abs=1e-6
    )


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_on_cross_entropy_it_is_fastais_bit_for_bit(reduction: str, make_parts: Callable):
    logits, targets = logits_and_targets()
    ours = LabelSmoothing(eps=0.2).loss(CrossEntropyLossFlat(), make_parts().context)
    fastais = LabelSmoothingCrossEntropyFlat(eps=0.2)
    ours.reduction = fastais.reduction = reduction
    assert torch.equal(ours(logits, targets), fastais(logits, targets))


OTHERS = [[FocalLoss(gamma=1.5)], [BCELoss()], [ClassWeights()], [FocalLoss(reduction="sum"), ClassWeights()]]


@pytest.mark.parametrize("others", OTHERS, ids=lambda others: " and ".join(other.name for other in others))
@pytest.mark.parametrize("eps", [0.0, 0.1, 0.6])
def test_on_another_loss_it_is_the_mean_over_a_smoothed_label(
    others: list[Technique], eps: float, make_parts: Callable
):
    logits, targets = logits_and_targets()
    context = make_parts().context
    below = compose.loss(others, CrossEntropyLossFlat(), context)
    loss = compose.loss([LabelSmoothing(eps=eps), *others], CrossEntropyLossFlat(), context)
    every_class = torch.stack([below.of(logits, torch.full_like(targets, c)) for c in range(10)], dim=1)
    soft = (1 - eps) * one_hot(targets, 10) + eps / 10
    expected = (every_class * soft).sum(1)
    torch.testing.assert_close(loss.of(logits, targets), expected, rtol=1e-5, atol=1e-6)
    assert loss.reduction == below.reduction
    value = loss(logits, targets)
    reduced = expected.sum() if below.reduction == "sum" else expected.mean()
    gradients = [torch.autograd.grad(one, logits)[0] for one in (value, reduced)]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-6)


def test_arcface_has_its_own():
    message = "arcface and label_smoothing both say how labels are smoothed; turn one of them off."
    assert compose.conflict([LabelSmoothing(), ArcFace()]) == message


def test_on_and_off_in_a_learner(make_parts: Callable):
    logits, targets = logits_and_targets()
    for on, eps in (((), 0.0), ((LabelSmoothing(eps=0.2),), 0.2)):
        parts = make_parts(*on)
        learn = quiet(build_learner(parts, dataloaders(parts)))
        expected = nn.CrossEntropyLoss(label_smoothing=eps)(logits, targets)
        assert float(learn.loss_func(logits, targets)) == pytest.approx(float(expected), abs=1e-6)
        probabilities = learn.get_preds()[0]
        torch.testing.assert_close(probabilities.sum(1), torch.ones(40))  # predictions go through softmax


def test_it_is_off_in_other_phases(make_parts: Callable):
    parts = make_parts(LabelSmoothing(phases=["tune"]), inactive=frozenset({"label_smoothing"}))
    base = CrossEntropyLossFlat()
    assert compose.loss(parts.active, base, parts.context) is base


@pytest.mark.parametrize("eps", [-0.1, 1.0, "0.1"])
def test_impossible_options(eps: object):
    with pytest.raises(ValidationError, match="eps"):
        LabelSmoothing.model_validate({"eps": eps})
