"""Which part of an image is shown: a box in whole pixels, from uniforms and the image's width and height."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log, sqrt
from typing import Protocol, runtime_checkable

Box = tuple[int, int, int, int]
"""Left, top, width and height, in pixels."""


@runtime_checkable
class Crop(Protocol):
    """A random box that becomes the square. It may be a rectangle: it is then stretched."""

    @property
    def name(self) -> str: ...

    @property
    def draws(self) -> int: ...

    def box(self, place: Sequence[float], width: int, height: int) -> Box:
        """The box in an image of some width and height for uniforms `place`, `draws` of them."""
        ...


@dataclass(frozen=True)
class Square:
    """The largest square, somewhere along the longer side: uniforms (x, y) are shares of the free room."""

    name: str = "square"
    draws: int = 2

    def box(self, place: Sequence[float], width: int, height: int) -> Box:
        side = min(width, height)
        return round(place[0] * (width - side)), round(place[1] * (height - side)), side, side


SQUARE = Square()


@dataclass(frozen=True)
class Tile:
    """A square at a fixed place; nothing is drawn.

    Args:
        x: Where it lies from left to right, as a share of the free room.
        y: Where it lies from top to bottom, likewise.
        side: In pixels; None for the image's shorter side.
    """

    x: float = 0.5
    y: float = 0.5
    side: int | None = None
    name: str = "tile"
    draws: int = 0

    def box(self, place: Sequence[float], width: int, height: int) -> Box:
        side = self.side or min(width, height)
        return round(self.x * (width - side)), round(self.y * (height - side)), side, side


@dataclass(frozen=True)
class RandomResizedCrop:
    """A box of random area and aspect ratio at a random place, as torchvision's class of that name has it.

    Up to ten pairs of area and ratio are tried until one fits into the image; the first two uniforms place
    it. Where none fits, it is the largest centred box whose ratio is allowed.

    Args:
        scale: From which to which share of the image's area, drawn evenly.
        ratio: From which to which width / height; its logarithm is drawn evenly.
    """

    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    name: str = "random_resized_crop"
    draws: int = 22

    def box(self, place: Sequence[float], width: int, height: int) -> Box:
        (small, large), (slim, wide) = self.scale, self.ratio
        for i in range(2, self.draws, 2):
            area = width * height * (small + (large - small) * place[i])
            ratio = exp(log(slim) + (log(wide) - log(slim)) * place[i + 1])
            w, h = round(sqrt(area * ratio)), round(sqrt(area / ratio))
            if 0 < w <= width and 0 < h <= height:
                return int(place[0] * (width - w + 1)), int(place[1] * (height - h + 1)), w, h
        return self._centred(width, height)

    def _centred(self, width: int, height: int) -> Box:
        slim, wide = self.ratio
        w, h = width, height
        if width / height < slim:
            h = max(round(width / slim), 1)
        elif width / height > wide:
            w = max(round(height * wide), 1)
        return (width - w) // 2, (height - h) // 2, w, h


@dataclass(frozen=True)
class RandomCrop:
    """A square of random side at a random place.

    Args:
        scale: From which to which share of the image's shorter side, drawn evenly.
        in_square: Cut from the largest square, which is placed first; else from the whole image.
    """

    scale: tuple[float, float] = (0.75, 1.0)
    in_square: bool = False
    name: str = "random_crop"
    draws: int = 5

    def box(self, place: Sequence[float], width: int, height: int) -> Box:
        small, large = self.scale
        left, top = 0, 0
        x, y, share, *within = place
        if self.in_square:
            left, top, width, height = SQUARE.box(place, width, height)
            x, y = within
        side = max(round(min(width, height) * (small + (large - small) * share)), 1)
        return left + int(x * (width - side + 1)), top + int(y * (height - side + 1)), side, side
