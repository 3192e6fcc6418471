"""An NVIDIA GPU."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import torch
from fastai.torch_core import to_device

from ablate.devices.eager import Eager
from ablate.errors import AblateError


class Cuda(Eager):
    """The process's current CUDA device."""

    name = "cuda"

    def start(self, threads: int, deterministic: bool) -> None:
        if deterministic:
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(deterministic)
        torch.backends.cudnn.benchmark = not deterministic
        if not torch.cuda.is_available():
            raise AblateError("--device cuda: torch sees no GPU; check `nvidia-smi`, or use --device cpu.")

    def torch_device(self) -> Any:
        return torch.device("cuda", torch.cuda.current_device())

    def buffer(self, shape: tuple[int, ...]) -> Any:
        return torch.empty(shape, dtype=torch.uint8, pin_memory=True)

    def feed(self, batches: Iterator[Any]) -> Iterator[Any]:
        """One batch ahead, on a stream of its own, so that copying hides behind computing."""
        copying, computing = torch.cuda.Stream(), torch.cuda.current_stream()
        waiting: Any = None
        for batch in batches:
            with torch.cuda.stream(copying):
                moved = to_device(batch, self.torch_device(), non_blocking=True)
            if waiting is not None:
                yield waiting
            computing.wait_stream(copying)
            for tensor in moved:
                tensor.record_stream(computing)
            waiting = moved
        if waiting is not None:
            yield waiting

    def seed(self, seed: int) -> None:
        torch.cuda.manual_seed(seed)


adapter = Cuda()
