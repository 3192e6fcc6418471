"""An NVIDIA GPU."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from fastai.torch_core import to_device

from ablate.data.float_table import each_image
from ablate.errors import AblateError


class Cuda:
    """The process's current CUDA device."""

    name = "cuda"
    memory_format = torch.channels_last
    fixed_shapes = False
    replicas = 1

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

    def batch_transforms(self, transforms: Sequence[Any]) -> Sequence[Any]:
        return transforms

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

    def lay_out(self, batch: Any) -> Any:
        return each_image(batch, lambda images: images.contiguous(memory_format=self.memory_format))

    def compile(self, model: Any, options: dict[str, Any]) -> None:
        model.compile(options=options)

    def autocast(self, precision: str) -> AbstractContextManager[Any]:
        return torch.autocast("cuda", dtype=getattr(torch, precision))

    def scaler(self, precision: str) -> Any:
        return torch.amp.GradScaler("cuda", enabled=precision == "float16")

    def settle(self, learn: Any) -> None:
        """The first step is like the others."""

    def seed(self, seed: int) -> None:
        torch.cuda.manual_seed(seed)

    def generator(self, seed: int) -> Any:
        return torch.Generator(self.torch_device()).manual_seed(seed)

    def results(self, tensors: Any) -> Any:
        return tensors

    def end_step(self) -> None:
        """Kernels are queued by themselves."""

    def compiled(self) -> int:
        return 0

    def left_to_host(self) -> Collection[str]:
        return ()


adapter = Cuda()
