"""XLA's CPU backend for tests: its settings, a count of what it compiles, a network that compiles quickly."""

from __future__ import annotations

import os
from typing import Any

import torch
from timm.models import register_model
from timm.models.byobnet import ByoBlockCfg, ByobNet, ByoModelCfg, _cfg

ON_CPU = {
    "PJRT_DEVICE": "CPU",
    # half the time to compile; nothing is measured here
    "XLA_FLAGS": "--xla_backend_optimization_level=0",
}


def prepare() -> Any:
    """The adapter, on XLA's CPU backend unless the environment has another."""
    from ablate import devices

    for name, value in ON_CPU.items():
        os.environ.setdefault(name, value)
    adapter = devices.load("xla")
    adapter.start(1, False)
    return adapter


class Graphs:
    """What torch_xla has compiled, and which operations it left to the CPU, since the last `reset`."""

    def __init__(self) -> None:
        from torch_xla.debug import metrics

        self.metrics = metrics
        self.reset()

    def reset(self) -> None:
        """Count from here on."""
        self.metrics.clear_all()

    @property
    def compiled(self) -> int:
        """How many graphs."""
        data = self.metrics.metric_data("CompileTime")
        return data[0] if data else 0

    @property
    def fallbacks(self) -> dict[str, int]:
        """Operations that XLA does not have; fetching a number is none."""
        names = [name for name in self.metrics.counter_names() if name.startswith("aten::")]
        return {
            name: self.metrics.counter_value(name) for name in names if name != "aten::_local_scalar_dense"
        }


def test_tiny(**options: Any) -> ByobNet:
    """For timm: all that techniques look for in a network, in a few small convolutions."""
    options = {name: value for name, value in options.items() if not name.startswith(("pretrained", "cache"))}
    blocks = tuple(ByoBlockCfg(type="basic", d=1, c=channels, s=2, gs=0, br=1.0) for channels in (8, 16))
    network = ByobNet(ByoModelCfg(blocks=blocks, stem_chs=8, stem_type="3x3"), **options)
    network.default_cfg = network.pretrained_cfg = _cfg(first_conv="stem.conv", classifier="head.fc")
    return network


register_model(test_tiny)
torch.set_num_threads(1)
