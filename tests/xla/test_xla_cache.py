"""Compiled graphs are kept under `ABLATE_CACHE`, where the backend can read them back."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from separate import separately

pytestmark = pytest.mark.xla


def kept(cache: Path, backend: str) -> list[str]:
    """The files that a process leaves which starts on a backend, twice, and computes something."""
    os.environ |= {"PJRT_DEVICE": "CPU", "ABLATE_CACHE": str(cache)}
    import torch
    import torch_xla
    import torch_xla.runtime

    from ablate import devices

    torch_xla.runtime.device_type = lambda: backend  # XLA's CPU backend writes what it cannot read back
    xla = devices.load("xla")
    for _ in range(2):
        xla.start(1, False)
    torch.ones(3, device=xla.torch_device()).cumsum(0).cpu()
    return [path.name for path in (cache / "xla").glob("*")]


def test_graphs_are_kept_for_a_tpu(tmp_path: Path):
    assert len(separately(kept, tmp_path, "TPU")) == 1


def test_nothing_is_kept_for_the_cpu_backend(tmp_path: Path):
    assert separately(kept, tmp_path, "CPU") == []
