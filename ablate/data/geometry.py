"""Random changes of coordinates, as matrices for a whole batch at once; they know no image.

All geometries of a stage multiply into one matrix per item, so that one warp (`render`) applies them all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np


@runtime_checkable
class Geometry(Protocol):
    """A random change of coordinates in a square that spans [-1, 1] both ways."""

    name: str
    draws: int

    def matrices(self, uniforms: np.ndarray) -> np.ndarray:
        """From uniforms (n, draws) to matrices (n, 3, 3) that map output coordinates to input coordinates."""
        ...


def affine(
    a: np.ndarray, b: np.ndarray, c: np.ndarray, d: np.ndarray, e: np.ndarray, f: np.ndarray
) -> np.ndarray:
    """Matrices [[a, b, c], [d, e, f], [0, 0, 1]], shape (n, 3, 3), from six vectors of shape (n,)."""
    zero, one = np.zeros_like(a), np.ones_like(a)
    return np.stack([a, b, c, d, e, f, zero, zero, one], axis=1).reshape(-1, 3, 3)


def chosen(uniform: np.ndarray, p: float, value: np.ndarray, neutral: float) -> np.ndarray:
    """`value` with probability `p` and `neutral` otherwise; all of shape (n,)."""
    return np.where(uniform < p, value, neutral)


def normals(uniforms: np.ndarray) -> np.ndarray:
    """Standard normal numbers from uniforms in [0, 1) of the same shape, by the inverse distribution."""
    from scipy.special import ndtri

    return ndtri(np.maximum(uniforms, 2.0**-54))  # zero would be minus infinity


def symmetries(which: np.ndarray) -> np.ndarray:
    """The square's symmetries by their numbers, 0 to 7, shape (n,), as matrices; 0 leaves all as it is."""
    x = np.array([1.0, -1, 1, -1, -1, 1, 1, -1])[which]
    y = np.array([1.0, 1, -1, 1, -1, -1, 1, -1])[which]
    straight = np.array([1.0, 1, 1, 0, 1, 0, 0, 0])[which]
    zero, turned = np.zeros_like(x), 1 - straight
    return affine(x * straight, x * turned, zero, y * turned, y * straight, zero)


@dataclass(frozen=True)
class Flip:
    """Mirror left and right with probability `p`."""

    p: float = 0.5
    name: str = "flip"
    draws: int = 1

    def matrices(self, uniforms: np.ndarray) -> np.ndarray:
        sign = chosen(uniforms[:, 0], self.p, np.array(-1.0), 1.0)
        zero, one = np.zeros_like(sign), np.ones_like(sign)
        return affine(sign, zero, zero, zero, one, zero)


@dataclass(frozen=True)
class Dihedral:
    """One of the square's eight symmetries, evenly, with probability `p`, else none."""

    p: float = 0.5
    name: str = "dihedral"
    draws: int = 2

    def matrices(self, uniforms: np.ndarray) -> np.ndarray:
        return symmetries(np.where(uniforms[:, 0] < self.p, (uniforms[:, 1] * 8).astype(np.intp), 0))


@dataclass(frozen=True)
class Symmetry:
    """One of the square's eight symmetries, always the same; nothing is drawn. 0 leaves all as it is."""

    which: int
    name: str = "symmetry"
    draws: int = 0

    def matrices(self, uniforms: np.ndarray) -> np.ndarray:
        return symmetries(np.full(len(uniforms), self.which))


@dataclass(frozen=True)
class Rotate:
    """Turn by up to `degrees` either way with probability `p`."""

    degrees: float = 10.0
    p: float = 0.75
    name: str = "rotate"
    draws: int = 2

    def matrices(self, uniforms: np.ndarray) -> np.ndarray:
        angle = np.deg2rad(chosen(uniforms[:, 0], self.p, self.degrees * (2 * uniforms[:, 1] - 1), 0.0))
        zero = np.zeros_like(angle)
        return affine(np.cos(angle), np.sin(angle), zero, -np.sin(angle), np.cos(angle), zero)


@dataclass(frozen=True)
class Shear:
    """Slant along x and along y by up to `degrees` either way with probability `p`; areas stay."""

    degrees: float = 10.0
    p: float = 0.75
    name: str = "shear"
    draws: int = 3

    def matrices(self, uniforms: np.ndarray) -> np.ndarray:
        slant = np.tan(np.deg2rad(self.degrees * (2 * uniforms[:, 1:] - 1)))
        x, y = (chosen(uniforms[:, 0], self.p, slant[:, i], 0.0) for i in range(2))
        zero, one = np.zeros_like(x), np.ones_like(x)
        return affine(one + x * y, x, zero, y, one, zero)


@dataclass(frozen=True)
class Shift:
    """Move along x and along y by up to `share` of the side either way with probability `p`."""

    share: float = 0.1
    p: float = 0.75
    name: str = "shift"
    draws: int = 3

    def matrices(self, uniforms: np.ndarray) -> np.ndarray:
        by = 2 * self.share * (2 * uniforms[:, 1:] - 1)  # the side spans 2
        x, y = (chosen(uniforms[:, 0], self.p, by[:, i], 0.0) for i in range(2))
        zero, one = np.zeros_like(x), np.ones_like(x)
        return affine(one, zero, x, zero, one, y)


@dataclass(frozen=True)
class Zoom:
    """Enlarge by `low` to `high` around a random centre with probability `p`."""

    low: float = 1.0
    high: float = 1.1
    p: float = 0.75
    name: str = "zoom"
    draws: int = 4

    def matrices(self, uniforms: np.ndarray) -> np.ndarray:
        zoom = chosen(uniforms[:, 0], self.p, self.low + (self.high - self.low) * uniforms[:, 1], 1.0)
        scale = 1 / zoom
        x, y = (1 - scale) * (2 * uniforms[:, 2] - 1), (1 - scale) * (2 * uniforms[:, 3] - 1)
        zero = np.zeros_like(scale)
        return affine(scale, zero, x, zero, scale, y)


@dataclass(frozen=True)
class Perspective:
    """Tilt the image plane by up to `magnitude` in x and in y, each with probability `p`."""

    magnitude: float = 0.2
    p: float = 0.75
    name: str = "warp"
    draws: int = 4

    def matrices(self, uniforms: np.ndarray) -> np.ndarray:
        spread = self.magnitude * (2 * uniforms[:, 2:4] - 1)
        x = chosen(uniforms[:, 0], self.p, spread[:, 0], 0.0)
        y = chosen(uniforms[:, 1], self.p, spread[:, 1], 0.0)
        # where the corners (-1, -1), (-1, 1), (1, -1), (1, 1) are seen in the output
        u = np.stack([-1 - y, -1 + y, 1 + y, 1 - y], axis=1)
        v = np.stack([-1 - x, 1 + x, -1 + x, 1 - x], axis=1)
        corners = np.array([[-1.0, -1], [-1, 1], [1, -1], [1, 1]])
        zero, one = np.zeros_like(u), np.ones_like(u)
        rows_x = np.stack([u, v, one, zero, zero, zero, -corners[:, 0] * u, -corners[:, 0] * v], axis=2)
        rows_y = np.stack([zero, zero, zero, u, v, one, -corners[:, 1] * u, -corners[:, 1] * v], axis=2)
        system = np.concatenate([rows_x, rows_y], axis=1)
        wanted = np.broadcast_to(np.concatenate([corners[:, 0], corners[:, 1]])[:, None], (len(u), 8, 1))
        solved = np.linalg.solve(system, wanted)[..., 0]
        return np.concatenate([solved, np.ones((len(u), 1))], axis=1).reshape(-1, 3, 3)
