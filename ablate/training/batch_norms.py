"""Batch norms that are held still, passed over, or worked out anew."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
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
            if norm.running_mean is not None and norm.running_mean.device.type == "xla":
                vars(norm)["forward"] = partial(by_running_averages, norm)

    def before_train(self) -> None:
        for norm in self.norms:
            norm.eval()


def by_running_averages(norm: Any, x: torch.Tensor) -> torch.Tensor:
    """A batch norm in evaluation mode, step by step: XLA has no gradient for it as one operation.

    Args:
        norm: With an activation of its own, or without.
        x: Shape (n, c, …).
    """
    shape = (1, -1, *(1 for _ in x.shape[2:]))
    scale = (norm.running_var + norm.eps).rsqrt()
    shift = -norm.running_mean * scale
    if norm.affine:
        scale, shift = scale * norm.weight, shift * norm.weight + norm.bias
    x = x * scale.to(x.dtype).view(shape) + shift.to(x.dtype).view(shape)
    for name in ("drop", "act"):
        x = getattr(norm, name, nn.Identity())(x)
    return x


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
    training mode: others have been frozen.

    Args:
        model: In training mode.
        batches: The network's inputs, batch by batch; not looked at where no batch norm is in training.
    """
    norms = [norm for norm in batch_norms(model) if norm.training and norm.track_running_stats]
    momenta = [norm.momentum for norm in norms]
    if not norms:
        return
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
    for inputs in batches:
        model(*inputs)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
