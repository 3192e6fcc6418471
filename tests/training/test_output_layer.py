"""The output layer of a network: found, replaced, and the layers that take its place."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from fastai.vision.learner import create_timm_model
from torch import nn
from torch.nn import functional

from ablate.errors import AblateError
from ablate.training.data import dataloaders
from ablate.training.learner import build_learner
from ablate.training.output import CosineLayer, SigmoidOutput, output_layer, replace_output
from ablate.training.parts import Parts


def test_the_layer_that_gives_the_logits(make_network: Callable[[], nn.Module]):
    model = make_network().eval()
    seen = []
    output_layer(model).register_forward_hook(lambda _, inputs, output: seen.append((*inputs, output)))
    logits = model(torch.randn(2, 3, 32, 32))
    ((embeddings, output),) = seen
    assert torch.equal(output, logits)
    assert embeddings.ndim == 2


def test_another_layer_in_its_place(make_network: Callable[[], nn.Module]):
    model = make_network().eval()
    before = output_layer(model)
    assert isinstance(before, nn.Linear)
    given = []
    assert replace_output(model, lambda old: given.append(old) or nn.Linear(old.in_features, 7)) is model
    assert given == [before]
    assert model(torch.randn(2, 3, 32, 32)).shape == (2, 7)
    assert before not in list(model.modules())


@pytest.fixture(params=["test_efficientnet", "test_vit", "plain"])
def make_network(request: pytest.FixtureRequest) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        if request.param == "plain":
            return nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 3))
        size = {"img_size": 32} if "vit" in request.param else {}
        return create_timm_model(request.param, 3, pretrained=False, **size)[0]

    return make


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (nn.Linear(3, 2), "a Linear has no output layer that could be found; it must be a sequence"),
        (nn.Sequential(), "a Sequential has no output layer"),
        (nn.Sequential(nn.Linear(3, 2), nn.ReLU()), "its last layer is a ReLU, but a linear one is to be"),
    ],
)
def test_networks_of_another_make(model: nn.Module, message: str):
    with pytest.raises(AblateError, match=message):
        replace_output(model, SigmoidOutput)


@pytest.mark.parametrize("bias", [True, False])
def test_one_logit_starts_with_the_probabilities_of_two(bias: bool):
    two, x = nn.Linear(8, 2, bias=bias), torch.randn(6, 8)
    one = SigmoidOutput(two)
    logits = one(x)
    assert torch.equal(logits[:, 0], torch.zeros(6))
    torch.testing.assert_close(logits.softmax(1), two(x).softmax(1))
    torch.testing.assert_close(logits.softmax(1)[:, 1], one.logit(x)[:, 0].sigmoid())
    assert sum(p.numel() for p in one.parameters()) == 8 + bias


def test_cosines():
    torch.manual_seed(0)
    layer, x = CosineLayer(16, 5, s=12.0), 100 * torch.randn(9, 16)
    expected = 12 * functional.cosine_similarity(x[:, None], layer.weight[None], dim=2)
    torch.testing.assert_close(layer(x), expected, rtol=1e-5, atol=1e-5)
    limit = (6 / (16 + 5)) ** 0.5  # Glorot & Bengio 2010, eq. 16
    assert layer.weight.abs().max() <= limit
    assert float(layer.weight.std()) == pytest.approx(limit / 3**0.5, rel=0.2)
    assert layer(torch.zeros(1, 16)).isfinite().all()


def test_cosines_are_float32_under_autocast():
    layer, x = CosineLayer(16, 5), torch.randn(9, 16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(layer(x), layer(x.float()))
        assert layer(x.bfloat16()).dtype == torch.float32
    assert torch.equal(layer(x.bfloat16()), layer(x.bfloat16().float()))


def test_cosines_can_be_exported():
    layer, x = CosineLayer(16, 5).eval(), torch.randn(2, 16)
    torch.testing.assert_close(torch.export.export(layer, (x,)).module()(x), layer(x))


def test_a_replaced_layer_is_trained(parts: Callable[..., Parts]):
    """The optimizer has the new layer's weights and not those of the old one."""
    made = parts(on=("arcface",))
    learn = build_learner(made, dataloaders(made))
    layer = output_layer(learn.model)
    assert isinstance(layer, CosineLayer)
    optimized = {id(p) for group in learn.opt.param_lists for p in group}
    assert optimized == {id(p) for p in learn.model.parameters()}
    before = layer.weight.detach().clone()
    learn.fit(1, 1e-2)
    assert not torch.equal(layer.weight, before)
