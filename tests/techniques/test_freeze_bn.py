"""freeze_bn: the body's batch norms stay as they came, all else is trained."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from timm.layers import BatchNormAct2d
from torch import nn

from ablate.devices.steady import by_running_averages
from ablate.errors import AblateError
from ablate.recipe.schema import Model, Phase
from ablate.techniques.base import Technique
from ablate.techniques.freeze_bn import FreezeBatchNorm
from ablate.techniques.sam import SAM
from ablate.training.data import dataloaders
from ablate.training.learner import build_learner, quiet


def changed(
    make_parts: Callable[..., Any], *on: Technique, arch: str = "test_resnet", **phase: Any
) -> set[str]:
    """What of a network an epoch of training changes: parameters and buffers, by name."""
    fixed = {"name": "tune", "epochs": 1, "batch_size": 16, "size": 16, "presize": 20, "weight_decay": 0.1}
    made = make_parts(*on, model=Model(arch=arch, pretrained=False), phase=Phase(**(fixed | phase)))
    learn = quiet(build_learner(made, dataloaders(made)))
    before = {name: tensor.clone() for name, tensor in learn.model.state_dict().items()}
    learn.fit_one_cycle(1, 1e-2)
    after = learn.model.state_dict()
    return {name for name in before if not torch.equal(before[name], after[name])}


def norms(make_parts: Callable[..., Any]) -> tuple[set[str], set[str]]:
    """All that belongs to batch norms of the body, and all else that there is, by name."""
    model = build_learner(made := make_parts(), dataloaders(made)).model
    own = {
        f"{name}.{part}"
        for name, module in model.named_modules()
        if isinstance(module, nn.BatchNorm2d) and name.startswith("0.")
        for part in module.state_dict()
        if "." not in part
    }
    return own, set(model.state_dict()) - own


@pytest.mark.parametrize("on", [(), (SAM(),)], ids=["alone", "with sam"])
def test_batch_norms_of_the_body_stay_and_all_else_is_trained(make_parts: Callable[..., Any], on: Any):
    own, others = norms(make_parts)
    assert {name.split(".")[-1] for name in own} >= {"running_mean", "running_var", "weight", "bias"}
    assert changed(make_parts, *on) == own | others
    assert changed(make_parts, FreezeBatchNorm(), *on) == others


def test_where_the_body_is_frozen_the_head_alone_is_trained(make_parts: Callable[..., Any]) -> None:
    own, others = norms(make_parts)
    assert changed(make_parts, freeze=True) == own | {name for name in others if name.startswith("1.")}
    frozen = changed(make_parts, FreezeBatchNorm(), freeze=True)
    assert frozen == {name for name in others if name.startswith("1.")}


def test_it_normalizes_by_the_running_averages_in_training(make_parts: Callable[..., Any]) -> None:
    made = make_parts(FreezeBatchNorm())
    learn = quiet(build_learner(made, dataloaders(made)))
    norm = next(module for module in learn.model[0].modules() if isinstance(module, nn.BatchNorm2d))
    with torch.no_grad():
        norm.running_mean.fill_(3.0)
        norm.running_var.fill_(4.0)
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    norm.drop, norm.act = nn.Identity(), nn.Identity()
    norm.register_forward_hook(
        lambda module, inputs, output: seen.append((inputs[0].detach().clone(), output.detach().clone()))
    )
    learn.fit(1, lr=1e-3)
    assert len(seen) > 6
    for before, after in seen:
        torch.testing.assert_close(after, (before - 3) / (4 + norm.eps) ** 0.5)


def test_a_body_without_batch_norms_is_refused(make_parts: Callable[..., Any]) -> None:
    with pytest.raises(AblateError, match=r"^freeze_bn: the network has no batch norm in its body"):
        changed(make_parts, FreezeBatchNorm(), arch="test_vit", size=160, presize=160)


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("shape", [(4, 6), (4, 6, 5, 3)])
def test_step_by_step_it_is_torchs_and_timms(affine: bool, shape: tuple[int, ...]) -> None:
    """As where XLA computes it."""
    torch.manual_seed(0)
    kind = nn.BatchNorm1d if len(shape) == 2 else BatchNormAct2d
    norm: Any = kind(6, affine=affine).train()
    norm(torch.randn(shape) * 3 + 1)
    x = torch.randn(shape)
    torch.testing.assert_close(by_running_averages(norm, x), norm.eval()(x.clone()))


@pytest.mark.parametrize("tracks", [True, False])
def test_without_running_averages_it_goes_by_the_batch(tracks: bool) -> None:
    """As where it never had them, or where prediction takes them away for a while."""
    norm = nn.BatchNorm2d(6, track_running_stats=tracks).eval()
    norm.running_mean = norm.running_var = None
    x = torch.randn(4, 6, 5, 3, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(by_running_averages(norm, x), norm(x))
