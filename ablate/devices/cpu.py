"""The CPU."""

from __future__ import annotations

import ctypes
import sys
from typing import Any

import torch

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3


class Cpu:
    """Plain torch on the CPU, with a fixed number of threads."""

    name = "cpu"

    def start(self, threads: int, deterministic: bool) -> None:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic)
        _keep_memory()

    def torch_device(self) -> Any:
        return torch.device("cpu")

    def seed(self, seed: int) -> None:
        torch.default_generator.manual_seed(seed)

    def end_step(self) -> None:
        """Nothing is pending on the CPU."""


def _keep_memory() -> None:
    """Let glibc keep freed activations: returning them costs a page fault per 4 KB on every batch."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        if hasattr(libc, "mallopt"):
            for option, size in (
                (_M_MMAP_THRESHOLD, 1 << 30),
                (_M_TRIM_THRESHOLD, 2**31 - 1),
                (_M_TOP_PAD, 1 << 26),
            ):
                libc.mallopt(option, size)


adapter = Cpu()
