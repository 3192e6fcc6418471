"""gridmask: delete the squares of a grid, or every other field of a checkerboard."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from ablate.techniques.mixer import MixingTechnique

if TYPE_CHECKING:
    from torch import Tensor

Shares = Annotated[list[Annotated[float, Field(gt=0, le=1)]], Field(min_length=2, max_length=2)]


def grid(height: int, width: int, d: Tensor, bar: Tensor, offset: Tensor, angle: Tensor) -> Tensor:
    """Which pixels some grids keep: bars of a width, `d` apart, shifted and turned; squares lie between.

    Args:
        height: Of the images, in pixels.
        width: Of the images, in pixels.
        d: Each grid's unit, a bar and a square, in pixels, shape (n,).
        bar: The bars' width in pixels, shape (n,).
        offset: By how much the grid is shifted down and to the right, in pixels, shape (n, 2).
        angle: By how much it is turned about the centre, in radians, to the left, shape (n,).

    Returns:
        Bool of shape (n, 1, height, width). Of a unit `1 − (1 − r)²` is kept, where `r = bar / d` (Chen et
        al. 2020, section 3). It is arithmetic on the pixels' numbers, so every grid is the same graph on XLA.
    """
    import torch

    rows = torch.arange(height, device=d.device)[:, None] - (height - 1) / 2
    columns = torch.arange(width, device=d.device)[None, :] - (width - 1) / 2
    cos, sin = angle.cos()[:, None, None, None], angle.sin()[:, None, None, None]
    down, right = offset[:, :, None, None, None].unbind(1)
    d, bar = d[:, None, None, None], bar[:, None, None, None]
    along_y = torch.remainder((cos * rows + sin * columns + down).floor(), d)
    along_x = torch.remainder((cos * columns - sin * rows + right).floor(), d)
    return (along_y < bar) | (along_x < bar)


def checkerboard(height: int, width: int, d: Tensor, offset: Tensor, turned: Tensor) -> Tensor:
    """Which pixels a checkerboard keeps: of every two by two fields, the two off the diagonal.

    Args:
        height: Of the images, in pixels.
        width: Of the images, in pixels.
        d: The width of two fields, in whole pixels, shape (); if it is odd, the second field is the wider.
        offset: Where in the tiled pattern the image begins, in whole pixels, shape (2,).
        turned: Whether two by two fields are turned by 90° before they are tiled, shape ().

    Returns:
        Bool of shape (1, 1, height, width).
    """
    import torch

    rows = torch.remainder(torch.arange(height, device=d.device) + offset[0], d)[:, None]
    columns = torch.remainder(torch.arange(width, device=d.device) + offset[1], d)[None, :]
    rows = torch.where(turned, d - 1 - rows, rows)
    return ((2 * rows + 1 >= d) ^ (2 * columns + 1 >= d))[None, None]


class GridMask(MixingTechnique):
    """Delete regions of every image that are spread evenly over it; what is deleted becomes 0.

    `pattern: grid` is the paper's: squares are deleted, a grid for each image, its unit, offset and angle
    drawn anew. `pattern: checkerboard` deletes every other field of a board, the same for a whole batch. On
    images that are normalized, 0 is the mean colour. Labels stay, and with other mixing techniques on, a
    batch is either masked or mixed.
    """

    name: ClassVar[str] = "gridmask"
    paper: ClassVar[str] = "Chen et al. 2020, GridMask Data Augmentation, arXiv 2001.04086"

    pattern: Literal["grid", "checkerboard"] = Field(
        "grid", description="The paper's grid of squares, or a board of which half is kept."
    )
    d: Shares = Field(
        [96 / 224, 1.0],
        description="From which to which share of the image's side a unit, two fields of a board, measures.",
    )
    ratio: float = Field(0.6, gt=0, lt=1, description="The grid's r: the width of a bar in its unit.")
    rotate: float = Field(360.0, ge=0, le=360, description="The grid is turned by up to so many degrees.")
    reverse: bool = Field(False, description="Delete the grid's bars and keep the squares.")

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.d[0] > self.d[1]:
            raise ValueError("d must go from low to high")
        if self.pattern == "checkerboard":
            for name in ("ratio", "rotate", "reverse"):
                if getattr(self, name) != type(self).model_fields[name].default:
                    raise ValueError(f"{name} is the grid's; leave it out with pattern: checkerboard")
        return self

    def mix(self, x: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """One batch masked; see `ablate.training.mixing.Mixer`."""
        import torch

        draw = self._grids if self.pattern == "grid" else self._board
        kept = draw(x, rng)
        partner, share = torch.arange(len(x), device=x.device), torch.ones(len(x), device=x.device)
        return x.masked_fill(~kept, 0), partner, share

    def _grids(self, x: Tensor, rng: np.random.Generator) -> Tensor:
        import torch

        n, _, height, width = x.shape
        d = rng.integers(*self._units(min(height, width)), size=n, endpoint=True)
        bar = np.clip(np.floor(d * self.ratio + 0.5), 1, d - 1)
        offset = rng.random((n, 2)) * d[:, None]
        angle = np.deg2rad(self.rotate) * rng.random(n)
        drawn = (torch.as_tensor(a, dtype=torch.float32).to(x.device) for a in (d, bar, offset, angle))
        kept = grid(height, width, *drawn)
        return ~kept if self.reverse else kept

    def _board(self, x: Tensor, rng: np.random.Generator) -> Tensor:
        import torch

        height, width = x.shape[-2:]
        d = rng.integers(*self._units(min(height, width)), endpoint=True)
        offset = [rng.integers(d * (side // d + 1) - side, endpoint=True) for side in (height, width)]
        turned = rng.random() < 0.5
        drawn = (torch.as_tensor(a).to(x.device) for a in (d, np.array(offset), turned))
        return checkerboard(height, width, *drawn)

    def _units(self, side: int) -> tuple[int, int]:
        """The smallest and the largest unit, in pixels."""
        return max(int(side * self.d[0]), 2), max(int(side * self.d[1]), 2)
