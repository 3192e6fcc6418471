"""sam: sharpness-aware minimization, the gradient where the loss is highest nearby."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from ablate.techniques.base import Context, InPhases

if TYPE_CHECKING:
    from torch import Tensor


def ascent(
    weights: Sequence[Tensor], gradients: Sequence[Tensor], rho: float, adaptive: bool = False
) -> list[Tensor]:
    """How far to move each weight to where the loss is about the highest, at a distance of rho.

    `rho · g / ‖g‖` over all weights together (Foret et al. 2021, eq. 2); with `adaptive` the distance is
    measured relative to each weight, `rho · w² g / ‖w g‖` (Kwon et al. 2021, arXiv 2102.11600, eq. 5 without
    its η). Nothing moves where the gradient is not finite, as in a step that float16's loss scaler skips.

    Args:
        weights: Of any shapes.
        gradients: Of the same shapes; a common factor cancels out.
        rho: The distance.
        adaptive: Whether it is relative.
    """
    import torch

    scaled = [w.abs() * g if adaptive else g for w, g in zip(weights, gradients, strict=True)]
    norm = torch.stack([one.norm() for one in scaled]).norm()
    steps = [w.abs() * one if adaptive else one for w, one in zip(weights, scaled, strict=True)]
    moves = norm.isfinite() & (norm > 0)
    # not a plain number: XLA takes those that are equal for one input, here 1 - momentum, in some steps
    distance = torch.tensor([rho]).to(norm)[0]
    length = torch.where(moves, norm, 1).reciprocal() * distance
    return [torch.where(moves, step * length, 0) for step in steps]


class SAM(InPhases):
    """Go by the gradient at those weights, at a distance of rho, where the batch's loss is the highest.

    Costs a second forward and backward pass in every `interval`-th step. The second pass sees the same batch,
    mixed and augmented alike, under the same dropout; running averages of batch norms are those of the first
    pass, as is the loss that is recorded.
    """

    name: ClassVar[str] = "sam"
    paper: ClassVar[str] = "Foret et al. 2021, arXiv 2010.01412"

    rho: float = Field(0.05, gt=0, description="The distance.")
    adaptive: bool = Field(False, description="Measure it relative to each weight (ASAM).")
    interval: int = Field(1, ge=1, description="Only in every so many steps.")

    def callbacks(self, context: Context | None = None) -> list[Any]:
        from ablate.training.second_pass import SharpnessAware

        return [SharpnessAware(self.rho, self.adaptive, self.interval)]
