"""arcface: train angles between features and classes, with a margin on the angle of the right class."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from ablate.techniques.base import Context, Technique

if TYPE_CHECKING:
    from torch import Tensor


def arc_margin(cosine: Tensor, m: float, easy_margin: bool = False) -> Tensor:
    """cos(θ + m) from cos θ; where θ + m would be beyond π, what goes on falling.

    Args:
        cosine: cos θ, any shape.
        m: The margin, in radians.
        easy_margin: Put the margin only on angles below π/2, instead of cos θ − m sin m beyond π − m.

    Returns:
        The same shape (Deng et al. 2019, eq. 3, and the code of its authors). The gradient at θ = 0 and π,
        infinite in truth, is that of cos m · cos θ.
    """
    import torch

    room = (1 - cosine) * (1 + cosine)  # closer to 1 − cos² than that itself, where cos is near ±1
    inside = room > 0
    sine = torch.where(inside, torch.where(inside, room, 1).sqrt(), 0)
    phi = cosine * math.cos(m) - sine * math.sin(m)
    if easy_margin:
        return torch.where(cosine > 0, phi, cosine)
    return torch.where(cosine > math.cos(math.pi - m), phi, cosine - math.sin(math.pi - m) * m)


class ArcFace(Technique):
    """Give each class a direction, and ask an image's features to be nearer to their own by an angle of `m`.

    The output layer becomes a cosine layer, and its logits are s·cos θ: their softmax predicts, without a
    margin; the margin is in the loss, which has the label. So images of a class have features of a direction,
    which serve retrieval. It holds for all phases.
    """

    name: ClassVar[str] = "arcface"
    paper: ClassVar[str] = "Deng et al. 2019, arXiv 1801.07698"
    order: ClassVar[int] = 20
    replaces_loss: ClassVar[bool] = True

    s: float = Field(30.0, gt=0, description="The scale of the logits.")
    m: float = Field(0.5, ge=0, le=math.pi / 2, description="The margin, in radians.")
    easy_margin: bool = Field(False, description="The margin only on angles below 90 degrees.")
    ls_eps: float = Field(
        0.0, ge=0, lt=1, description="Smoothing: this share of the margin is spread evenly over all classes."
    )

    def claims(self) -> list[str]:
        return [*super().claims(), "replace the output layer", "say how labels are smoothed"]

    def model(self, model: Any, context: Context) -> Any:
        from ablate.training.output import CosineLayer, replace_output

        return replace_output(model, lambda old: CosineLayer(old.in_features, old.out_features, self.s))

    def loss(self, loss: Any, context: Context) -> Any:
        from ablate.training.losses import ArcFaceLoss

        return ArcFaceLoss(self.s, self.m, self.easy_margin, self.ls_eps)
