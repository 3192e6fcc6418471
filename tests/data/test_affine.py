"""Affine matrices against the melanoma document's own formula, over its own indices."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy.stats import kstest, norm

from ablate.data.affine import RandomAffine, affine_matrices
from ablate.data.geometry import normals

N = 20_000
UNIFORMS = np.random.default_rng(0).random((N, 12))


def documents_matrix(
    rot: float, shr: float, h_zoom: float, w_zoom: float, h_shift: float, w_shift: float
) -> Any:
    """The document's get_mat, in numpy."""
    rot, shr = math.pi * rot / 180, math.pi * shr / 180
    c1, s1, c2, s2 = math.cos(rot), math.sin(rot), math.cos(shr), math.sin(shr)
    rotation = np.array([[c1, s1, 0], [-s1, c1, 0], [0, 0, 1]])
    shear = np.array([[1, s2, 0], [0, c2, 0], [0, 0, 1]])
    zoom = np.array([[1 / h_zoom, 0, 0], [0, 1 / w_zoom, 0], [0, 0, 1]])
    shift = np.array([[1, 0, h_shift], [0, 1, w_shift], [0, 0, 1]])
    return np.dot(np.dot(rotation, shear), np.dot(zoom, shift))


def documents_origins(matrix: np.ndarray, dim: int) -> np.ndarray:
    """The (row, column) that each destination pixel is read from, before rounding; shape (dim, dim, 2).

    The document's indices run from DIM/2 down in x and from -DIM/2 up in y, and it reads the pixel at
    DIM/2 - x, DIM/2 - 1 + y. So even the identity moves by one column, and the centre that it turns about is
    a pixel's corner in one direction and its middle in the other; here both are in the middle of the image.
    """
    x = np.repeat(np.arange(dim / 2 - 0.5, -dim / 2 - 0.5, -1), dim)
    y = np.tile(np.arange(-dim / 2 + 0.5, dim / 2 + 0.5), dim)
    to_x, to_y, _ = matrix @ np.stack([x, y, np.ones(dim * dim)])
    return np.stack([dim / 2 - 0.5 - to_x, dim / 2 - 0.5 + to_y], axis=1).reshape(dim, dim, 2)


def our_origins(matrix: np.ndarray, dim: int) -> np.ndarray:
    centres = (2 * np.arange(dim) + 1) / dim - 1
    right, down = np.meshgrid(centres, centres)
    to_right, to_down, _ = np.tensordot(matrix, np.stack([right, down, np.ones_like(right)]), axes=1)
    return np.stack([((to_down + 1) * dim - 1) / 2, ((to_right + 1) * dim - 1) / 2], axis=-1)


@pytest.mark.parametrize("number", range(12))
def test_each_pixel_is_read_from_where_the_document_reads_it(number: int):
    rng, dim = np.random.default_rng(number), 24
    rotation, shear = rng.normal(0, [15, 5])
    zooms, shifts = rng.normal(1, 0.125, 2), rng.normal(0, 3, 2)
    ours = affine_matrices(*(np.array([v]) for v in (rotation, shear, *zooms, *(shifts / dim))))
    theirs = documents_matrix(rotation, shear, *zooms, *shifts)
    np.testing.assert_allclose(our_origins(ours[0], dim), documents_origins(theirs, dim), atol=1e-9)


def test_nothing_changed_is_the_identity_to_the_bit():
    zero, one = np.zeros(3), np.ones(3)
    np.testing.assert_array_equal(
        affine_matrices(zero, zero, one, one, zero, zero), np.tile(np.eye(3), (3, 1, 1))
    )


ONLY: dict[str, Any] = {"rotate": [0], "shear": [0], "zoom": [0], "shift": [0]}


def mixture(*deviations: float) -> Any:
    """The distribution of a normal number whose deviation is one of several, evenly."""
    return lambda x: np.mean([norm.cdf(x, scale=deviation) for deviation in deviations], axis=0)


def test_the_shifts_are_the_documents_mixture():
    matrices = RandomAffine(**ONLY | {"shift": (16 / 384, 8 / 384)}).matrices(UNIFORMS)
    right, up = matrices[:, 0, 2] * 192, -matrices[:, 1, 2] * 192  # in pixels of 384
    for pixels in (right, up):
        assert kstest(pixels, mixture(16, 8)).pvalue > 1e-3
        assert kstest(pixels, mixture(16)).pvalue < 1e-6
    assert abs(np.corrcoef(right, up)[0, 1]) < 0.03


def test_the_zooms_are_the_documents_mixture():
    matrices = RandomAffine(**ONLY | {"zoom": (1 / 10, 1 / 8)}).matrices(UNIFORMS)
    for scale in (matrices[:, 0, 0], matrices[:, 1, 1]):
        assert kstest(1 / scale - 1, mixture(1 / 10, 1 / 8)).pvalue > 1e-3
    assert abs(np.corrcoef(matrices[:, 0, 0], matrices[:, 1, 1])[0, 1]) < 0.03


def test_the_rotations_are_the_documents_mixture():
    matrices = RandomAffine(**ONLY | {"rotate": (15, 180)}).matrices(UNIFORMS)
    turned = np.rad2deg(np.arctan2(matrices[:, 0, 1], matrices[:, 0, 0]))

    def wrapped(x: np.ndarray) -> np.ndarray:
        turns = 360 * np.arange(-9, 10)
        return sum(mixture(15, 180)(x + turn) - mixture(15, 180)(-180.0 + turn) for turn in turns)

    assert kstest(turned, wrapped).pvalue > 1e-3
    np.testing.assert_allclose(np.linalg.det(matrices), 1)


def test_the_shears_are_the_documents_mixture():
    matrices = RandomAffine(**ONLY | {"shear": (5, 2)}).matrices(UNIFORMS)
    leaning = np.rad2deg(np.arcsin(-matrices[:, 1, 0]))
    assert kstest(leaning, mixture(5, 2)).pvalue > 1e-3
    np.testing.assert_allclose(np.linalg.det(matrices), np.cos(np.deg2rad(leaning)))


def test_one_deviation_and_three():
    one = RandomAffine(**ONLY | {"shift": [0.1]}).matrices(UNIFORMS)[:, 0, 2] / 2
    assert kstest(one, norm(scale=0.1).cdf).pvalue > 1e-3
    three = RandomAffine(**ONLY | {"shift": [0.1, 0.2, 0.3]}).matrices(UNIFORMS)[:, 0, 2] / 2
    assert kstest(three, mixture(0.1, 0.2, 0.3)).pvalue > 1e-3


def test_no_image_is_mirrored_or_infinitely_small():
    worst = np.array([[0.9, 0.0] * 6, [0.0, 1 - 2**-53] * 6])
    matrices = RandomAffine(zoom=[0.25]).matrices(worst)
    assert np.isfinite(matrices).all()
    assert 0 < np.linalg.det(matrices)[0] <= 100


def test_normals_are_finite_everywhere():
    assert np.isfinite(normals(np.array([0.0, 2.0**-53, 0.5, 1 - 2.0**-53]))).all()
    assert kstest(normals(UNIFORMS[:, 0]), "norm").pvalue > 1e-3
