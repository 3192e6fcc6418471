"""A TPU, or XLA's CPU backend, through torch_xla."""

from __future__ import annotations

from typing import Any

import torch
import torch_xla


class Xla:
    """The process's first XLA device; operations are traced and run at the end of each step."""

    name = "xla"

    def start(self, threads: int, deterministic: bool) -> None:
        torch.set_num_threads(threads)

    def torch_device(self) -> Any:
        return torch_xla.device()

    def seed(self, seed: int) -> None:
        torch_xla.manual_seed(seed)

    def end_step(self) -> None:
        torch_xla.sync()


adapter = Xla()
