"""Weights and optimizer state as safetensors and JSON: no pickle is written or read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from fastai.learner import Learner
from safetensors.torch import load_file, save_file

WEIGHTS, OPTIMIZER, SCALARS = "weights.safetensors", "optimizer.safetensors", "optimizer.json"


def save_weights(learn: Learner, folder: Path) -> None:
    """Write the network's parameters and buffers."""
    state = learn.model.state_dict()
    save_file({name: _plain(tensor) for name, tensor in state.items()}, folder / WEIGHTS)


def load_weights(learn: Learner, folder: Path) -> None:
    """Read what `save_weights` wrote into a network of the same build."""
    learn.model.load_state_dict(load_file(folder / WEIGHTS))


def save_optimizer(learn: Learner, folder: Path) -> None:
    """Write the optimizer's state: tensors to safetensors, everything else to JSON."""
    tensors: dict[str, torch.Tensor] = {}
    scalars: list[dict[str, Any]] = []
    for i, state in enumerate(learn.opt.state_dict()["state"]):
        scalars.append({})
        for key, value in state.items():
            if isinstance(value, torch.Tensor):
                tensors[f"{i}.{key}"] = _plain(value)
            else:
                scalars[i][key] = value
    save_file(tensors, folder / OPTIMIZER)
    (folder / SCALARS).write_text(json.dumps(scalars))


def load_optimizer(learn: Learner, folder: Path) -> None:
    """Read what `save_optimizer` wrote into an optimizer over the same parameters; rates stay as they are."""
    device = next(learn.model.parameters()).device
    states: list[dict[str, Any]] = json.loads((folder / SCALARS).read_text())
    for name, tensor in load_file(folder / OPTIMIZER).items():
        number, key = name.split(".", 1)
        states[int(number)][key] = tensor.to(device)
    hypers = learn.opt.state_dict()["hypers"]
    learn.opt.load_state_dict({"state": states, "hypers": hypers})


def _plain(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().as_subclass(torch.Tensor).to("cpu").contiguous()
