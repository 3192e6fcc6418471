"""The CPU."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from fastai.torch_core import to_device

from ablate.data.buffers import Buffers
from ablate.data.float_table import by_table
from ablate.heap import keep_memory


class Cpu:
    """Plain torch on the CPU, with a fixed number of threads."""

    name = "cpu"
    memory_format = torch.channels_last
    buffers = Buffers()

    def start(self, threads: int, deterministic: bool) -> None:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic)
        keep_memory()

    def torch_device(self) -> Any:
        return torch.device("cpu")

    def buffer(self, shape: tuple[int, ...]) -> Any:
        return torch.from_numpy(self.buffers(shape))

    def batch_transforms(self, transforms: Sequence[Any]) -> Sequence[Any]:
        return by_table(transforms)

    def feed(self, batches: Iterator[Any]) -> Iterator[Any]:
        return (to_device(batch, self.torch_device()) for batch in batches)

    def seed(self, seed: int) -> None:
        torch.default_generator.manual_seed(seed)

    def end_step(self) -> None:
        """Nothing is pending on the CPU."""


adapter = Cpu()
