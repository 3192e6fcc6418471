from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from timm.data.auto_augment import rand_augment_transform

from ablate.data.operations import RandAugment as Painter
from ablate.techniques.augment import Augment
from ablate.techniques.rand_augment import RandAugment
from ablate.training.data import dataloaders


def test_defaults_are_timms_usual_ones(make_parts: Callable):
    theirs = rand_augment_transform("rand-m9-mstd0.5-inc1", {})
    (painter,) = RandAugment().item_transforms()
    assert painter == Painter()
    assert painter.num_layers == theirs.num_layers
    for op in theirs.ops:
        assert (op.magnitude, op.magnitude_std, op.prob) == (painter.magnitude, painter.mstd, painter.p)
    context = make_parts(pixel_mean=(0.1, 0.5, 0.998)).context
    assert RandAugment().item_transforms(context) == [replace(painter, fill=(26, 128, 254))]


def test_options_reach_the_painter():
    options = {"num_layers": 3, "magnitude": 5, "mstd": 0, "increasing": False, "p": 1}
    (painter,) = RandAugment.model_validate(options | {"phases": ["late"]}).item_transforms()
    assert painter == Painter(3, 5, 0, False, 1)
    assert painter.draws == 15


@pytest.mark.parametrize(
    "options",
    [{"num_layers": 0}, {"magnitude": 11}, {"magnitude": -1}, {"mstd": -0.5}, {"p": 0}, {"p": 1.5}],
    ids=json.dumps,
)
def test_impossible_options(options: dict[str, Any]):
    with pytest.raises(ValidationError):
        RandAugment.model_validate(options)


def test_training_images_are_painted_and_others_are_not(make_parts: Callable):
    plain, painted = (
        dataloaders(make_parts(Augment())),
        dataloaders(make_parts(RandAugment(p=1.0), Augment())),
    )
    assert painted.train.read_batch is not None
    for side, same in (("valid", True), ("train", False)):
        assert torch.equal(getattr(plain, side).one_batch()[0], getattr(painted, side).one_batch()[0]) == same


def test_batches_are_the_same_for_any_number_of_workers(make_parts: Callable):
    one, other = (dataloaders(make_parts(RandAugment(), workers=workers)).train for workers in (0, 3))
    for a, b in zip(one, other, strict=True):
        assert torch.equal(a[0], b[0])
