from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from ablate.data.draws import Drawer
from ablate.errors import AblateError
from ablate.streams import Streams
from ablate.techniques.random_crop import RandomCrop
from ablate.techniques.random_resized_crop import RandomResizedCrop
from ablate.training.data import dataloaders


def boxes(width: int, height: int, **options: Any) -> np.ndarray:
    drawer = Drawer(Streams(0), RandomCrop.model_validate(options).item_transforms())
    return np.array([draw.box(width, height) for draw in drawer.draw(0, np.arange(500))])


def test_options_reach_the_boxes():
    assert set(boxes(800, 600, scale=[0.5, 0.5])[:, 2]) == {300}
    sides = boxes(8000, 6000)[:, 2] / 6000
    np.testing.assert_allclose([sides.min(), sides.max()], [0.75, 1], atol=2e-3)
    # at the left edge lies what is placed anywhere more often than what is placed twice
    anywhere, twice = (
        boxes(800, 600, scale=[0.5, 0.5], within=within)[:, 0] for within in ("image", "square")
    )
    assert (anywhere < 25).mean() > 2 * (twice < 25).mean()


@pytest.mark.parametrize(
    "options",
    [
        {"scale": [0, 1]},
        {"scale": [0.5, 1.1]},
        {"scale": [0.8, 0.7]},
        {"scale": [0.8]},
        {"scale": 0.8},
        {"within": "photo"},
    ],
    ids=json.dumps,
)
def test_impossible_options(options: dict[str, Any]):
    with pytest.raises(ValidationError):
        RandomCrop.model_validate(options)


def test_training_images_are_parts_and_others_are_centre_squares(make_parts: Callable):
    plain, cropped = dataloaders(make_parts()), dataloaders(make_parts(RandomCrop()))
    assert cropped.train.read_batch is not None
    for side, same in (("valid", True), ("train", False)):
        x, raw = getattr(cropped, side).one_batch()[0], getattr(plain, side).one_batch()[0]
        assert x.shape == raw.shape == (16, 3, 16, 16)
        assert torch.equal(x, raw) == same


def test_two_crops_are_one_too_many(make_parts: Callable):
    with pytest.raises(AblateError, match="random_crop and random_resized_crop both choose the crop"):
        dataloaders(make_parts(RandomCrop(), RandomResizedCrop()))
