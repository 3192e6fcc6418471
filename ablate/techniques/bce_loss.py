"""bce_loss: ask of every class by itself whether it is there."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field

from ablate.techniques.base import Context, InPhases


class BCELoss(InPhases):
    """Binary cross-entropy of every class against the rest, in the place of cross-entropy.

    A class's logit answers for itself alone, and mixed images can have two classes with certainty. Predicted
    probabilities are the sigmoids, normalised so that those of an image sum to one; that keeps their order.
    """

    name: ClassVar[str] = "bce_loss"
    paper: ClassVar[str] = "Wightman et al. 2021, arXiv 2110.00476"
    order: ClassVar[int] = 20
    replaces_loss: ClassVar[bool] = True

    sum_classes: bool = Field(
        False, description="Add up what the classes' outputs cost instead of averaging it."
    )

    def claims(self) -> list[str]:
        return [*super().claims(), "make the outputs sigmoids"]

    def loss(self, loss: Any, context: Context) -> Any:
        from ablate.training.losses import OneVsAll

        return OneVsAll(self.sum_classes)
