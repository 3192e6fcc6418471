from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError
from torchvision.transforms import RandomResizedCrop as Torchvisions

from ablate.data.draws import Drawer
from ablate.data.images import decode
from ablate.errors import AblateError
from ablate.streams import Streams
from ablate.techniques.augment import Augment
from ablate.techniques.random_resized_crop import RandomResizedCrop
from ablate.training.data import dataloaders


def test_defaults_are_torchvisions():
    parameters = inspect.signature(Torchvisions).parameters
    for name in ("scale", "ratio"):
        np.testing.assert_allclose(getattr(RandomResizedCrop(), name), parameters[name].default)


def test_options_reach_the_boxes():
    (crop,) = RandomResizedCrop.model_validate({"scale": [0.2, 0.3], "ratio": [2, 3.0]}).item_transforms()
    draws = Drawer(Streams(0), [crop]).draw(0, np.arange(300))
    _, _, wide, high = np.array([draw.box(3000, 2000) for draw in draws]).T
    shares, ratios = wide * high / 6e6, wide / high
    np.testing.assert_allclose([shares.min(), shares.max()], [0.2, 0.3], atol=2e-3)
    np.testing.assert_allclose([ratios.min(), ratios.max()], [2, 3], atol=2e-2)


@pytest.mark.parametrize(
    "options",
    [
        {"scale": [0, 1]},
        {"scale": [0.5, 1.1]},
        {"scale": [0.5, 0.4]},
        {"ratio": [2, 1]},
        {"ratio": [1]},
        {"ratio": [1, 1, 1]},
        {"ratio": [-1, 1]},
        {"ratio": 1.0},
        {"scale": ["a", "b"]},
    ],
    ids=json.dumps,
)
def test_impossible_options(options: dict[str, Any]):
    with pytest.raises(ValidationError):
        RandomResizedCrop.model_validate(options)


def test_training_images_are_parts_and_others_are_centre_squares(make_parts: Callable):
    parts = make_parts(RandomResizedCrop())
    plain, cropped = dataloaders(make_parts()), dataloaders(parts)
    assert cropped.train.read_batch is not None  # a crop is drawn and applied with all the rest
    for side, same in (("valid", True), ("train", False)):
        x, raw = getattr(cropped, side).one_batch()[0], getattr(plain, side).one_batch()[0]
        assert x.shape == raw.shape == (16, 3, 16, 16)
        assert torch.equal(x, raw) == same


def test_a_training_image_is_its_box_resized(make_parts: Callable):
    parts = make_parts(RandomResizedCrop(scale=[0.2, 0.9]))
    train = dataloaders(parts).train
    positions = train.get_idxs()[:16]
    batch = train.one_batch()[0]
    draws = train.drawer.draw(0, train.numbers(positions))
    for position, draw, shown in zip(positions, draws, batch, strict=True):
        item = train.dataset.items[position]
        image = Image.fromarray(decode(item.image, item.id)).resize((20, 20), Image.Resampling.BILINEAR)
        left, top, wide, high = draw.box(20, 20)
        square = image.crop((left, top, left + wide, top + high)).resize((16, 16), Image.Resampling.BILINEAR)
        expected = np.asarray(square).transpose(2, 0, 1) / 255
        np.testing.assert_allclose(shown.numpy(), expected, atol=2.1 / 255)


def test_it_joins_augment_and_leaves_its_draws(make_parts: Callable):
    numbers = np.arange(30)
    alone, both = (
        dataloaders(make_parts(*on)).train.drawer.draw(0, numbers)
        for on in ((Augment(),), (Augment(), RandomResizedCrop()))
    )
    for a, b in zip(alone, both, strict=True):
        np.testing.assert_array_equal(a.matrix, b.matrix)
        np.testing.assert_array_equal(a.table, b.table)
        assert a.box(90, 60) != b.box(90, 60)


def test_two_crops_are_one_too_many(make_parts: Callable):
    class Other(RandomResizedCrop):
        name = "other_crop"

    with pytest.raises(AblateError, match="both choose the crop"):
        dataloaders(make_parts(Other(), RandomResizedCrop()))
