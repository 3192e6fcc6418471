"""Our tables against fastai's own functions, given the same draws."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from fastai.vision import augment as fast
from fastai.vision.core import TensorImage

from ablate.data.colours import Lighting

N = 64
UNIFORMS = np.random.default_rng(0).random((N, 4))


def where(uniform: np.ndarray, p: float, value: Any, neutral: float) -> list[float]:
    """What fastai would have drawn for the items that are not left alone."""
    return [
        float(v) if u < p else neutral
        for u, v in zip(uniform, np.broadcast_to(value, uniform.shape), strict=True)
    ]


@pytest.mark.parametrize("change", [0.2, 0.6])
def test_lighting_is_fastais_to_one_grey_level(change: float):
    transform = Lighting(change, p=0.7)
    u = UNIFORMS
    tables = transform.tables(u)
    assert tables.shape == (N, 256)
    assert tables.dtype == np.uint8
    brightness = where(u[:, 0], 0.7, 0.5 * (1 - change) + change * u[:, 1], 0.5)
    reach = -np.log(1 - change)
    contrast = where(u[:, 2], 0.7, np.exp(-reach + 2 * reach * u[:, 3]), 1)
    levels = torch.arange(256, dtype=torch.float64).reshape(1, 1, 16, 16) / 255
    x = TensorImage(levels.expand(N, 1, 16, 16).contiguous())
    both = fast._compose_same_tfms([fast.Brightness(p=1, draw=brightness), fast.Contrast(p=1, draw=contrast)])
    both.before_call(x, 0)
    at_once = both.encodes(x.clone())
    one_by_one = x.clone().brightness(draw=brightness, p=1).contrast(draw=contrast, p=1)
    for theirs in (at_once, one_by_one):
        np.testing.assert_allclose(tables, 255 * theirs.numpy().reshape(N, 256), atol=1)
    assert (np.diff(tables.astype(int), axis=1) >= 0).all()


def test_lighting_that_draws_nothing_changes_nothing():
    tables = Lighting(p=0).tables(UNIFORMS)
    np.testing.assert_array_equal(tables, np.tile(np.arange(256), (N, 1)))
