"""The CPU."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Sequence
from typing import Any

import torch

from ablate.data.float_table import FloatTable, in_one
from ablate.devices.eager import Eager

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
"""glibc's numbers of its own options, from malloc.h."""


class Cpu(Eager):
    """Plain torch on the CPU, with a fixed number of threads."""

    name = "cpu"

    def start(self, threads: int, deterministic: bool) -> None:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic)
        _keep_memory()

    def batch_transforms(self, transforms: Sequence[Any]) -> Sequence[Any]:
        return in_one(transforms, FloatTable)

    def seed(self, seed: int) -> None:
        torch.default_generator.manual_seed(seed)


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
