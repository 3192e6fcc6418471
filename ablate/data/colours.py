"""Random changes of pixel values, as look-up tables for a whole batch at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from ablate.data.geometry import chosen

_LEVELS = np.arange(256) / 255


@runtime_checkable
class Colour(Protocol):
    """A random change of pixel values, the same for every pixel of an image."""

    name: str
    draws: int

    def tables(self, uniforms: np.ndarray) -> np.ndarray:
        """From uniforms (n, draws) to look-up tables, uint8 of shape (n, 256)."""
        ...


@dataclass(frozen=True)
class Lighting:
    """Brightness, then contrast, by up to `change` in the space of logits, each with probability `p`."""

    change: float = 0.2
    p: float = 0.75
    name: str = "lighting"
    draws: int = 4

    def tables(self, uniforms: np.ndarray) -> np.ndarray:
        bright = chosen(uniforms[:, 0], self.p, 0.5 + self.change * (uniforms[:, 1] - 0.5), 0.5)
        reach = -np.log(1 - self.change)
        contrast = np.exp(chosen(uniforms[:, 2], self.p, reach * (2 * uniforms[:, 3] - 1), 0.0))
        clipped = np.clip(_LEVELS, 1e-7, 1 - 1e-7)
        logits = np.log(clipped / (1 - clipped))[None, :] + np.log(bright / (1 - bright))[:, None]
        return np.rint(255 / (1 + np.exp(-logits * contrast[:, None]))).astype(np.uint8)
