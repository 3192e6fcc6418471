"""mixup: train on weighted sums of two images and their labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import Field

from ablate.recipe.schema import Phase
from ablate.techniques.mixer import MixingTechnique, Partner, draw_partners

if TYPE_CHECKING:
    from torch import Tensor


def mixup(x: Tensor, partner: Tensor, share: Tensor) -> Tensor:
    """`share · x + (1 − share) · x[partner]` for each item.

    Args:
        x: Images, shape (n, c, h, w), floating.
        partner: The position of each item's partner, int64 of shape (n,).
        share: Each item's own weight, shape (n,).

    Returns:
        Images of the same shape (Zhang et al. 2018, eq. 1).
    """
    return x[partner].lerp(x, share.to(x.dtype)[:, None, None, None])


def folded_beta(alpha: float, count: int, rng: np.random.Generator) -> np.ndarray:
    """`count` draws of max(λ, 1 − λ) with λ ~ Beta(alpha, alpha): the larger share stays the image's own."""
    draws = rng.beta(alpha, alpha, size=count)
    return np.maximum(draws, 1 - draws)


class FurtherPhase(Phase):
    """A phase after the last; what is not set comes from the last."""

    name: str = "mixup"


class MixUp(MixingTechnique):
    """Blend every image of a batch with another, and weigh their labels in the same way.

    Each item draws its own λ from Beta(alpha, alpha), folded so that its own share is the larger one, as in
    fastai, or as it is.
    With `further` the technique trains longer, in a phase of its own after the others; the effect of that
    phase then includes its epochs, and the contrast is flagged.
    """

    name: ClassVar[str] = "mixup"
    paper: ClassVar[str] = "Zhang et al. 2018, arXiv 1710.09412"
    structural: ClassVar[frozenset[str]] = frozenset({"phases", "further"})

    alpha: float = Field(0.4, gt=0, description="Beta's parameter: small mixes little, 1 evenly.")
    folded: bool = Field(True, description="Whether an image's own share is the larger one: max(λ, 1 − λ).")
    partner: Partner = Field(
        "permutation", description="Whom with: the batch in another order, or any of the other images."
    )
    further: FurtherPhase | None = Field(None, description="A phase to add at the end, in which it is on.")

    def active_in(self, phase: str) -> bool:
        if self.further is None:
            return super().active_in(phase)
        return phase == self.further.name or phase in (self.phases or [])

    def edit_phases(self, phases: list[Phase]) -> list[Phase]:
        if self.further is None:
            return phases
        return [
            *phases,
            phases[-1].model_copy(update=self.further.model_dump(exclude_unset=True) | self._named()),
        ]

    def _named(self) -> dict[str, Any]:
        assert self.further is not None
        return {"name": self.further.name}

    def mix(self, x: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """One batch mixed; see `ablate.training.mixing.Mixer`."""
        import torch

        drawn = (
            folded_beta(self.alpha, len(x), rng) if self.folded else rng.beta(self.alpha, self.alpha, len(x))
        )
        partner = torch.as_tensor(draw_partners(len(x), self.partner, rng)).to(x.device)
        share = torch.as_tensor(drawn, dtype=torch.float32).to(x.device)
        return mixup(x, partner, share), partner, share
