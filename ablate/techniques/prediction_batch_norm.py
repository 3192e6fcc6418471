"""prediction_batch_norm: normalize by the images that are predicted, not by those of training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from ablate.errors import AblateError
from ablate.techniques.base import Context, Predictor, Technique

if TYPE_CHECKING:
    from torch import Tensor, nn


@contextmanager
def batch_statistics(model: nn.Module) -> Iterator[None]:
    """Have every batch norm of a network go by the mean and variance of its batch, in evaluation too.

    Its running averages are as before afterwards (Nado et al. 2020, section 2).

    Raises:
        AblateError: The network has no batch norm.
    """
    from torch.nn.modules.batchnorm import _BatchNorm

    kept: list[tuple[Any, Tensor | None, Tensor | None]] = [
        (module, module.running_mean, module.running_var)
        for module in model.modules()
        if isinstance(module, _BatchNorm)
    ]
    if not kept:
        raise AblateError("prediction_batch_norm: the network has no batch norm; turn the technique off.")
    for module, _, _ in kept:
        module.running_mean = module.running_var = None  # in torch, the sign to use the batch's
    try:
        yield
    finally:
        for module, mean, variance in kept:
            module.running_mean, module.running_var = mean, variance


def filled_batch_size(count: int, most: int) -> int:
    """The batch size that leaves the most images in the last batch: few images have poor statistics.

    Args:
        count: The images.
        most: The batch size that is not exceeded, nor more than halved.

    Raises:
        AblateError: The last batch would be a single image, which has no statistics.
    """

    def last(size: int) -> int:
        return count % size or size

    best = max(range(most // 2 + 1, most + 1), key=lambda size: (last(size), size))
    if last(best) == 1:
        raise AblateError(
            f"prediction_batch_norm: {count} images in batches of {most} at most leave one alone, which has "
            "no statistics; set a larger batch_size, predict more images, or turn it off."
        )
    return best


class PredictionBatchNorm(Technique):
    """Test-time batch norm: predict with the statistics of the predicted batch. Costs no training.

    It helps where the images that are predicted look unlike those of training, and costs accuracy where they
    do not. A prediction then depends on the other images of its batch. Batches are made of the images in
    their order, of `batch_size` images or some fewer, so that the last one is as full as can be.
    """

    name: ClassVar[str] = "prediction_batch_norm"
    paper: ClassVar[str] = "Nado et al. 2020, arXiv 2006.10963"

    def predict(self, predictor: Predictor, context: Context) -> Predictor:
        return lambda view: predictor(replace(view, batch_statistics=True))
