"""Batches made at once: each image is what is warped of it alone, in the memory that the device wants."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from fastai.torch_core import TensorCategory, TensorImage
from torch import Tensor

from ablate.data.batches import ReadBatch
from ablate.data.crops import RandomResizedCrop
from ablate.data.draws import CENTRE, Draw, Drawer
from ablate.data.geometry import Dihedral
from ablate.data.items import Item, load_items
from ablate.data.pixels import Pixels
from ablate.data.presize import Presize
from ablate.data.render import warped
from ablate.recipe.data_schema import Data
from ablate.streams import Streams


@pytest.fixture
def items(photos: Path) -> list[Item]:
    return list(load_items(Data.model_validate({"root": str(photos)})).items)


@pytest.fixture
def draws(items: list[Item]) -> list[Draw]:
    drawer = Drawer(Streams(0, "tune"), (RandomResizedCrop(), Dihedral()))
    return drawer.draw(0, np.array([item.number for item in items]))


def test_every_image_is_what_is_made_of_it_alone(items: list[Item], draws: list[Draw]):
    pixels = Pixels(Presize(30))
    images, labels = ReadBatch(pixels, 24)(items, draws, True)
    assert (type(images), type(labels)) == (TensorImage, TensorCategory)
    assert (images.shape, images.dtype) == ((24, 3, 24, 24), torch.uint8)
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert labels.tolist() == [item.target for item in items]
    for item, draw, image in zip(items, draws, images.as_subclass(Tensor), strict=True):
        expected = warped(Presize(30)(pixels(item)), draw, 24)
        np.testing.assert_array_equal(image.permute(1, 2, 0).numpy(), expected)


def test_images_without_labels(items: list[Item]):
    batch = ReadBatch(Pixels(Presize(30)), 24)(items[:2], [CENTRE] * 2, False)
    assert len(batch) == 1
    assert batch[0].shape == (2, 3, 24, 24)


def test_the_buffer_is_the_devices(items: list[Item], draws: list[Draw]):
    given = []

    def buffer(shape: tuple[int, ...]) -> Tensor:
        given.append(torch.full(shape, 7, dtype=torch.uint8))
        return given[-1]

    pixels = Pixels(Presize(30))
    images, _ = ReadBatch(pixels, 24, buffer)(items, draws, True)
    assert images.data_ptr() == given[0].data_ptr()
    assert torch.equal(images, ReadBatch(pixels, 24)(items, draws, True)[0])


def test_threads_side_by_side_give_the_same(items: list[Item], draws: list[Draw]):
    read = ReadBatch(Pixels(Presize(30)), 24)
    expected = read(items, draws, True)[0]
    with ThreadPoolExecutor(4) as pool:
        for images, _ in pool.map(lambda _: read(items, draws, True), range(20)):
            assert torch.equal(images, expected)


def test_as_many_draws_as_items(items: list[Item]):
    with pytest.raises(ValueError, match="zip"):
        ReadBatch(Pixels(Presize(30)), 24)(items[:2], [CENTRE], True)
