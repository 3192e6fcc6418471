"""swa: validate, keep and predict with the average of the weights of the last epochs."""

from __future__ import annotations

from math import ceil
from typing import Any, ClassVar

from pydantic import Field

from ablate.techniques.base import Context, InPhases


def first_averaged(epochs: int, share: float) -> int:
    """The first of the last `share` of all epochs, from 0; the share is rounded up to whole epochs."""
    return epochs - max(ceil(round(epochs * share, 9)), 1)


class SWA(InPhases):
    """The phase's weights are the plain average of those after each of its last epochs (torch's swa_utils).

    Batch norms' statistics are worked out anew for the average, in a pass over the training images for every
    epoch that counts. Before those epochs, the weights are as ever. Under one-cycle the rate falls in just
    those epochs; the paper keeps it up: `schedule: {decay: none}`.
    """

    name: ClassVar[str] = "swa"
    version: ClassVar[int] = 2
    paper: ClassVar[str] = "Izmailov et al. 2018, arXiv 1803.05407"
    exclusive: ClassVar[str] = "average the weights"

    share: float = Field(0.25, gt=0, le=1, description="Which share of the epochs counts, the last.")

    def callbacks(self, context: Context | None = None) -> list[Any]:
        from ablate.training.averaging import EpochAverage

        return [EpochAverage(self.share)]
