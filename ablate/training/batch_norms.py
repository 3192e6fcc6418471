"""Batch norms that are held still, passed over, or worked out anew."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from fastai.callback.core import Callback, TrainEvalCallback
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ablate.errors import AblateError


class FreezeBatchNorms(Callback):
    """Have the body's batch norms keep their statistics, weights and biases.

    Raises:
        AblateError: The body has none.
    """

    order = TrainEvalCallback.order + 1  # after all layers are set to train

    def before_fit(self) -> None:
        self.norms = batch_norms(self.learn.model[0])
        if not self.norms:
            raise AblateError("freeze_bn: the network has no batch norm in its body; turn freeze_bn off.")
        for norm in self.norms:
            for parameter in norm.parameters():
                parameter.requires_grad_(False).grad = None

    def before_train(self) -> None:
        for norm in self.norms:
            norm.eval()


def batch_norms(model: nn.Module) -> list[_BatchNorm]:
    """All batch norms of a network, timm's with an activation too."""
    return [module for module in model.modules() if isinstance(module, _BatchNorm)]


@contextmanager
def without_tracking(model: nn.Module) -> Iterator[None]:
    """Leave the running averages as they are in what follows; batches are still normalized by their own."""
    tracking = [norm for norm in batch_norms(model) if norm.training and norm.track_running_stats]
    for norm in tracking:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in tracking:
            norm.track_running_stats = True


@torch.no_grad()
def recompute_statistics(model: nn.Module, batches: Iterable[tuple[Any, ...]]) -> None:
    """Replace the running averages by plain averages over some batches; weights stay.

    As torch's `update_bn`, but for networks of several inputs, and only of those batch norms that are in
    training mode: others have been frozen. Every batch finds the batch norms alike, and so is the same graph
    on XLA; what it leaves is averaged on the host.

    Args:
        model: In training mode.
        batches: The network's inputs, batch by batch; not looked at where no batch norm is in training.
    """
    norms = [norm for norm in batch_norms(model) if norm.training and norm.track_running_stats]
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    device = next(model.parameters()).device
    averages = [start(norm.num_features) for norm in norms for start in (torch.zeros, torch.ones)]
    left: list[torch.Tensor] = []
    count = 0
    for norm in norms:
        # each batch leaves its own statistics; the synchronized ones insist on a counter
        norm.momentum = 1.0
        norm.num_batches_tracked = torch.tensor(0) if isinstance(norm, nn.SyncBatchNorm) else None
    for count, inputs in enumerate(batches, 1):
        _take_up(averages, left, count - 1)
        left = []
        for norm in norms:
            norm.running_mean = torch.zeros(norm.num_features).to(device)
            norm.running_var = torch.ones(norm.num_features).to(device)
            left += [norm.running_mean, norm.running_var]
        model(*inputs)
    _take_up(averages, left, count)
    for i, (norm, momentum) in enumerate(zip(norms, momenta, strict=True)):
        norm.running_mean, norm.running_var = (own.to(device) for own in averages[2 * i : 2 * i + 2])
        norm.momentum, norm.num_batches_tracked = momentum, torch.tensor(count).to(device)


def _take_up(averages: Sequence[torch.Tensor], values: Sequence[torch.Tensor], count: int) -> None:
    """Move averages of `count - 1` values, in place, to those with one more; nothing where there are none."""
    for average, value in zip(averages, values, strict=False):
        average.lerp_(value.cpu(), 1 / count)
