"""Our matrices against fastai's and torchvision's own functions, given the same draws."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from fastai.vision import augment as fast
from fastai.vision.core import TensorImage
from scipy.stats import kstest
from torch.nn import functional
from torchvision.transforms.functional import _get_inverse_affine_matrix

from ablate.data.draws import Drawer
from ablate.data.geometry import Dihedral, Flip, Geometry, Perspective, Rotate, Shear, Shift, Zoom
from ablate.streams import Streams

N = 64


def drawn(transform: Geometry, seed: int = 0, n: int = N) -> np.ndarray:
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


@pytest.mark.parametrize("p", [0.0, 0.6, 1.0])
def test_shear_and_shift_are_torchvisions(p: float):
    """torchvision's matrices map output to input pixels; a side of 2 makes them ours."""
    for transform in (Shear(25, p), Shift(0.3, p)):
        u = drawn(transform)
        ours = transform.matrices(u)
        for matrix, (chance, x, y) in zip(ours, u, strict=True):
            reach = (25 if isinstance(transform, Shear) else 0.3 * 2) * (chance < p)
            by = [reach * (2 * x - 1), reach * (2 * y - 1)]
            shear, shift = (by, [0, 0]) if isinstance(transform, Shear) else ([0, 0], [-by[0], -by[1]])
            expected = _get_inverse_affine_matrix([0, 0], 0, shift, 1, shear)
            np.testing.assert_allclose(matrix[:2].ravel(), expected, atol=1e-12)
            np.testing.assert_array_equal(matrix[2], [0, 0, 1])
        np.testing.assert_allclose(np.linalg.det(ours), 1)


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
