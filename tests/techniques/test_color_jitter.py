from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torchvision.transforms import ColorJitter as Torchvisions

from ablate.techniques.augment import Augment
from ablate.techniques.color_jitter import ColorJitter
from ablate.training.data import dataloaders

NAMES = ("brightness", "contrast", "saturation", "hue")


def painter(**options: Any) -> Any:
    (painter,) = ColorJitter.model_validate(options).item_transforms()
    return painter


@pytest.mark.parametrize(
    "options",
    [
        {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1},
        {"brightness": 1.7, "contrast": [0.5, 0.9], "saturation": 0, "hue": 0},
        {"brightness": [1, 1], "contrast": [0, 3.0], "saturation": 1, "hue": [-0.2, 0.5]},
        {"brightness": 0, "contrast": [1, 1], "saturation": 0.2, "hue": [0, 0]},
    ],
    ids=json.dumps,
)
def test_options_mean_what_torchvisions_mean(options: dict[str, Any]):
    ours, theirs = painter(**options), Torchvisions(**options)
    for name in NAMES:
        assert getattr(ours, name) == (getattr(theirs, name) and pytest.approx(getattr(theirs, name)))


def test_options_like_tensorflows():
    ours = painter(like="tensorflow", brightness=0.1, contrast=0.2, saturation=[0.7, 1.3], hue=0.01)
    assert ours.brightness == (-0.1, 0.1)
    assert ours.contrast == (0.8, 1.2)
    assert ours.saturation == (0.7, 1.3)
    assert ours.hue == (-0.01, 0.01)
    only = painter(like="tensorflow", brightness=0, contrast=0.2, saturation=0)
    assert [getattr(only, name) for name in NAMES] == [None, (0.8, 1.2), None, None]


OFF = {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hue": 0.6}, "hue must go from low to high between -0.5 and 0.5"),
        ({"hue": [0.2, 0.1]}, "hue must go"),
        ({"contrast": [-0.1, 1]}, "contrast must go"),
        ({"contrast": -0.1}, "greater than or equal to 0"),
        ({"brightness": [0.5]}, "at least 2"),
        ({"brightness": 1.5, "like": "tensorflow"}, "brightness must go from low to high between -1 and 1"),
        ({"like": "keras"}, "torchvision"),
        (OFF, "leave color_jitter out"),
        (OFF | {"brightness": [0.0, 0.0], "like": "tensorflow"}, "leave color_jitter out"),
    ],
    ids=str,
)
def test_impossible_options(options: dict[str, Any], message: str):
    with pytest.raises(ValidationError, match=message):
        ColorJitter.model_validate(options)


def test_training_images_are_painted_and_others_are_not(make_parts: Callable):
    jitter = ColorJitter(hue=0.1)
    plain, painted = dataloaders(make_parts(Augment())), dataloaders(make_parts(Augment(), jitter))
    assert painted.train.read_batch is not None
    for side, same in (("valid", True), ("train", False)):
        assert torch.equal(getattr(plain, side).one_batch()[0], getattr(painted, side).one_batch()[0]) == same


def test_a_batch_is_the_same_for_any_number_of_workers(make_parts: Callable):
    one, other = (dataloaders(make_parts(ColorJitter(hue=0.1), workers=workers)).train for workers in (0, 3))
    for a, b in zip(one, other, strict=True):
        assert torch.equal(a[0], b[0])
    one.epoch = 0
    one.read_batch = None  # item by item, as with transforms from elsewhere
    for a, b in zip(one, dataloaders(make_parts(ColorJitter(hue=0.1))).train, strict=True):
        np.testing.assert_allclose(a[0].numpy(), b[0].numpy(), atol=1e-6)
