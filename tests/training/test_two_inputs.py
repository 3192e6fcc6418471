"""A network with a second input: it computes what it should, and starts as the one without it does."""

from __future__ import annotations

import copy

import pytest
import timm
import torch
from fastai.torch_core import TensorImage
from fastai.vision.learner import create_timm_model, default_split
from torch import nn
from torch.nn import functional

from ablate.data.table_input import TensorTable
from ablate.recipe.schema import Head
from ablate.training.head import make_head
from ablate.training.two_inputs import TwoInputs, two_inputs

torch.set_num_threads(1)


def image_network(arch: str = "test_efficientnet", head: Head | None = None) -> nn.Sequential:
    model, _ = create_timm_model(arch, 2, default_split, pretrained=False)
    if head:
        model[1] = make_head(head, model[0].model.num_features, 2, model[0].needs_pool)
    return model.eval()


HEADS = [None, Head(), Head(pool="concat", map_dropout=0.1, hidden=[16, 8], dropout=[0.1, 0.2, 0.3])]


@pytest.mark.parametrize("arch", ["test_efficientnet", "test_vit"])
@pytest.mark.parametrize("head", HEADS, ids=["fastai's", "linear", "hidden"])
def test_without_the_tables_weights_it_is_the_image_network(arch: str, head: Head | None):
    if arch == "test_vit" and head and head.map_dropout:
        head = Head(hidden=[16, 8])
    plain = image_network(arch, head)
    size = plain[0].model.default_cfg["input_size"][-1]
    images, table = torch.rand(3, 3, size, size), torch.rand(3, 5)
    model = two_inputs(copy.deepcopy(plain), 5, 10).eval()
    first = next(layer for layer in model[1][2:] if isinstance(layer, nn.Linear))
    assert not torch.equal(model(images, table), plain(images))
    with torch.no_grad():
        first.weight[:, -10:] = 0
    torch.testing.assert_close(model(images, table), plain(images))


def test_by_hand():
    plain = image_network(head=Head(hidden=[6]))
    body, head = plain
    model = two_inputs(copy.deepcopy(plain), 4, 3).eval()
    images, table = torch.rand(2, 3, 32, 32), torch.randn(2, 4)
    own, first, last = model[1][1][0], model[1][2], model[1][-1]
    root = (1 + 1e-5) ** 0.5  # batch norms that have seen nothing
    features = functional.relu((table @ own.weight.T + own.bias) / root)
    both = torch.cat([body(images).mean((2, 3)), features], 1)
    hidden = functional.relu(both @ first.weight.T + first.bias) / root
    torch.testing.assert_close(model(images, table), hidden @ last.weight.T + last.bias)
    assert torch.equal(first.weight[:, :-3], head[2].weight)
    assert torch.equal(last.weight, head[-1].weight)


def test_it_has_the_parts_of_an_image_network():
    model = two_inputs(image_network(), 4, 50)
    assert isinstance(model, TwoInputs)
    assert isinstance(model[0].model, type(timm.create_model("test_efficientnet")))
    assert isinstance(model[1][-1], nn.Linear)
    body, head = default_split(model)
    assert {id(p) for p in body} == {id(p) for p in model[0].parameters()}
    assert {id(p) for p in [*body, *head]} == {id(p) for p in model.parameters()}


def test_it_takes_fastais_tensors():
    model = two_inputs(image_network(), 4, 8).eval()
    images, table = torch.rand(2, 3, 32, 32), torch.rand(2, 4)
    given = model(TensorImage(images), TensorTable(table))
    torch.testing.assert_close(torch.as_tensor(given).as_subclass(torch.Tensor), model(images, table))


def test_it_learns_what_only_the_table_tells():
    torch.manual_seed(0)
    model = two_inputs(image_network(head=Head(hidden=[8])), 1, 4).train()
    optimizer = torch.optim.Adam(model[1].parameters(), lr=1e-2)
    images, labels = torch.rand(16, 3, 32, 32), torch.arange(16) % 2
    table = labels[:, None].float()
    for _ in range(40):
        optimizer.zero_grad()
        loss = functional.cross_entropy(model(images, table), labels)
        loss.backward()
        optimizer.step()
    assert loss < 0.1
