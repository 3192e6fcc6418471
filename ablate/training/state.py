"""State as files: nested dicts and lists to JSON, the tensors in them to safetensors. No pickle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fastcore.foundation import L
from safetensors.torch import load, save_file

from ablate import sealed

_PLAIN = (str, bool, int, float, type(None))


def save_state(state: Any, folder: Path, name: str) -> None:
    """Write `<name>.json`, and `<name>.safetensors` with the tensors.

    Args:
        state: Dicts, lists and tuples of tensors, numbers, text and None, nested at will. What is read has
            the same types, numpy's numbers included; a fastai `L` becomes a list.
        folder: Where to.
        name: The files' name.

    Raises:
        TypeError: Something else is in it.
    """
    tensors: dict[str, torch.Tensor] = {}
    content = _encode(state, name, tensors)
    save_tensors(tensors, folder / f"{name}.safetensors")
    (folder / f"{name}.json").write_text(json.dumps(content))


def load_state(folder: Path, name: str) -> Any:
    """What `save_state` wrote to a folder that has been sealed since, with tensors on the CPU.

    Raises:
        Damaged: The files are not those that were written.
    """
    content = json.loads(sealed.read(folder, f"{name}.json"))
    return _decode(content, load(sealed.read(folder, f"{name}.safetensors")))


def save_tensors(tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    """Write tensors to a safetensors file, those that share memory too."""
    apart: dict[str, torch.Tensor] = {}
    memory = set()
    for name, tensor in tensors.items():
        own = plain(tensor)
        at = own.untyped_storage().data_ptr()
        apart[name] = own.clone() if at in memory else own
        memory.add(at)
    save_file(apart, path)


def plain(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor on the CPU, without the subclasses that fastai gives it."""
    return tensor.detach().as_subclass(torch.Tensor).to("cpu").contiguous()


def _encode(value: Any, path: str, tensors: dict[str, torch.Tensor] | None) -> Any:
    if isinstance(value, torch.Tensor) and tensors is not None:
        while path in tensors:  # the keys "a.b" and "a", then "b"
            path += "'"
        tensors[path] = value
        return {"tensor": path}
    if isinstance(value, Mapping):
        rows = value.items()
        return {"dict": [[_encode(k, path, None), _encode(own, f"{path}.{k}", tensors)] for k, own in rows]}
    if isinstance(value, np.number | np.bool_) and isinstance(value.item(), _PLAIN):
        return {"numpy": [value.dtype.name, value.item()]}
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, list | tuple | L):
        kind = "tuple" if isinstance(value, tuple) else "list"
        return {kind: [_encode(own, f"{path}.{i}", tensors) for i, own in enumerate(value)]}
    raise TypeError(f"{path}: a {type(value).__name__} cannot be kept; give tensors, numbers or text")


def _decode(content: Any, tensors: Mapping[str, torch.Tensor]) -> Any:
    if not isinstance(content, dict):
        return content
    ((kind, value),) = content.items()
    if kind == "tensor":
        return tensors[value]
    if kind == "numpy":
        return np.dtype(value[0]).type(value[1])
    if kind == "dict":
        return {_decode(key, tensors): _decode(own, tensors) for key, own in value}
    decoded = [_decode(own, tensors) for own in value]
    return tuple(decoded) if kind == "tuple" else decoded
