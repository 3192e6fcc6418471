"""cutmix: paste a box of one image into another, and share the label by area."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import Field

from ablate.techniques.base import Context, InPhases

if TYPE_CHECKING:
    from torch import Tensor


def cutmix(x: Tensor, partner: Tensor, box: Tensor) -> Tensor:
    """Replace the pixels inside a box by the partner's.

    Args:
        x: Images, shape (n, c, h, w).
        partner: The position of each item's partner, int64 of shape (n,).
        box: Top, bottom, left, right in pixels, bottom and right exclusive; int64 of shape (4,).

    Returns:
        Images of the same shape. The box is a mask and not a slice, so every box is the same graph on XLA.
    """
    import torch

    rows = torch.arange(x.shape[2], device=x.device)[:, None]
    columns = torch.arange(x.shape[3], device=x.device)[None, :]
    inside = (rows >= box[0]) & (rows < box[1]) & (columns >= box[2]) & (columns < box[3])
    return torch.where(inside, x[partner], x)


def random_box(height: int, width: int, share: float, rng: np.random.Generator) -> tuple[int, int, int, int]:
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


class CutMix(InPhases):
    """Paste one box per batch from each image's partner; the labels weigh as the pixels do, exactly."""

    name: ClassVar[str] = "cutmix"
    paper: ClassVar[str] = "Yun et al. 2019, arXiv 1905.04899"
    order: ClassVar[int] = 60

    alpha: float = Field(1.0, gt=0, description="Beta's parameter; 1 draws the share evenly.")

    def callbacks(self, context: Context | None = None) -> list[Any]:
        from ablate.training.mixing import MixBatches

        return [MixBatches([self], context.streams if context else None)]

    def mix(self, x: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """One batch mixed; see `ablate.training.mixing.Mixer`."""
        import torch

        height, width = x.shape[-2:]
        top, bottom, left, right = random_box(height, width, rng.beta(self.alpha, self.alpha), rng)
        kept = 1 - (bottom - top) * (right - left) / (height * width)
        box = torch.tensor([top, bottom, left, right]).to(x.device)
        partner = torch.as_tensor(rng.permutation(len(x))).to(x.device)
        share = torch.full((len(x),), kept, dtype=torch.float32).to(x.device)
        return cutmix(x, partner, box), partner, share
