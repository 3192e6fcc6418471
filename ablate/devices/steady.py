"""What makes a phase's first training step the same graph as all others, where graphs are compiled."""

from __future__ import annotations

import gc
from typing import Any

import torch
from fastai.torch_core import to_device
from torch import nn


def forget_gradients(optimizer: Any) -> None:
    """Drop the gradients: adding to zeros, as fastai has it, is another graph than that of the first step."""
    for parameter, *_ in optimizer.all_params():
        parameter.grad = None


def create_state(optimizer: Any) -> None:
    """Give each parameter the averages that fastai's optimizers create in their first step, all zero.

    Args:
        optimizer: fastai's; torch's own create their state as they like, at the cost of one more graph.
    """
    if not hasattr(optimizer, "cbs"):
        return
    for parameter, _, state, hyper in optimizer.all_params():
        if not parameter.requires_grad or any(isinstance(value, torch.Tensor) for value in state.values()):
            continue
        twin = torch.zeros(parameter.shape)
        twin.grad = torch.zeros_like(twin)
        left: dict[str, Any] = {}
        for callback in optimizer.cbs:
            result = callback(twin, **state, **left, **hyper)
            left |= result if isinstance(result, dict) else {}
        averages = {name: value for name, value in left.items() if isinstance(value, torch.Tensor)}
        optimizer.state[parameter] = state | to_device(averages, parameter.device)


def compute_all(device: str) -> None:
    """Have a device compute all tensors on it that came from the host: it reuses the memory of those alone.

    Args:
        device: Its type, as torch calls it.
    """
    gc.collect()  # what an earlier learner has left would be part of the graph
    with torch.no_grad():
        for held in gc.get_objects():
            if type(held) in (torch.Tensor, nn.Parameter) and held.device.type == device:
                held.data.logical_or_(held.data) if held.dtype == torch.bool else held.data.mul_(1)


def by_running_averages(norm: Any, x: torch.Tensor) -> torch.Tensor:
    """A batch norm in evaluation mode, step by step: XLA has no gradient for it as one operation.

    One that goes by each batch's statistics has a gradient, and stays as it is.

    Args:
        norm: With an activation of its own, or without.
        x: Shape (n, c, …).
    """
    if norm.running_mean is None:
        return type(norm).forward(norm, x)
    shape = (1, -1, *(1 for _ in x.shape[2:]))
    scale = (norm.running_var + norm.eps).rsqrt()
    shift = -norm.running_mean * scale
    if norm.affine:
        scale, shift = scale * norm.weight, shift * norm.weight + norm.bias
    x = x * scale.to(x.dtype).view(shape) + shift.to(x.dtype).view(shape)
    for name in ("drop", "act"):
        x = getattr(norm, name, nn.Identity())(x)
    return x


def in_training(norm: Any, x: torch.Tensor) -> torch.Tensor:
    """A batch norm whose running variance takes up the unbiased one of a batch, as everywhere but on XLA.

    torch_xla takes the biased one, which is smaller by 1/n, and so 6 % less behind a pooling of 16 images.

    Args:
        norm: With an activation of its own, or without.
        x: Shape (n, c, …).
    """
    if not norm.training or not norm.track_running_stats or norm.momentum is None:
        return type(norm).forward(norm, x)
    staying = norm.running_var * (1 - norm.momentum)
    result = type(norm).forward(norm, x)
    count = x.numel() // x.shape[1]
    norm.running_var.data.sub_(staying).mul_(count / (count - 1)).add_(staying)  # autograd holds the old one
    return result
