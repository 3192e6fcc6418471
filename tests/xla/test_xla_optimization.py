"""Averages, second passes, clipping and schedules on XLA: as on the CPU, without a new graph in each step."""

from __future__ import annotations

import os
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import nn

from ablate import devices
from ablate.data.items import load_items
from ablate.data.splits import Fold
from ablate.recipe.data_schema import Data
from ablate.recipe.schema import Model, Phase
from ablate.streams import Streams
from ablate.techniques import compose
from ablate.techniques.base import Context, Technique
from ablate.techniques.ema import EMA
from ablate.techniques.freeze_bn import FreezeBatchNorm
from ablate.techniques.gradient_clip import GradientClip
from ablate.techniques.sam import SAM
from ablate.techniques.schedule import WarmUpDecay
from ablate.techniques.swa import SWA
from ablate.training.data import dataloaders
from ablate.training.fit import EpochLog, fit_phase
from ablate.training.learner import build_learner, quiet
from ablate.training.parts import Parts

pytestmark = pytest.mark.xla

DIGITS = load_items(Data(source="digits"))


class Small(Technique):
    """A network that compiles in a second, without dropout, which devices draw by themselves."""

    name: ClassVar[str] = "small"

    def model(self, model: Any, context: Context) -> Any:
        body = nn.Sequential(nn.Conv2d(3, 8, 5, stride=4, bias=False), nn.BatchNorm2d(8), nn.Tanh())
        return nn.Sequential(body, nn.Sequential(nn.Flatten(), nn.Linear(8 * 7 * 7, 10)))


def trained(device: str, technique: Technique) -> tuple[dict[str, torch.Tensor], list[int]]:
    """The weights after three epochs of six steps, and how many graphs there were after each epoch."""
    from torch_xla.debug import metrics

    phase = Phase(name="tune", epochs=3, batch_size=32, size=32, presize=32, weight_decay=0.01, lr=5e-3)
    on = {one.name: one for one in (technique, Small())}
    own = Parts(
        model=Model(arch="test_resnet", pretrained=False),
        phase=phase,
        on=on,
        streams=Streams(0, "tune"),
        items=DIGITS,
        fold=Fold(np.arange(192), np.arange(192, 256), np.arange(0)),
        device=device,
    )
    learn = quiet(build_learner(own, dataloaders(own)))
    graphs: list[int] = []

    def report(message: dict[str, Any]) -> None:
        if "epoch" in message:
            graphs.append((metrics.metric_data("CompileTime") or (0,))[0])

    schedule = compose.schedule(own.active, own.context)
    assert fit_phase(learn, phase, [5e-3] * 2, [EpochLog("tune", report)], schedule=schedule)
    return {name: tensor.cpu() for name, tensor in learn.model.state_dict().items()}, graphs


@pytest.mark.parametrize(
    "technique",
    [
        *(EMA(), EMA(decay=0.7, warmup=False), SWA(share=1.0), SAM(rho=0.1), SAM(adaptive=True)),
        *(GradientClip(max_norm=0.1), FreezeBatchNorm(), WarmUpDecay(warmup=0.5, per="step")),
    ],
    ids=lambda technique: technique.name,
)
def test_weights_are_those_of_the_cpu(technique: Technique) -> None:
    os.environ.setdefault("PJRT_DEVICE", "CPU")
    torch.set_num_threads(1)
    devices.load("xla")
    found, graphs = trained("xla", technique)  # first, so that autograd learns of the device
    expected, _ = trained("cpu", technique)
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-3, atol=1e-4, msg=name)
    assert graphs[2] - graphs[1] <= 3, graphs  # the last epoch brings no graph for a step
