"""The GPU of an Apple machine."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from fastai.torch_core import to_device

from ablate.data.buffers import Buffers
from ablate.data.float_table import each_image
from ablate.errors import AblateError


class Mps:
    """Metal, through torch."""

    name = "mps"
    memory_format = torch.channels_last
    fixed_shapes = False
    replicas = 1
    buffers = Buffers()

    def start(self, threads: int, deterministic: bool) -> None:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic)
        if not torch.backends.mps.is_available():
            raise AblateError("--device mps: torch sees no Metal GPU; use --device cpu.")

    def torch_device(self) -> Any:
        return torch.device("mps")

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
        return torch.autocast("mps", dtype=getattr(torch, precision))

    def scaler(self, precision: str) -> Any:
        return torch.amp.GradScaler("mps", enabled=precision == "float16")

    def settle(self, learn: Any) -> None:
        """The first step is like the others."""

    def seed(self, seed: int) -> None:
        torch.mps.manual_seed(seed)

    def generator(self, seed: int) -> Any:
        return torch.Generator("mps").manual_seed(seed)

    def results(self, tensors: Any) -> Any:
        return tensors

    def end_step(self) -> None:
        """Kernels are queued by themselves."""

    def compiled(self) -> int:
        return 0

    def left_to_host(self) -> Collection[str]:
        return ()


adapter = Mps()
