"""The CPU."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from fastai.torch_core import to_device

from ablate.data.buffers import Buffers
from ablate.data.float_table import by_table

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
"""glibc's numbers of its own options, from malloc.h."""


class Cpu:
    """Plain torch on the CPU, with a fixed number of threads."""

    name = "cpu"
    memory_format = torch.channels_last
    buffers = Buffers()

    def start(self, threads: int, deterministic: bool) -> None:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic)
        _keep_memory()

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


def _keep_memory() -> None:
    """Let glibc keep freed memory: returning it costs a page fault per 4 KB on every image and batch."""
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallopt"):
        return
    libc.mallopt(_MMAP_THRESHOLD, 1 << 30)
    libc.mallopt(_TRIM_THRESHOLD, 2**31 - 1)
    libc.mallopt(_TOP_PAD, 1 << 26)


adapter = Cpu()
