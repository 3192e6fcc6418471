"""Our matrices and tables against fastai's own functions, given the same draws."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from fastai.vision import augment as fast
from fastai.vision.core import TensorImage
from scipy.stats import kstest
from torch.nn import functional

from ablate.data.draws import (
    Colour,
    Dihedral,
    Draw,
    Drawer,
    Flip,
    Geometry,
    Lighting,
    Perspective,
    Rotate,
    Zoom,
)
from ablate.streams import Streams

N = 64
GEOMETRIES = [Perspective(), Flip(), Dihedral(), Rotate(), Zoom()]


def drawn(transform: Geometry | Colour, seed: int = 0, n: int = N) -> np.ndarray:
    return np.random.default_rng(seed).random((n, transform.draws))


def images(n: int = N) -> TensorImage:
    return TensorImage(torch.zeros(n, 3, 4, 4, dtype=torch.float64))


def where(uniform: np.ndarray, p: float, value: Any, neutral: float) -> list[float]:
    """What fastai would have drawn for the items that are not left alone."""
    return [
        float(v) if u < p else neutral
        for u, v in zip(uniform, np.broadcast_to(value, uniform.shape), strict=True)
    ]


def like_fastai(transform: Geometry, uniforms: np.ndarray) -> torch.Tensor:
    """fastai's matrices, shape (n, 3, 3), for the same draws."""
    u = uniforms
    match transform:
        case Flip(p):
            return fast.flip_mat(images(), p=1, draw=where(u[:, 0], p, 1, 0))
        case Dihedral(p):
            return fast.dihedral_mat(images(), p=1, draw=where(u[:, 0], p, np.floor(u[:, 1] * 8), 0))
        case Rotate(degrees, p):
            return fast.rotate_mat(images(), p=1, draw=where(u[:, 0], p, degrees * (2 * u[:, 1] - 1), 0))
        case Zoom(low, high, p):
            scale = where(u[:, 0], p, low + (high - low) * u[:, 1], 1)
            return fast.zoom_mat(images(), p=1, draw=scale, draw_x=u[:, 2].tolist(), draw_y=u[:, 3].tolist())
        case Perspective(magnitude, p):
            warp = like_fastais_warp(magnitude, p, u)
            eight = fast.find_coeffs(warp.orig_pts, warp.targ_pts)[..., 0]
            return torch.cat([eight, torch.ones(N, 1)], dim=1).reshape(-1, 3, 3)
    raise AssertionError(transform)


def like_fastais_warp(magnitude: float, p: float, u: np.ndarray) -> Any:
    spread = magnitude * (2 * u[:, 2:] - 1)
    draw_x, draw_y = where(u[:, 0], p, spread[:, 0], 0), where(u[:, 1], p, spread[:, 1], 0)
    warp = fast._WarpCoord(p=1, draw_x=draw_x, draw_y=draw_y)
    warp.before_call(images())
    return warp


@pytest.mark.parametrize("p", [0.0, 0.6, 1.0])
@pytest.mark.parametrize("kind", [Flip, Dihedral, Rotate, Zoom, Perspective])
def test_a_geometry_is_fastais(kind: type[Any], p: float):
    transform = kind(p=p)
    uniforms = drawn(transform)
    ours = transform.matrices(uniforms)
    assert ours.shape == (N, 3, 3)
    np.testing.assert_allclose(ours, like_fastai(transform, uniforms).numpy(), atol=1e-5)
    untouched = np.isclose(ours, np.eye(3), atol=1e-12).all(axis=(1, 2))
    assert untouched.all() == (p == 0)


def test_options_reach_the_matrices():
    for transform in (Rotate(45, 1), Zoom(0.5, 2, 1), Perspective(0.45, 1)):
        uniforms = drawn(transform)
        expected = like_fastai(transform, uniforms).numpy()
        np.testing.assert_allclose(transform.matrices(uniforms), expected, atol=1e-5)


def test_the_product_of_augments_matrices_is_fastais_one_warp():
    """Perspective stands first, since fastai applies it to the coordinates that the affine matrix gives."""
    transforms = [Perspective(p=1), Flip(), Rotate(p=1), Zoom(p=1)]
    streams = Streams(1)
    draws = Drawer(streams, transforms).draw(2, np.arange(N))
    ours = np.stack([draw.matrix for draw in draws if draw.matrix is not None])
    uniforms = [streams.uniforms(f"augment.{t.name}", 2, np.arange(N), t.draws) for t in transforms]
    affine = torch.eye(3, dtype=torch.float64).expand(N, 3, 3)
    for transform, uniform in zip(transforms[1:], uniforms[1:], strict=True):
        affine = affine @ torch.from_numpy(like_fastai(transform, uniform).numpy()).double()
    grid = functional.affine_grid(affine[:, :2], [N, 3, 5, 5], align_corners=False)
    expected = like_fastais_warp(0.2, 1, uniforms[0])(grid.float()).reshape(N, 25, 2)
    at = functional.affine_grid(torch.eye(3)[None, :2], [1, 3, 5, 5], align_corners=False).reshape(25, 2)
    points = np.concatenate([at.numpy(), np.ones((25, 1))], axis=1) @ ours.transpose(0, 2, 1)
    np.testing.assert_allclose(points[..., :2] / points[..., 2:], expected.numpy(), atol=1e-5)


@pytest.mark.parametrize("change", [0.2, 0.6])
def test_lighting_is_fastais_to_one_grey_level(change: float):
    transform = Lighting(change, p=0.7)
    u = drawn(transform)
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
    tables = Lighting(p=0).tables(drawn(Lighting()))
    np.testing.assert_array_equal(tables, np.tile(np.arange(256), (N, 1)))


def test_how_often_and_how_far():
    n = 20_000
    turns = Rotate(10, 0.75).matrices(drawn(Rotate(), n=n))
    angles = np.rad2deg(np.arctan2(turns[:, 0, 1], turns[:, 0, 0]))
    turned = angles[angles != 0]
    assert len(turned) / n == pytest.approx(0.75, abs=0.015)
    assert kstest(turned, "uniform", args=(-10, 20)).pvalue > 1e-3
    flips = Flip(0.5).matrices(drawn(Flip(), n=n))[:, 0, 0]
    assert (flips == -1).mean() == pytest.approx(0.5, abs=0.015)
    eight, counts = np.unique(Dihedral(1.0).matrices(drawn(Dihedral(), n=n)), axis=0, return_counts=True)
    assert len(eight) == 8
    np.testing.assert_allclose(counts / n, 1 / 8, atol=0.015)
    zooms = 1 / Zoom(1, 1.1, 1).matrices(drawn(Zoom(), n=n))[:, 0, 0]
    assert kstest(zooms, "uniform", args=(1, 0.1)).pvalue > 1e-3


def test_a_zoomed_square_stays_inside_the_square():
    matrices = Zoom(1, 3, 1).matrices(drawn(Zoom(), n=1000))
    corners = np.array([[-1, -1, 1], [1, 1, 1], [-1, 1, 1], [1, -1, 1]]) @ matrices.transpose(0, 2, 1)
    assert np.abs(corners).max() <= 1 + 1e-12


@pytest.mark.parametrize("transform", [*GEOMETRIES, Lighting()], ids=lambda transform: transform.name)
def test_geometry_and_colour_are_told_apart(transform: Any):
    assert isinstance(transform, Geometry) != isinstance(transform, Colour)
    assert isinstance(transform, Colour) == isinstance(transform, Lighting)


def same(a: Draw, b: Draw) -> bool:
    return a.corner == b.corner and np.array_equal(a.matrix, b.matrix) and np.array_equal(a.table, b.table)


def test_an_items_draw_depends_on_its_number_alone():
    drawer = Drawer(Streams(0, "head"), [*GEOMETRIES, Lighting()])
    draws = drawer.draw(0, np.arange(20))
    backwards = drawer.draw(0, np.arange(20)[::-1].copy())
    assert all(same(a, b) for a, b in zip(draws, backwards[::-1], strict=True))
    assert same(drawer.draw(0, np.array([7]))[0], draws[7])
    assert not any(same(a, b) for a, b in zip(draws, drawer.draw(1, np.arange(20)), strict=True))
    other = Drawer(Streams(0, "finetune"), drawer.transforms).draw(0, np.arange(20))
    assert not any(same(a, b) for a, b in zip(draws, other, strict=True))


def test_a_further_transform_leaves_the_draws_of_the_others():
    numbers, streams = np.arange(20), Streams(0, "head")
    plain = Drawer(streams, [Flip(), Lighting()]).draw(3, numbers)
    more = Drawer(streams, [Flip(), Rotate(p=1), Lighting()]).draw(3, numbers)
    (rotations,) = [streams.uniforms("augment.rotate", 3, numbers, 2)]
    turns = Rotate(p=1).matrices(rotations)
    for i, (a, b) in enumerate(zip(plain, more, strict=True)):
        assert a.corner == b.corner
        assert a.matrix is not None
        np.testing.assert_array_equal(a.table, b.table)
        np.testing.assert_allclose(b.matrix, a.matrix @ turns[i], atol=1e-15)


def test_corners_are_uniform_in_the_free_room():
    draws = Drawer(Streams(0)).draw(0, np.arange(5000))
    corners = np.array([draw.corner for draw in draws])
    assert kstest(corners.ravel(), "uniform").pvalue > 1e-3
    assert abs(np.corrcoef(corners.T)[0, 1]) < 0.05
    assert draws[0].matrix is None
    assert draws[0].table is None


def test_tables_are_applied_one_after_the_other():
    class Invert:
        name, draws = "invert", 1

        def tables(self, uniforms: np.ndarray) -> np.ndarray:
            return np.tile(np.arange(255, -1, -1, dtype=np.uint8), (len(uniforms), 1))

    numbers, streams = np.arange(10), Streams(0)
    light = [draw.table for draw in Drawer(streams, [Lighting(p=1)]).draw(0, numbers)]
    first_inverted = [draw.table for draw in Drawer(streams, [Invert(), Lighting(p=1)]).draw(0, numbers)]
    then_inverted = [draw.table for draw in Drawer(streams, [Lighting(p=1), Invert()]).draw(0, numbers)]
    for table, before, after in zip(light, first_inverted, then_inverted, strict=True):
        assert table is not None
        np.testing.assert_array_equal(before, table[::-1])
        np.testing.assert_array_equal(after, 255 - table)
