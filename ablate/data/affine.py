"""Affine changes of coordinates whose angles, zooms and shifts are normally distributed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ablate.data.geometry import affine, normals

_SMALLEST_ZOOM = 0.1
_UP_RIGHT = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
"""From (right, down) to (up, right), which the matrices below are written in."""


def affine_matrices(
    rotation: np.ndarray,
    shear: np.ndarray,
    zoom_up: np.ndarray,
    zoom_right: np.ndarray,
    shift_up: np.ndarray,
    shift_right: np.ndarray,
) -> np.ndarray:
    """Rotation · shear · zoom · shift, as in kernels that write these matrices over (up, right) coordinates.

    A shift is applied to output coordinates first, so it is zoomed, sheared and turned with all the rest.

    Args:
        rotation: Degrees; like all others of shape (n,).
        shear: Degrees by which upright lines lean; their length stays, so areas shrink by its cosine.
        zoom_up: How many times larger the image becomes.
        zoom_right: Likewise.
        shift_up: Where the output's centre is read from, as a share of the side.
        shift_right: Likewise.

    Returns:
        Matrices (n, 3, 3) from output to input coordinates (right, down) in a square that spans [-1, 1].
    """
    turn, slant = np.deg2rad(rotation), np.deg2rad(shear)
    zero, one = np.zeros_like(turn), np.ones_like(turn)
    rotated = affine(np.cos(turn), np.sin(turn), zero, -np.sin(turn), np.cos(turn), zero)
    sheared = affine(one, np.sin(slant), zero, zero, np.cos(slant), zero)
    zoomed = affine(1 / zoom_up, zero, zero, zero, 1 / zoom_right, zero)
    shifted = affine(one, zero, 2 * shift_up, zero, one, 2 * shift_right)  # the side spans 2
    return _UP_RIGHT.T @ rotated @ sheared @ zoomed @ shifted @ _UP_RIGHT


@dataclass(frozen=True)
class RandomAffine:
    """Normally distributed rotation, shear, zooms and shifts; of several deviations one is chosen per item.

    The two zooms, around 1 and never below a tenth, and the two shifts are drawn independently.

    Args:
        rotate: Standard deviations in degrees.
        shear: Likewise.
        zoom: Standard deviations of the factors.
        shift: Standard deviations in shares of the side.
    """

    rotate: Sequence[float] = (15, 180)
    shear: Sequence[float] = (5, 2)
    zoom: Sequence[float] = (1 / 10, 1 / 8)
    shift: Sequence[float] = (16 / 384, 8 / 384)
    name: str = "random_affine"
    draws: int = 12

    def matrices(self, uniforms: np.ndarray) -> np.ndarray:
        """From uniforms (n, 12) to matrices (n, 3, 3) from output to input coordinates."""
        numbers = normals(uniforms[:, 1::2])
        spreads = (self.rotate, self.shear, self.zoom, self.zoom, self.shift, self.shift)
        each = [
            np.array(spread, float)[(uniforms[:, 2 * i] * len(spread)).astype(np.intp)] * numbers[:, i]
            for i, spread in enumerate(spreads)
        ]
        zooms = [np.maximum(1 + zoom, _SMALLEST_ZOOM) for zoom in each[2:4]]
        return affine_matrices(*each[:2], *zooms, *each[4:])
