"""unmixed: leave some batches as they are, where others are mixed."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ablate.techniques.mixer import MixingTechnique

if TYPE_CHECKING:
    from torch import Tensor


class Unmixed(MixingTechnique):
    """One more member of the set that mixup, cutmix and gridmask make: a batch that draws it stays plain.

    Beside one other mixing technique of the same weight, half of the batches are mixed. Alone, it changes
    nothing.
    """

    name: ClassVar[str] = "unmixed"
    paper: ClassVar[str] = "Yun et al. 2019, arXiv 1905.04899, which mixes half of CIFAR's batches"

    def mix(self, x: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """The batch as it is; see `ablate.training.mixing.Mixer`."""
        import torch

        return x, torch.arange(len(x), device=x.device), torch.ones(len(x), device=x.device)
