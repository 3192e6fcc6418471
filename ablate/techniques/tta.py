"""tta: predict several augmented copies of an image and combine them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from ablate.techniques.augment import Augment
from ablate.techniques.base import Context, Predictor, Technique, View

if TYPE_CHECKING:
    from torch import Tensor

_FLIPS = {"max_rotate": 0.0, "max_zoom": 1.0, "max_lighting": 0.0, "max_warp": 0.0}


def combine(plain: Tensor, copies: Tensor, beta: float, use_max: bool) -> Tensor:
    """Combine the plain view's probabilities with those of augmented copies.

    Args:
        plain: Shape (n, k).
        copies: Shape (m, n, k).
        beta: The plain view's weight against the copies' mean.
        use_max: Take the maximum over all views instead, scaled so that the rows still sum to 1: fastai
            leaves them larger, which flatters the log loss.

    Returns:
        Shape (n, k).
    """
    if use_max:
        highest = copies.amax(0).maximum(plain)
        return highest / highest.sum(-1, keepdim=True)
    return copies.mean(0).lerp(plain, beta)


class TTA(Technique):
    """Test-time augmentation: `n` random copies of each image beside the plain one. Costs no training."""

    name: ClassVar[str] = "tta"
    paper: ClassVar[str] = "Krizhevsky et al. 2012; Howard & Gugger 2020, Learner.tta"
    order: ClassVar[int] = 90

    n: int = Field(4, ge=1, description="Augmented copies.")
    beta: float = Field(0.25, ge=0, le=1, description="The weight of the plain view.")
    use_max: bool = Field(False, description="Maximum instead of mean.")
    transforms: Literal["augment", "flips"] | None = Field(
        None, description="Those of augment, or flips and crops; default: augment's where that is on."
    )

    def identity(self, on: Mapping[str, Technique]) -> dict[str, Any]:
        own = super().identity(on)
        return own | {"transforms": self._source(on).identity(on)}

    def predict(self, predictor: Predictor, context: Context) -> Predictor:
        transforms = tuple(self._source(context.on).item_transforms())

        def averaged(view: View) -> Tensor:
            import torch

            copies = [predictor(replace(view, transforms=transforms, copy=i + 1)) for i in range(self.n)]
            return combine(predictor(view), torch.stack(copies), self.beta, self.use_max)

        return averaged

    def _source(self, on: Mapping[str, Technique]) -> Augment:
        augment = on.get("augment")
        if self.transforms != "flips" and isinstance(augment, Augment):
            return augment
        return Augment() if self.transforms == "augment" else Augment.model_validate(_FLIPS)
