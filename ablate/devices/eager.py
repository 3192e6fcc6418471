"""What the devices have in common on which torch runs each operation at once."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from fastai.torch_core import to_device

from ablate.data.buffers import Buffers
from ablate.data.float_table import each_image


class Eager:
    """A device named as torch names it; see `ablate.devices.Device`. Subclasses start, place and seed it."""

    name: str
    memory_format = torch.channels_last
    fixed_shapes = False
    replicas = 1
    buffers = Buffers()

    def torch_device(self) -> Any:
        return torch.device(self.name)

    def buffer(self, shape: tuple[int, ...]) -> Any:
        return torch.from_numpy(self.buffers(shape))

    def batch_transforms(self, transforms: Sequence[Any]) -> Sequence[Any]:
        return transforms

    def feed(self, batches: Iterator[Any]) -> Iterator[Any]:
        return (to_device(batch, self.torch_device()) for batch in batches)

    def lay_out(self, batch: Any) -> Any:
        return each_image(batch, lambda images: images.contiguous(memory_format=self.memory_format))

    def compile(self, model: Any, options: dict[str, Any]) -> None:
        model.compile(options=options)

    def autocast(self, precision: str) -> AbstractContextManager[Any]:
        return torch.autocast(self.name, dtype=getattr(torch, precision))

    def scaler(self, precision: str) -> Any:
        return torch.amp.GradScaler(self.name, enabled=precision == "float16")

    def settle(self, learn: Any) -> None:
        """The first step is like the others."""

    def generator(self, seed: int) -> Any:
        return torch.Generator(self.torch_device()).manual_seed(seed)

    def results(self, tensors: Any) -> Any:
        return tensors

    def end_step(self) -> None:
        """Nothing is pending, or it is queued by itself."""

    def compiled(self) -> int:
        return 0

    def left_to_host(self) -> Collection[str]:
        return ()
