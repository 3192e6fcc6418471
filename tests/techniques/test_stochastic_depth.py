from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
from pydantic import ValidationError
from timm.layers import DropPath
from torch import nn

from ablate.errors import AblateError
from ablate.recipe.schema import Model
from ablate.techniques.stochastic_depth import StochasticDepth
from ablate.training.data import dataloaders
from ablate.training.learner import build_learner


def learner(make_parts: Callable, arch: str, *on: Any) -> Any:
    parts = make_parts(*on, model=Model(arch=arch, pretrained=False))
    return build_learner(parts, dataloaders(parts))


def rates(model: Any) -> list[float]:
    return [module.drop_prob for module in model.modules() if isinstance(module, DropPath)]


@pytest.mark.parametrize("arch", ["test_resnet", "test_efficientnet", "test_vit"])
def test_rates_are_timms(make_parts: Callable, arch: str):
    ours = rates(learner(make_parts, arch, StochasticDepth(rate=0.4)).model)
    assert ours == rates(timm.create_model(arch, drop_path_rate=0.4))
    assert ours == sorted(ours)
    assert 0.3 < ours[-1] <= 0.4 + 1e-6
    assert rates(learner(make_parts, arch).model) == []


def test_initial_weights_and_predictions_stay(make_parts: Callable):
    plain, deep = (learner(make_parts, "test_resnet", *on) for on in ((), (StochasticDepth(rate=0.5),)))
    assert plain.model.state_dict().keys() == deep.model.state_dict().keys()
    x = torch.rand(4, 3, 16, 16)
    with torch.no_grad():
        assert torch.equal(plain.model.eval()(x), deep.model.eval()(x))
        for module in deep.model.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.ones_(module.weight)  # timm's are 0 at the end of a block, which then does nothing
        outputs = {tuple(deep.model[0].train()(x)[0].flatten().tolist()) for _ in range(8)}
    assert len(outputs) > 1


def test_an_architecture_that_does_not_take_a_rate(make_parts: Callable):
    with pytest.raises(AblateError, match=r"model\.arch: vgg11 does not take drop_path_rate"):
        learner(make_parts, "vgg11", StochasticDepth())


def test_an_architecture_that_does_nothing_with_the_rate(make_parts: Callable):
    timm_took_it_and_did_nothing = learner(make_parts, "test_resnet").model
    with pytest.raises(AblateError, match=r"stochastic_depth: this model\.arch has no residual blocks"):
        StochasticDepth().model(timm_took_it_and_did_nothing, make_parts().context)


@pytest.mark.parametrize("rate", [0, 1.0, -0.1, "a"])
def test_impossible_rates(rate: Any):
    with pytest.raises(ValidationError):
        StochasticDepth(rate=rate)
