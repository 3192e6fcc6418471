"""The GPU of an Apple machine."""

from __future__ import annotations

import torch

from ablate.devices.eager import Eager
from ablate.errors import AblateError


class Mps(Eager):
    """Metal, through torch."""

    name = "mps"

    def start(self, threads: int, deterministic: bool) -> None:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic)
        if not torch.backends.mps.is_available():
            raise AblateError("--device mps: torch sees no Metal GPU; use --device cpu.")

    def seed(self, seed: int) -> None:
        torch.mps.manual_seed(seed)


adapter = Mps()
