"""The table's floats have the bits that fastai's own steps give."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from fastai.data.transforms import IntToFloatTensor, Normalize
from fastai.torch_core import TensorImage
from fasttransform import Pipeline, Transform
from torch import Tensor

from ablate.data.float_table import FloatTable, in_one

IMAGENET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
TRAINED = ([0.4312876, 0.5123, 0.29999], [0.2117, 0.19876543, 0.3000001])
NORMALIZED = {"imagenet": IMAGENET, "train": TRAINED}


def steps(stats: str | None) -> list[Transform]:
    normalize = [Normalize.from_stats(*NORMALIZED[stats], cuda=False)] if stats else []
    return [IntToFloatTensor(), *normalize]


def pixels(n: int = 3, height: int = 16, width: int = 21) -> TensorImage:
    """Noise that has all levels in all channels, in channels_last."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (n, height, width, 3), dtype=np.uint8)
    noise.reshape(-1, 3)[:256] = np.arange(256)[:, None]
    return TensorImage(torch.from_numpy(noise).permute(0, 3, 1, 2))


def plain(images: Tensor) -> Tensor:
    return images.as_subclass(Tensor)


class Between(Transform):
    """Something that is neither and comes in between."""

    order = 50

    def encodes(self, x: TensorImage) -> TensorImage:
        return x * 0.5


@pytest.mark.parametrize("stats", [None, *NORMALIZED])
@pytest.mark.parametrize("shape", [(3, 16, 21), (1, 16, 16), (2, 128, 1)])
def test_the_bits_are_those_of_fastais_steps(stats: str | None, shape: tuple[int, int, int]):
    images = pixels(*shape)
    expected = Pipeline(steps(stats))(images)
    (table,) = in_one(steps(stats), FloatTable)
    assert isinstance(table, FloatTable)
    found = table(images)
    assert type(found) is TensorImage
    assert found.dtype == torch.float32
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(plain(found), plain(expected))


@pytest.mark.parametrize("stats", [None, *NORMALIZED])
def test_what_lies_otherwise_in_memory_and_floats_go_step_by_step(stats: str | None):
    (table,) = in_one(steps(stats), FloatTable)
    planes = TensorImage(plain(pixels()).contiguous())
    assert torch.equal(plain(table(planes)), plain(table(pixels())))
    floats = TensorImage(plain(pixels()).float() * 0.7)
    expected = Pipeline(steps(stats))(floats.clone())  # fastai's division is in place
    assert torch.equal(plain(table(floats)), plain(expected))


@pytest.mark.parametrize("stats", [None, *NORMALIZED])
def test_decoding_gives_the_image_back(stats: str | None):
    pipeline, reference = Pipeline(in_one(steps(stats), FloatTable)), Pipeline(steps(stats))
    decoded = pipeline.decode(pipeline(pixels()))
    assert torch.equal(plain(decoded), plain(reference.decode(reference(pixels()))))
    np.testing.assert_allclose(plain(decoded).numpy(), plain(pixels()).numpy(), atol=1)  # rounded down


@pytest.mark.parametrize("others", [[], [Between()]])
def test_a_table_stands_for_steps_that_follow_each_other_alone(others: list[Transform]):
    made: list[Any] = [*reversed(steps("imagenet")), *others]
    table, *rest = in_one(made, FloatTable)
    assert isinstance(table, FloatTable)
    held = [type(step) for step in table.steps]
    assert held == ([IntToFloatTensor] if others else [IntToFloatTensor, Normalize])
    assert [type(one) for one in rest] == ([Between, Normalize] if others else [])
    found, expected = Pipeline([table, *rest])(pixels()), Pipeline(made)(pixels())
    assert torch.equal(plain(found), plain(expected))


def test_transforms_without_a_conversion_are_left_in_their_order():
    made = [Normalize.from_stats(*IMAGENET, cuda=False), Between()]
    assert in_one(made, FloatTable) == made[::-1]


def test_labels_pass():
    (table,) = in_one(steps("imagenet"), FloatTable)
    images, labels = table((pixels(), torch.arange(3)))
    assert torch.equal(labels, torch.arange(3))
    assert images.dtype == torch.float32
