"""A network's weights and its optimizer's state, in files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from fastai.learner import Learner
from safetensors.torch import load
from torch import nn

from ablate import sealed
from ablate.training.state import load_state, save_state, save_tensors

WEIGHTS, OPTIMIZER = "weights.safetensors", "optimizer"


def save_weights(learn: Learner, folder: Path) -> None:
    """Write the network's parameters and buffers."""
    save_tensors(learn.model.state_dict(), folder / WEIGHTS)


def load_weights(learn: Learner, folder: Path, name: str = WEIGHTS) -> None:
    """Read what `save_weights` wrote into a network of the same build.

    Raises:
        Damaged: The file is not the one that was written.
    """
    learn.model.load_state_dict(load(sealed.read(folder, name)))


def save_optimizer(learn: Learner, folder: Path) -> None:
    """Write the state of the optimizer, fastai's or torch's."""
    save_state(learn.opt.state_dict(), folder, OPTIMIZER)


def load_optimizer(learn: Learner, folder: Path, *, rates: bool) -> None:
    """Read what `save_optimizer` wrote into an optimizer over the same parameters.

    Args:
        learn: Its optimizer exists.
        folder: Where the files are; sealed.
        rates: Whether learning rates and the like are taken over too; else they stay as they are.

    Raises:
        Damaged: The files are not those that were written.
    """
    state = load_state(folder, OPTIMIZER)
    own = learn.opt.state_dict()
    if not rates:
        for groups in ("hypers", "param_groups"):  # fastai's name, torch's name
            if groups in own:
                state[groups] = own[groups]
    # torch's optimizers find the device themselves, and leave some of the state on the CPU
    device = next(learn.model.parameters()).device if "hypers" in own else None
    learn.opt.load_state_dict(_placed(state, device, memory_format(learn.model)))


def memory_format(model: nn.Module) -> torch.memory_format:
    """How a network's kernels are laid out; other layouts give other last bits."""
    kernels = [p for p in model.parameters() if p.ndim == 4 and not p.is_contiguous()]
    return torch.channels_last if kernels else torch.contiguous_format


def _placed(state: Any, device: torch.device | None, layout: torch.memory_format) -> Any:
    if isinstance(state, torch.Tensor):
        state = state.contiguous(memory_format=layout) if state.ndim == 4 else state
        return state if device is None else state.to(device)
    if isinstance(state, dict):
        return {key: _placed(value, device, layout) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return type(state)(_placed(value, device, layout) for value in state)
    return state
