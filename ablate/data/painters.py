"""Random changes that need an image's pixels: several channels at once, neighbours, its own statistics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np


@runtime_checkable
class Painter(Protocol):
    """A random change of a finished square's pixels. It is pure, and called from several threads."""

    @property
    def name(self) -> str: ...

    @property
    def draws(self) -> int: ...

    def paint(self, pixels: np.ndarray, uniforms: Sequence[float]) -> np.ndarray:
        """New pixels, uint8 of the same shape (h, w, 3), from `draws` uniforms; the old ones stay."""
        ...


class Paint(NamedTuple):
    """A painter and what it has drawn for one item."""

    painter: Painter
    uniforms: Sequence[float]

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """What the painter makes of some pixels."""
        return self.painter.paint(pixels, self.uniforms)
