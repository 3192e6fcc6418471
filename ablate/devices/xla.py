"""A TPU, or XLA's CPU backend, through torch_xla."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch_xla
from fastai.torch_core import to_device

from ablate.data.buffers import Buffers


class Xla:
    """The process's first XLA device; operations are traced and run at the end of each step."""

    name = "xla"
    memory_format = torch.contiguous_format  # XLA lays tensors out by itself
    buffers = Buffers()

    def start(self, threads: int, deterministic: bool) -> None:
        torch.set_num_threads(threads)

    def torch_device(self) -> Any:
        return torch_xla.device()

    def buffer(self, shape: tuple[int, ...]) -> Any:
        return torch.from_numpy(self.buffers(shape))

    def batch_transforms(self, transforms: Sequence[Any]) -> Sequence[Any]:
        return transforms

    def feed(self, batches: Iterator[Any]) -> Iterator[Any]:
        return (to_device(batch, self.torch_device()) for batch in batches)

    def seed(self, seed: int) -> None:
        torch_xla.manual_seed(seed)

    def end_step(self) -> None:
        torch_xla.sync()


adapter = Xla()
