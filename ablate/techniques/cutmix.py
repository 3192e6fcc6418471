"""cutmix: paste a box of one image into another, and share the label by area."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from pydantic import Field

from ablate.techniques.mixer import MixingTechnique, Partner, draw_partners

if TYPE_CHECKING:
    from torch import Tensor

Box = tuple[int, int, int, int]
"""Top, bottom, left, right in pixels, with bottom and right exclusive."""


def cutmix(x: Tensor, partner: Tensor, box: Tensor) -> Tensor:
    """Replace the pixels inside a box by the partner's.

    Args:
        x: Images, shape (n, c, h, w).
        partner: The position of each item's partner, int64 of shape (n,).
        box: Top, bottom, left, right in pixels, bottom and right exclusive; int64 of shape (4,) for all
            images, or (n, 4) for each.

    Returns:
        Images of the same shape. The box is a mask and not a slice, so every box is the same graph on XLA.
    """
    import torch

    top, bottom, left, right = box.reshape(-1, 4, 1, 1, 1).unbind(1)
    rows = torch.arange(x.shape[2], device=x.device)[:, None]
    columns = torch.arange(x.shape[3], device=x.device)[None, :]
    inside = (rows >= top) & (rows < bottom) & (columns >= left) & (columns < right)
    return torch.where(inside, x[partner], x)


def random_box(height: int, width: int, share: float, rng: np.random.Generator) -> Box:
    """A box of about `1 − share` of the area around a uniform centre, cut off at the border.

    Args:
        height: Of the image, in pixels.
        width: Of the image, in pixels.
        share: λ, the part that stays.
        rng: Where the centre comes from.

    Returns:
        Top, bottom, left, right, with bottom and right exclusive (Yun et al. 2019, eq. 2).
    """
    side = np.sqrt(1 - share)
    box_height, box_width = int(height * side), int(width * side)
    y, x = int(rng.integers(height)), int(rng.integers(width))
    return (
        max(y - box_height // 2, 0),
        min(y + (box_height + 1) // 2, height),  # an odd side keeps its last pixel, as in timm
        max(x - box_width // 2, 0),
        min(x + (box_width + 1) // 2, width),
    )


def inside_box(height: int, width: int, share: float, rng: np.random.Generator) -> Box:
    """A box as in `random_box`, but evenly at any place where the whole of it lies in the image."""
    side = np.sqrt(1 - share)
    box_height, box_width = int(height * side), int(width * side)
    top, left = int(rng.integers(height - box_height + 1)), int(rng.integers(width - box_width + 1))
    return top, top + box_height, left, left + box_width


_PLACES = {"clipped": random_box, "inside": inside_box}


class CutMix(MixingTechnique):
    """Paste a box from each image's partner; the labels weigh as the pixels do, exactly.

    One box for all images of a batch, or for each its own. A box that is cut off at the border gives less of
    the partner than was drawn, so `place: inside` mixes more.
    """

    name: ClassVar[str] = "cutmix"
    paper: ClassVar[str] = "Yun et al. 2019, arXiv 1905.04899"

    alpha: float = Field(1.0, gt=0, description="Beta's parameter; 1 draws the share evenly.")
    per_image: bool = Field(False, description="A box and a share for each image, not one for the batch.")
    place: Literal["clipped", "inside"] = Field(
        "clipped", description="Where a box may lie: cut off at the border, or inside as a whole."
    )
    p: float = Field(1.0, gt=0, le=1, description="The share of batches, or of images, that are mixed.")
    partner: Partner = Field(
        "permutation", description="Whom with: the batch in another order, or any of the other images."
    )

    def mix(self, x: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """One batch mixed; see `ablate.training.mixing.Mixer`."""
        import torch

        height, width = x.shape[-2:]
        draw, count = _PLACES[self.place], len(x) if self.per_image else 1
        shares = rng.beta(self.alpha, self.alpha, size=count)
        boxes = np.array([draw(height, width, share, rng) for share in shares])
        partner = torch.as_tensor(draw_partners(len(x), self.partner, rng)).to(x.device)
        boxes[rng.random(count) >= self.p] = 0  # an empty box
        top, bottom, left, right = boxes.T
        kept = 1 - (bottom - top) * (right - left) / (height * width)
        share = torch.as_tensor(kept, dtype=torch.float32).expand(len(x)).to(x.device)
        return cutmix(x, partner, torch.as_tensor(boxes).to(x.device)), partner, share
