"""fixres: train on smaller images, then adapt the head to the full size."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from ablate.errors import AblateError
from ablate.recipe.schema import Phase
from ablate.recipe.section import Rate
from ablate.techniques.base import Technique


def smaller_size(size: int, share: float, multiple: int) -> int:
    """The multiple of `multiple` that is nearest to a share of a size, in pixels."""
    return max(round(size * share / multiple), 1) * multiple


class FixRes(Technique):
    """Train all phases at a share of their size, then the head and the batch norms alone at the full size.

    Random crops show objects larger in training than in prediction; smaller training images make up for
    that, and are cheaper. The further phase is called `fixres`, and comes last. To train it on images as
    they are predicted, as in the paper, name the other phases in the options `phases` of the techniques
    that augment or mix. The effect includes the phase's epochs, and the contrast is flagged.
    """

    name: ClassVar[str] = "fixres"
    paper: ClassVar[str] = "Touvron et al. 2019, arXiv 1906.06423"
    order: ClassVar[int] = 95
    structural: ClassVar[frozenset[str]] = frozenset({"train_share", "multiple", "epochs", "lr"})
    quick: ClassVar[dict[str, Any]] = {"epochs": 1}

    train_share: float = Field(
        1 / 1.15, gt=0, lt=1, description="The size that phases train at, as a share of their own."
    )
    multiple: int = Field(32, ge=1, description="Training sizes are multiples of it, in pixels.")
    epochs: int = Field(1, ge=1, description="Of the further phase.")
    lr: Rate | Literal["find"] = Field(1e-3, description="Of the further phase.")

    def edit_phases(self, phases: list[Phase]) -> list[Phase]:
        own = {"name": self.name, "epochs": self.epochs, "lr": self.lr, "lr_spread": 1.0, "freeze": True}
        return [*map(self._smaller, phases), phases[-1].model_copy(update=own)]

    def _smaller(self, phase: Phase) -> Phase:
        """The phase at its training size; images are presized as before."""
        if phase.size is None:
            return phase
        size = smaller_size(phase.size, self.train_share, self.multiple)
        if size >= phase.size:
            raise AblateError(
                f"fixres: phase {phase.name} trains at {phase.size} pixels, and the multiple of "
                f"{self.multiple} nearest to {self.train_share:.0%} of that is no smaller; lower train_share "
                "or multiple."
            )
        return phase.model_copy(update={"size": size})
