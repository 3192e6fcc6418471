from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from fastai.vision.augment import aug_transforms
from fastai.vision.core import TensorImage
from fasttransform import Pipeline
from pydantic import ValidationError
from scipy.stats import ks_2samp, kstest

from ablate.data.draws import Drawer
from ablate.streams import Streams
from ablate.techniques.augment import Augment
from ablate.training.data import dataloaders

N, SIDE = 6000, 9
AT = [(2, 2), (2, 6), (6, 2), (6, 6)]  # rows and columns that lie halfway between the centre and the corners
LEVELS = np.array([26, 102, 179, 230])
NO_LIGHT: dict[str, Any] = {"max_lighting": 0.0}
NO_WARP: dict[str, Any] = {"max_rotate": 0.0, "max_zoom": 1.0, "max_warp": 0.0, "do_flip": False}


def theirs(image: torch.Tensor, seed: int, options: dict[str, Any]) -> torch.Tensor:
    torch.manual_seed(seed)
    batch = TensorImage(image.expand(N, *image.shape).clone())
    return Pipeline(aug_transforms(**options), split_idx=0)(batch).as_subclass(torch.Tensor)


def their_points(seed: int, options: dict[str, Any]) -> np.ndarray:
    """Where four output points are sampled from, shape (N, 4, 2), read off an image of coordinates."""
    along = torch.linspace(-1, 1, SIDE)
    ramp = torch.stack([along.expand(SIDE, SIDE), along[:, None].expand(SIDE, SIDE)])
    warped = theirs(ramp, seed, options)
    return torch.stack([warped[:, :, row, column] for row, column in AT], dim=1).numpy()


def our_draws(seed: int, options: dict[str, Any]) -> list[Any]:
    return Drawer(Streams(seed), Augment.model_validate(options).item_transforms()).draw(0, np.arange(N))


def our_points(seed: int, options: dict[str, Any]) -> np.ndarray:
    at = np.array([[column - 4, row - 4, 4] for row, column in AT]) / 4
    draws = our_draws(seed, options)
    matrices = np.stack([np.eye(3) if draw.matrix is None else draw.matrix for draw in draws])
    points = at @ matrices.transpose(0, 2, 1)
    return points[..., :2] / points[..., 2:]


def assert_alike(ours: np.ndarray, fastais: np.ndarray) -> None:
    """The same marginals and correlations; both of shape (N, quantities)."""
    for one, other in zip(ours.T, fastais.T, strict=True):
        assert ks_2samp(np.round(one, 4), np.round(other, 4), method="asymp").pvalue > 1e-3 / ours.shape[1]
        np.testing.assert_allclose(one.mean(), other.mean(), atol=5 * one.std() / np.sqrt(N / 2) + 1e-6)
        np.testing.assert_allclose(one.std(), other.std(), rtol=0.06, atol=1e-6)
    moving = ours.std(0) > 1e-6
    assert (moving == (fastais.std(0) > 1e-6)).all()
    if moving.sum() > 1:
        np.testing.assert_allclose(
            np.corrcoef(ours[:, moving].T), np.corrcoef(fastais[:, moving].T), atol=0.08
        )


OURS = {"phases", "p_flip", "max_shear", "max_shift"}


def test_defaults_are_fastais():
    parameters = inspect.signature(aug_transforms).parameters
    for name in Augment.model_fields.keys() - OURS:
        assert Augment.model_fields[name].default == parameters[name].default, name


@pytest.mark.parametrize(("p", "share"), [(0.0, 1), (0.5, 0.5 + 1 / 16), (1.0, 1 / 8)])
def test_how_often_all_eight_symmetries_are_drawn(p: float, share: float):
    draws = our_draws(1, NO_WARP | NO_LIGHT | {"do_flip": True, "flip_vert": True, "p_flip": p})
    same = np.mean([np.array_equal(draw.matrix, np.eye(3)) for draw in draws])
    assert same == pytest.approx(share, abs=0.03 * (p > 0))
    (mirror,) = {
        draw.matrix[0, 0] for draw in our_draws(1, NO_WARP | NO_LIGHT | {"do_flip": True, "p_flip": 1.0})
    }
    assert mirror == -1


def test_shear_and_shift_reach_as_far_as_they_say():
    only = NO_WARP | NO_LIGHT
    sheared = np.stack([draw.matrix for draw in our_draws(1, only | {"max_shear": 20.0, "p_affine": 1.0})])
    for degrees in np.rad2deg(np.arctan(sheared[:, [0, 1], [1, 0]])).T:
        assert kstest(degrees, "uniform", args=(-20, 40)).pvalue > 1e-3
    shifted = np.stack([draw.matrix for draw in our_draws(1, only | {"max_shift": 0.1, "mult": 2.0})])
    assert (shifted[:, 0, 2] != 0).mean() == pytest.approx(0.75, abs=0.03)
    for shift in shifted[shifted[:, 0, 2] != 0, :2, 2].T / 2:  # the side spans 2
        assert kstest(shift, "uniform", args=(-0.2, 0.4)).pvalue > 1e-3


def test_shear_and_shift_leave_the_draws_of_the_others():
    plain, more = our_draws(1, {}), our_draws(1, {"max_shear": 10.0, "max_shift": 0.1})
    for a, b in zip(plain[:50], more[:50], strict=True):
        assert a.place == b.place
        np.testing.assert_array_equal(a.table, b.table)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"do_flip": False},
        {"flip_vert": True},
        {"max_rotate": 0.0},
        {"max_rotate": 30.0},
        {"max_warp": 0.0},
        {"max_warp": 0.1, "max_rotate": 0.0},
        {"max_zoom": 1.0},
        {"min_zoom": 1.1, "max_zoom": 1.5},
        {"p_affine": 0.3},
        {"p_affine": 1.0},
        {"mult": 0.0},
        {"mult": 1.5},
        NO_WARP,
    ],
    ids=str,
)
def test_the_geometry_is_spread_as_fastais(options: dict[str, Any]):
    options = options | NO_LIGHT
    ours, fastais = our_points(1, options).reshape(N, 8), their_points(2, options).reshape(N, 8)
    if options == NO_WARP | NO_LIGHT:
        np.testing.assert_array_equal(ours, fastais)
    assert_alike(ours, fastais)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"max_lighting": 0.0},
        {"max_lighting": 0.5},
        {"mult": 2.0},
        {"p_lighting": 0.2},
        {"p_lighting": 1.0},
    ],
    ids=str,
)
def test_the_lighting_is_spread_as_fastais(options: dict[str, Any]):
    options = NO_WARP | options
    levels = torch.tensor(LEVELS / 255, dtype=torch.float32)[None, None]
    fastais = np.rint(theirs(levels, 3, options)[:, 0, 0].numpy() * 255)
    tables = [draw.table for draw in our_draws(4, options)]
    ours = np.stack([LEVELS if table is None else table[LEVELS] for table in tables]).astype(float)
    assert_alike(ours, fastais)


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({}, ["warp", "flip", "rotate", "zoom", "lighting"]),
        (
            {"max_shear": 5.0, "max_shift": 0.1},
            ["warp", "flip", "rotate", "shear", "zoom", "shift", "lighting"],
        ),
        ({"mult": 0.0, "max_shear": 5.0, "max_shift": 0.1}, ["flip", "zoom"]),
        ({"flip_vert": True}, ["warp", "dihedral", "rotate", "zoom", "lighting"]),
        ({"mult": 0.0}, ["flip", "zoom"]),
        (NO_WARP | NO_LIGHT, []),
    ],
)
def test_what_is_off_is_not_there(options: dict[str, Any], names: list[str]):
    assert [transform.name for transform in Augment.model_validate(options).item_transforms()] == names


@pytest.mark.parametrize(
    "options",
    [
        {"max_lighting": 0.5, "mult": 2.0},
        {"mult": 2.5},
        {"min_zoom": 1.2},
        {"max_warp": 0.5},
        {"max_shear": 50.0, "mult": 1.8},
        {"max_shift": 0.6, "mult": 2.0},
        {"p_flip": 1.1},
        {"p_affine": 1.1},
    ],
)
def test_impossible_options(options: dict[str, Any]):
    with pytest.raises(ValidationError):
        Augment.model_validate(options)


def test_training_images_are_augmented_and_others_are_not(make_parts: Callable):
    plain, augmented = (dataloaders(make_parts(*on)) for on in ((), (Augment(),)))
    items = plain.valid_ds.items[:8]
    for without, loader, same in [
        (plain.train, augmented.train, False),
        (plain.valid, augmented.valid, True),
        (plain.test_dl(items), augmented.test_dl(items), True),
        (plain.test_dl(items, with_labels=True), augmented.test_dl(items, with_labels=True), True),
    ]:
        x, raw = loader.one_batch()[0], without.one_batch()[0]
        assert torch.equal(x, raw) == same


def test_every_image_and_every_epoch_has_its_own_draws(make_parts: Callable):
    draws = dataloaders(make_parts(Augment())).train.drawer.draw
    matrices = np.stack([draw.matrix for epoch in range(2) for draw in draws(epoch, np.arange(50))])
    assert len(np.unique(matrices.reshape(100, 9).round(9), axis=0)) > 95  # a few are all left alone
