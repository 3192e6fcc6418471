"""label_smoothing: targets of 1 − ε instead of 1."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field

from ablate.techniques.base import Context, InPhases


class LabelSmoothing(InPhases):
    """Take ε of the target's probability and spread it evenly over all classes.

    A network that is asked for certainty keeps pushing its logits apart, wrong labels included; a softer
    target stops that. It acts on whichever loss is on, class weights included.
    """

    name: ClassVar[str] = "label_smoothing"
    paper: ClassVar[str] = "Szegedy et al. 2016, arXiv 1512.00567"
    exclusive: ClassVar[str] = "say how labels are smoothed"

    eps: float = Field(0.1, ge=0, lt=1, description="The probability taken from the target.")

    def loss(self, loss: Any, context: Context) -> Any:
        from fastai.losses import LabelSmoothingCrossEntropyFlat

        from ablate.training.losses import Smoothed, class_loss, is_plain

        if is_plain(loss):
            return LabelSmoothingCrossEntropyFlat(eps=self.eps)
        return Smoothed(class_loss(loss, self.name), self.eps)
