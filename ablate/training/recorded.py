"""What fastai's Recorder writes down, without waiting for the device in every batch.

fastai's own sums bring each batch's figure to the host. These leave it where it is until an epoch's figures
are asked for; the figures are the same, bit for bit.
"""

from __future__ import annotations

from typing import Any

import torch
from fastai.learner import AvgMetric, AvgSmoothLoss, Learner
from fastai.torch_core import find_bs


class Mean(AvgMetric):
    """fastai's `AvgMetric`: the mean, by the sizes of batches, of a function of predictions and targets."""

    def reset(self) -> None:
        self.batches: list[tuple[Any, int]] = []

    def accumulate(self, learn: Learner) -> None:
        figure = self.of(learn)
        figure = figure.detach() if isinstance(figure, torch.Tensor) else figure
        self.batches.append((figure, find_bs(learn.yb)))

    def of(self, learn: Learner) -> Any:
        """The present batch's figure."""
        return self.func(learn.pred, *learn.yb)

    @property
    def value(self) -> Any:
        if not self.batches:
            return None
        hosted = [(f.cpu() if isinstance(f, torch.Tensor) else f, size) for f, size in self.batches]
        return sum(figure * size for figure, size in hosted) / sum(size for _, size in hosted)


class MeanLoss(Mean):
    """fastai's `AvgLoss`."""

    name = "loss"

    def __init__(self) -> None:
        self.reset()

    def of(self, learn: Learner) -> Any:
        return learn.loss.mean()


class SmoothLoss(AvgSmoothLoss):
    """fastai's `AvgSmoothLoss`: the exponentially smoothed training loss, where the loss is.

    Its inputs have a dimension: XLA takes single numbers that are equal by chance for one, which makes
    another graph.
    """

    latest: torch.Tensor

    def reset(self) -> None:
        self.count, self.val = 0, torch.zeros(1)

    def accumulate(self, learn: Learner) -> None:
        loss = learn.loss.detach().mean()
        self.count += 1
        self.val = torch.lerp(loss, self.val.to(loss.device), self.beta)
        weight = torch.tensor([1 - self.beta**self.count]).to(loss.device)
        self.latest = (self.val / weight)[0]

    @property
    def value(self) -> torch.Tensor:
        return self.latest
