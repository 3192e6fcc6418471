"""One output for two classes: everything else sees two logits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from fastai.losses import BCEWithLogitsLossFlat
from torch import nn

from ablate.data.items import Items, load_items
from ablate.errors import AblateError
from ablate.recipe.data_schema import Data
from ablate.techniques import compose
from ablate.techniques.arcface import ArcFace
from ablate.techniques.base import Technique
from ablate.techniques.bce_loss import BCELoss
from ablate.techniques.focal_loss import FocalLoss
from ablate.techniques.label_smoothing import LabelSmoothing
from ablate.techniques.mixup import MixUp
from ablate.techniques.sigmoid_output import SigmoidOutput
from ablate.training.data import dataloaders
from ablate.training.learner import build_learner, quiet
from ablate.training.output import output_layer


@pytest.fixture
def learner(make_parts: Callable) -> Callable[..., Any]:
    """Makes a learner that tells even digits from odd ones."""
    digits = load_items(Data(source="digits")).items
    two = Items([replace(item, target=item.target % 2) for item in digits], ["even", "odd"])

    def make(*on: Technique, **changes: Any) -> Any:
        parts = make_parts(*on, items=two, **changes)
        return quiet(build_learner(parts, dataloaders(parts)))

    return make


def test_the_network_has_one_output(learner: Callable[..., Any]):
    one = learner(SigmoidOutput())
    (linear,) = output_layer(one.model).children()
    assert isinstance(linear, nn.Linear)
    assert linear.out_features == 1
    logits = one.get_preds(act=lambda raw: raw)[0]
    assert logits.shape == (40, 2)
    assert (logits[:, 0] == 0).all()


def test_it_starts_as_two_outputs_do(learner: Callable[..., Any]):
    one, two = learner(SigmoidOutput()), learner()
    torch.testing.assert_close(one.get_preds()[0], two.get_preds()[0])


def test_cross_entropy_is_the_binary_one(learner: Callable[..., Any]):
    learn = learner(SigmoidOutput())
    learn.fit(1)
    probabilities, target, each = learn.get_preds(with_loss=True)
    z = learn.get_preds(act=lambda raw: raw)[0][:, 1]
    torch.testing.assert_close(probabilities[:, 1], z.sigmoid())
    binary = BCEWithLogitsLossFlat()
    binary.reduction = "none"
    torch.testing.assert_close(each, binary(z, target).as_subclass(torch.Tensor))


@pytest.mark.parametrize(
    "on", [[], [FocalLoss(alpha=0.8, reduction="sum")], [LabelSmoothing(), MixUp()]], ids=["", "focal", "mix"]
)
def test_it_learns(on: list[Technique], learner: Callable[..., Any]):
    learn = learner(SigmoidOutput(), *on)
    learn.fit(8, 2e-3)
    losses = [float(row[0]) for row in learn.recorder.values]
    assert losses[-1] < 0.9 * losses[0]


def test_other_numbers_of_classes(make_parts: Callable):
    parts = make_parts(SigmoidOutput())
    with pytest.raises(AblateError, match="sigmoid_output: is for two classes, but there are 10; turn it"):
        build_learner(parts, dataloaders(parts))


@pytest.mark.parametrize(
    ("other", "what"),
    [
        (ArcFace(), "arcface and sigmoid_output both replace the output layer"),
        (BCELoss(), "bce_loss and sigmoid_output both make the outputs sigmoids"),
    ],
)
def test_what_it_does_not_go_with(other: Technique, what: str):
    assert compose.conflict([SigmoidOutput(), other]) == f"{what}; turn one of them off."
