"""The CPU."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from fastai.torch_core import to_device

from ablate.data.buffers import Buffers
from ablate.data.float_table import FloatTable, each_image, in_one

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
"""glibc's numbers of its own options, from malloc.h."""


class Cpu:
    """Plain torch on the CPU, with a fixed number of threads."""

    name = "cpu"
    memory_format = torch.channels_last
    fixed_shapes = False
    replicas = 1
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
        return in_one(transforms, FloatTable)

    def feed(self, batches: Iterator[Any]) -> Iterator[Any]:
        return (to_device(batch, self.torch_device()) for batch in batches)

    def lay_out(self, batch: Any) -> Any:
        return each_image(batch, lambda images: images.contiguous(memory_format=self.memory_format))

    def compile(self, model: Any, options: dict[str, Any]) -> None:
        model.compile(options=options)

    def autocast(self, precision: str) -> AbstractContextManager[Any]:
        return torch.autocast("cpu", dtype=getattr(torch, precision))

    def scaler(self, precision: str) -> Any:
        return torch.amp.GradScaler("cpu", enabled=precision == "float16")

    def settle(self, learn: Any) -> None:
        """The first step is like the others."""

    def seed(self, seed: int) -> None:
        torch.default_generator.manual_seed(seed)

    def generator(self, seed: int) -> Any:
        return torch.Generator("cpu").manual_seed(seed)

    def results(self, tensors: Any) -> Any:
        return tensors

    def end_step(self) -> None:
        """Nothing is pending on the CPU."""

    def compiled(self) -> int:
        return 0

    def left_to_host(self) -> Collection[str]:
        return ()


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
