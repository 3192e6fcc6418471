"""What the mixing techniques share: their place among the techniques, and how often each is chosen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from ablate.techniques.base import Context, InPhases

if TYPE_CHECKING:
    from torch import Tensor

Partner = Literal["permutation", "other"]


class MixingTechnique(InPhases):
    """A technique that makes a new batch of each batch; of those that are on, one is chosen for each batch.

    A subclass defines `mix`, as `ablate.training.mixing.Mixer` says.
    """

    order: ClassVar[int] = 60

    weight: float = Field(
        1.0, gt=0, description="How often it is chosen, relative to the other mixing techniques that are on."
    )

    def callbacks(self, context: Context | None = None) -> list[Any]:
        from ablate.training.mixing import MixBatches

        return [MixBatches([self], context.streams if context else None)]

    def mix(self, x: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """One batch mixed; see `ablate.training.mixing.Mixer`."""
        raise NotImplementedError


def draw_partners(count: int, partner: Partner, rng: np.random.Generator) -> np.ndarray:
    """Whom each item of a batch is mixed with.

    Args:
        count: The batch's items.
        partner: `permutation`: each item is a partner once, perhaps its own; `other`: drawn evenly from the
            other items, so that one may be a partner twice. A lone item is its own partner.
        rng: Where the draws come from.

    Returns:
        Positions, int64 of shape (count,).
    """
    if partner == "permutation" or count == 1:
        return rng.permutation(count)
    return (np.arange(count) + rng.integers(1, count, size=count)) % count
