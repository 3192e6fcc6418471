"""An NVIDIA GPU."""

from __future__ import annotations

import os
from typing import Any

import torch

from ablate.errors import AblateError


class Cuda:
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

    def seed(self, seed: int) -> None:
        torch.cuda.manual_seed(seed)

    def end_step(self) -> None:
        """Kernels are queued by themselves."""


adapter = Cuda()
