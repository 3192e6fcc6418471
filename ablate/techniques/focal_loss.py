"""focal_loss: a loss in which images that are easy already count less."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from ablate.errors import AblateError
from ablate.techniques.base import Context, InPhases

if TYPE_CHECKING:
    from torch import Tensor

Alpha = Annotated[float, Field(gt=0, lt=1)]
Weight = Annotated[float, Field(ge=0)]


def focal(log_p: Tensor, gamma: float) -> Tensor:
    """`−(1 − p)^γ log p`, the loss of a class with probability p.

    Args:
        log_p: Logarithms of probabilities, any shape.
        gamma: γ, how much less easy cases count.

    Returns:
        The same shape (Lin et al. 2017, eq. 4). The gradient is finite for every γ where p is 1, too.
    """
    import torch

    missing = (-torch.expm1(log_p)).clamp(min=torch.finfo(log_p.dtype).tiny)
    return -(missing**gamma) * log_p


class FocalLoss(InPhases):
    """Weigh an image's cross-entropy by (1 − p)^gamma, p the probability of its label, and by its class.

    With two classes and `sigmoid_output` it is the binary focal loss of detection.
    """

    name: ClassVar[str] = "focal_loss"
    paper: ClassVar[str] = "Lin et al. 2017, arXiv 1708.02002"
    order: ClassVar[int] = 20
    replaces_loss: ClassVar[bool] = True

    gamma: float = Field(2.0, ge=0, description="How much less easy images count; 0 is cross-entropy.")
    alpha: Alpha | list[Weight] | None = Field(
        None,
        description="The second of two classes' weight, where the first one's is 1 − alpha; or each class's.",
    )
    reduction: Literal["mean", "sum"] = Field(
        "mean", description="Over the batch; a sum is as many times larger as there are images in it."
    )

    def loss(self, loss: Any, context: Context) -> Any:
        import torch

        from ablate.training.losses import FocalLoss as Loss
        from ablate.training.losses import Weighted

        plain = Loss(self.gamma, self.reduction)
        weights = self.class_weights(context.n_classes)
        return plain if weights is None else Weighted(plain, torch.tensor(weights))

    def class_weights(self, n_classes: int) -> list[float] | None:
        """α of each class.

        Raises:
            AblateError: There are not as many classes as `alpha` is for.
        """
        if self.alpha is None:
            return None
        weights = self.alpha if isinstance(self.alpha, list) else [1 - self.alpha, self.alpha]
        if len(weights) != n_classes:
            given = f"has {len(weights)} numbers" if weights is self.alpha else "is one number, for 2 classes"
            raise AblateError(
                f"focal_loss.alpha: {given}, but there are {n_classes} classes; give a list of {n_classes}."
            )
        return weights
