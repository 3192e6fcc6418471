from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from ablate.data.affine import RandomAffine as Geometry
from ablate.data.draws import Drawer
from ablate.streams import Streams
from ablate.techniques.augment import Augment
from ablate.techniques.random_affine import RandomAffine
from ablate.training.data import dataloaders


def test_defaults_are_the_documents():
    (geometry,) = RandomAffine().item_transforms()
    for name in ("rotate", "shear", "zoom", "shift"):
        np.testing.assert_allclose(getattr(geometry, name), getattr(Geometry(), name))


def test_options_reach_the_matrices():
    options = {"rotate": [0.0], "shear": [0.0], "zoom": [0.0], "shift": [0.5]}
    matrices = np.stack(
        [
            draw.matrix
            for draw in Drawer(Streams(0), RandomAffine.model_validate(options).item_transforms()).draw(
                0, np.arange(2000)
            )
            if draw.matrix is not None
        ]
    )
    np.testing.assert_array_equal(matrices[:, :2, :2], np.tile(np.eye(2), (2000, 1, 1)))
    np.testing.assert_allclose(matrices[:, :2, 2].std(0), 1, atol=0.06)  # half of a side that spans 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rotate": []}, "at least 1"),
        ({"rotate": [-1]}, "greater than or equal to 0"),
        ({"rotate": 15}, "list"),
        ({"zoom": [0.1, 0.5]}, "zoom: a standard deviation may be 0.25 at most"),
        ({"shear": [45]}, "shear: a standard deviation may be 20 at most"),
        ({"shift": [16]}, "shift: a standard deviation may be 1 at most"),
        ({"rotate": [0], "shear": [0], "zoom": [0, 0], "shift": [0]}, "leave random_affine out"),
    ],
    ids=json.dumps,
)
def test_impossible_options(options: dict[str, Any], message: str):
    with pytest.raises(ValidationError, match=message):
        RandomAffine.model_validate(options)


def test_it_joins_augment_and_leaves_its_draws(make_parts: Callable):
    numbers = np.arange(30)
    alone, both, affine = (
        dataloaders(make_parts(*on)).train.drawer.draw(0, numbers)
        for on in ((Augment(),), (RandomAffine(), Augment()), (RandomAffine(),))
    )
    for a, b, c in zip(alone, both, affine, strict=True):
        np.testing.assert_array_equal(a.table, b.table)
        np.testing.assert_allclose(
            b.matrix, a.matrix @ c.matrix, atol=1e-12
        )  # after the flips, as the document


def test_training_images_are_changed_and_others_are_not(make_parts: Callable):
    plain, affine = dataloaders(make_parts()), dataloaders(make_parts(RandomAffine()))
    assert affine.train.read_batch is not None
    for side, same in (("valid", True), ("train", False)):
        assert torch.equal(getattr(plain, side).one_batch()[0], getattr(affine, side).one_batch()[0]) == same
