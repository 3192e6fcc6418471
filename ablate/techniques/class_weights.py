"""class_weights: let some classes' images count more in the loss than others'."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from ablate.errors import AblateError
from ablate.techniques.base import Context, InPhases

Weight = Annotated[float, Field(ge=0)]


def balanced_weights(targets: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    """Weights under which all classes have the same share of the loss, n / (K · n_c) as in scikit-learn.

    Args:
        targets: The class of each training item, shape (n,), from 0 to K − 1.
        classes: The names of the K classes.

    Returns:
        float64 of shape (K,); their mean over the items is 1.

    Raises:
        AblateError: A class has no items.
    """
    counts = np.bincount(targets, minlength=len(classes))
    if not counts.all():
        missing = classes[int(np.argmin(counts))]
        raise AblateError(
            f"class_weights: class {missing!r} has no training images, so balanced has no weight for it; "
            "give weights as a list, or split the data otherwise."
        )
    return len(targets) / (len(classes) * counts)


class ClassWeights(InPhases):
    """Multiply the loss of each image by a weight of its class.

    The mean over a batch is over its images, not over their weights, as in Keras: so an image counts the same
    whatever else is in its batch.
    """

    name: ClassVar[str] = "class_weights"
    paper: ClassVar[str] = "King & Zeng 2001, Logistic Regression in Rare Events Data"
    order: ClassVar[int] = 40

    weights: Literal["balanced"] | list[Weight] = Field(
        "balanced", description="One number for each class, in the classes' order; or n / (K · n_c)."
    )

    def loss(self, loss: Any, context: Context) -> Any:
        import torch

        from ablate.training.losses import Weighted, class_loss

        return Weighted(class_loss(loss, self.name), torch.tensor(self.by_class(context)))

    def by_class(self, context: Context) -> list[float]:
        """The weight of each class.

        Raises:
            AblateError: There are not as many classes as weights, or a class without training images.
        """
        if self.weights == "balanced":
            return balanced_weights(context.train_targets, context.classes).tolist()
        if len(self.weights) != context.n_classes:
            raise AblateError(
                f"class_weights.weights: has {len(self.weights)} numbers, but there are {context.n_classes} "
                f"classes; give one for each of {_listed(context.classes)}."
            )
        return list(self.weights)


def _listed(classes: Sequence[str]) -> str:
    return ", ".join(classes[:10]) + (" …" if len(classes) > 10 else "")
