"""layer_decay: the rate of every parameter is the one that timm's param_groups_layer_decay gives it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import timm
import torch
from fastai.optimizer import OptimWrapper
from timm.optim import param_groups_layer_decay
from torch import nn

from ablate.errors import AblateError
from ablate.recipe.schema import Model, Phase
from ablate.techniques import compose
from ablate.techniques.layer_decay import LayerDecay, layer_groups, layer_rates
from ablate.training.data import dataloaders
from ablate.training.fit import EpochLog, fit_phase
from ablate.training.learner import build_learner, quiet

SMALL = ["test_efficientnet", "test_vit", "test_convnext", "test_resnet", "test_byobnet"]


def timms(model: nn.Module, decay: float) -> dict[str, float]:
    """timm's share of the rate for every parameter of a whole network, by name."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = param_groups_layer_decay(model, layer_decay=decay)
    return {names[id(p)]: group["lr_scale"] for group in groups for p in group["params"]}


def ours(body: nn.Module, groups: Any, rates: list[float]) -> dict[str, float]:
    names = {id(parameter): name for name, parameter in body.named_parameters()}
    own = {id(p): rate for group, rate in zip(groups, rates, strict=True) for p in group}
    return {name: own[id_] for id_, name in names.items()}


def learner(make_parts: Callable[..., Any], arch: str, *on: Any, freeze: bool = False) -> Any:
    phase = Phase(
        name="tune", epochs=1, lr=1e-2, batch_size=32, size=160, presize=160, weight_decay=0, freeze=freeze
    )
    made = make_parts(*on, model=Model(arch=arch, pretrained=False), phase=phase)
    return made, quiet(build_learner(made, dataloaders(made)))


@pytest.mark.parametrize("arch", SMALL)
@pytest.mark.parametrize("decay", [0.65, 0.9])
def test_every_parameters_rate_is_timms(make_parts: Callable[..., Any], arch: str, decay: float) -> None:
    made, learn = learner(make_parts, arch, LayerDecay(decay=decay))
    groups = learn.opt.param_lists
    rates = compose.rates(made.active, [1e-2] * len(groups), made.context)
    whole = timm.create_model(arch, num_classes=3)
    expected = timms(whole, decay)
    classifier = set(expected) - {name for name, _ in learn.model[0].model.named_parameters()}
    assert {expected.pop(name) for name in classifier} == {1.0}
    found = ours(learn.model[0].model, groups, rates)
    assert found == pytest.approx({name: 1e-2 * share for name, share in expected.items()}, rel=1e-9)
    assert len(set(found.values())) > 3
    # the head is the last group, whole, at the full rate
    assert [id(p) for p in groups[-1]] == [id(p) for p in learn.model[1].parameters()]
    assert rates[-1] == 1e-2
    assert sum(map(len, groups)) == len(list(learn.model.parameters()))


@pytest.mark.parametrize(
    ("arch", "options"),
    [
        ("resnet18", {}),
        ("efficientnet_b0", {}),
        ("inception_v3", {"aux_logits": False}),  # whose matcher is a function
        ("test_vit", {"global_pool": "avg"}),  # with a norm beside the classifier, at the full rate
    ],
)
def test_layers_of_larger_networks(arch: str, options: dict[str, Any]) -> None:
    body, whole = (timm.create_model(arch, num_classes=n, **options) for n in (0, 5))
    model: Any = [SimpleNamespace(model=body), nn.Linear(4, 2)]
    groups = layer_groups(model)
    found = ours(body, groups, layer_rates(1.0, len(groups), 0.7))
    expected = timms(whole, 0.7)
    assert found == pytest.approx({name: expected[name] for name in found}, rel=1e-9)


@pytest.mark.parametrize("arch", ["test_vit", "test_resnet"])
def test_freezing_leaves_the_head_and_batch_norms(make_parts: Callable[..., Any], arch: str) -> None:
    def trained(*on: Any) -> set[str]:
        _, learn = learner(make_parts, arch, *on, freeze=True)
        return {name for name, p in learn.model.named_parameters() if p.requires_grad}

    assert trained(LayerDecay()) == trained()


def test_a_spread_by_the_phase_gives_way(make_parts: Callable[..., Any]) -> None:
    made = make_parts(LayerDecay(decay=0.5))
    rates = compose.rates(made.active, [1e-5, 1e-4, 1e-3, 1e-2], made.context)
    assert rates == pytest.approx([2.5e-3, 5e-3, 1e-2, 1e-2])


@pytest.mark.parametrize("optimizer", [None, partial(OptimWrapper, opt=torch.optim.AdamW)])
def test_a_fit_moves_each_group_at_its_rate(make_parts: Callable[..., Any], optimizer: Any) -> None:
    technique = LayerDecay(decay=0.5)
    made = make_parts(technique)
    learn, log = quiet(build_learner(made, dataloaders(made))), EpochLog("tune", lambda _: None)
    if optimizer:
        learn.opt_func = optimizer
        learn.create_opt()
    rates = compose.rates(made.active, [1e-3] * len(learn.opt.param_lists), made.context)
    before = [[p.detach().clone() for p in group] for group in learn.opt.param_lists]
    assert fit_phase(learn, made.phase, rates, [log], schedule=lambda position: 1.0)
    assert log.steps[0]["lr_body"] == pytest.approx(1e-3 * 0.5 ** (len(rates) - 2))
    # Adam's first steps are about as long as the rate
    lengths = [
        max((float((p - q).abs().mean()) for p, q in zip(group, own, strict=True)), default=0.0)
        for group, own in zip(learn.opt.param_lists, before, strict=True)
    ]
    assert lengths[0] < lengths[-1] / 4


def test_an_architecture_without_layers_is_refused() -> None:
    body = nn.Linear(2, 2)
    body.pretrained_cfg = {}  # type: ignore[assignment]
    model: Any = [SimpleNamespace(model=body), nn.Linear(2, 2)]
    with pytest.raises(AblateError, match="does not know the layers of Linear"):
        layer_groups(model)
