"""random_erasing: blank out random rectangles."""

from __future__ import annotations

from math import log
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from ablate import devices
from ablate.techniques.base import Context, InPhases

if TYPE_CHECKING:
    from torch import Tensor

Range = Annotated[list[Annotated[float, Field(gt=0)]], Field(min_length=2, max_length=2)]
_ATTEMPTS = 10


def erase(x: Tensor, boxes: Tensor, fill: Tensor) -> Tensor:
    """Put something else into rectangles, one after the other.

    Args:
        x: Images, shape (n, c, h, w).
        boxes: Top, bottom, left, right in pixels, bottom and right exclusive; int64 of shape (n, count, 4).
        fill: What goes into the rectangles, of a shape that broadcasts to (n, count, c, h, w).

    Returns:
        Images of the same shape. A rectangle is a mask and not a slice, so each is the same graph on XLA.
    """
    import torch

    rows = torch.arange(x.shape[2], device=x.device)[:, None]
    columns = torch.arange(x.shape[3], device=x.device)[None, :]
    top, bottom, left, right = boxes[:, :, :, None, None, None].unbind(2)
    inside = (rows >= top) & (rows < bottom) & (columns >= left) & (columns < right)
    for i in range(boxes.shape[1]):
        x = torch.where(inside[:, i], fill.expand(-1, boxes.shape[1], -1, -1, -1)[:, i], x)
    return x


def random_boxes(
    size: tuple[int, int],
    counts: np.ndarray,
    most: int,
    area: tuple[float, float],
    aspect: tuple[float, float],
    rng: np.random.Generator,
) -> np.ndarray:
    """Rectangles of random area, shape and place, as timm draws them.

    Area and aspect ratio are drawn up to ten times, until the rectangle is smaller than the image both ways.

    Args:
        size: The images' height and width, in pixels.
        counts: How many rectangles each image gets, shape (n,).
        most: The most that any can get.
        area: From which to which share of the image its rectangles cover together, drawn evenly for each.
        aspect: From which to which height / width; its logarithm is drawn evenly.
        rng: Where the draws come from.

    Returns:
        Top, bottom, left, right, with bottom and right exclusive; int64 of shape (n, most, 4). Rectangles
        that an image does not get, or that never fitted, are empty.
    """
    height, width = size
    shape = len(counts), most, _ATTEMPTS
    shares = rng.uniform(*area, size=shape) / np.maximum(counts, 1)[:, None, None]
    ratios = np.exp(rng.uniform(log(aspect[0]), log(aspect[1]), size=shape))
    high = np.rint(np.sqrt(shares * height * width * ratios)).astype(np.int64)
    wide = np.rint(np.sqrt(shares * height * width / ratios)).astype(np.int64)
    fits = (high < height) & (wide < width)
    first = fits.argmax(-1, keepdims=True)
    wanted = fits.any(-1) & (np.arange(most) < counts[:, None])
    high, wide = (np.take_along_axis(side, first, -1)[..., 0] * wanted for side in (high, wide))
    top, left = rng.integers(height - high, endpoint=True), rng.integers(width - wide, endpoint=True)
    return np.stack([top, top + high, left, left + wide], axis=-1)


class RandomErasing(InPhases):
    """Erase rectangles of some training images, after normalizing and before mixing.

    As in timm. 0 is the mean colour where images are normalized, and black where they are not.
    """

    name: ClassVar[str] = "random_erasing"
    paper: ClassVar[str] = "Zhong et al. 2017, arXiv 1708.04896"

    p: float = Field(0.5, gt=0, le=1, description="The share of images that it happens to.")
    area: Range = Field([1 / 50, 1 / 3], description="From which to which share of the image's area.")
    aspect: Range = Field([0.3, 1 / 0.3], description="From which to which height / width.")
    mode: Literal["const", "rand", "pixel"] = Field(
        "const", description="Filled with 0, with a normal random colour, or with normal noise."
    )
    count: int = Field(1, ge=1, description="The most rectangles in an image, which share the area.")

    @model_validator(mode="after")
    def _possible(self) -> Self:
        for name in ("area", "aspect"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{name} must go from low to high")
        if self.area[1] > 1:
            raise ValueError("area must not be above 1")
        return self

    def callbacks(self, context: Context | None = None) -> list[Any]:
        from ablate.training.batch_images import ChangeImages

        return [ChangeImages(self, context.streams if context else None)]

    def change(self, x: Tensor, rng: np.random.Generator) -> Tensor:
        """One batch with rectangles erased; see `ablate.training.batch_images.Change`."""
        import torch

        n, _, height, width = x.shape
        counts = rng.integers(1, self.count, size=n, endpoint=True) * (rng.random(n) < self.p)
        area, aspect = (self.area[0], self.area[1]), (self.aspect[0], self.aspect[1])
        boxes = random_boxes((height, width), counts, self.count, area, aspect, rng)
        return erase(x, torch.as_tensor(boxes).to(x.device), self._fill(x, rng))

    def _fill(self, x: Tensor, rng: np.random.Generator) -> Tensor:
        import torch

        n, channels, height, width = x.shape
        if self.mode == "const":
            return torch.zeros((1, 1, 1, 1, 1), dtype=x.dtype, device=x.device)
        if self.mode == "rand":
            colours = rng.standard_normal((n, self.count, channels, 1, 1))
            return torch.as_tensor(colours, dtype=x.dtype).to(x.device)
        own = devices.of(x).generator(int(rng.integers(2**63)))
        return torch.randn((n, 1, channels, height, width), generator=own, device=own.device).to(x)
