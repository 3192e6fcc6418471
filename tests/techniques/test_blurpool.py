from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import pytest
import timm
import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torch.nn import functional as F

from ablate.errors import AblateError
from ablate.recipe.schema import Model
from ablate.techniques.blurpool import BlurPool, with_blur
from ablate.training.data import dataloaders
from ablate.training.learner import build_learner


def blur(x: Tensor, stride: int = 1) -> Tensor:
    """Zhang's smallest filter, 1-2-1 in both directions, written out over shifted copies of the image."""
    rows = F.pad(x, (0, 0, 1, 1))
    rows = (rows[:, :, :-2] + 2 * rows[:, :, 1:-1] + rows[:, :, 2:]) / 4
    both = F.pad(rows, (1, 1, 0, 0))
    both = (both[..., :-2] + 2 * both[..., 1:-1] + both[..., 2:]) / 4
    return both[..., ::stride, ::stride]


def network(stride: int = 2) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, stride, 1),
        nn.Conv2d(16, 20, 3, stride, 1),
        nn.MaxPool2d(3, stride, 1),
        nn.Conv2d(20, 8, 3, 1, 1),
    )


@pytest.mark.parametrize("side", [64, 63, 17])
@pytest.mark.parametrize("stride", [2, 3, 4])
@pytest.mark.parametrize("first", [True, False])
def test_each_layer_is_the_papers(first: bool, stride: int, side: int):
    plain, blurred = network(stride), network(stride)
    assert with_blur(blurred, blur_first=first) == 2
    x = torch.rand(2, 3, side, side)
    stem, conv, _, last = plain
    y = stem(x)
    dense = F.conv2d(y, conv.weight, conv.bias, stride=1, padding=1)
    y = conv(blur(y)) if first else blur(dense, stride)
    y = last(blur(F.max_pool2d(y, 3, 1, 1), stride))
    torch.testing.assert_close(blurred(x), y)
    assert blurred(x).shape == plain(x).shape


@pytest.mark.parametrize(
    ("convs", "max_pools", "expected"), [(True, False, 1), (False, True, 1), (True, True, 2)]
)
def test_what_is_replaced_can_be_chosen(convs: bool, max_pools: bool, expected: int):
    model = network()
    kept = [type(layer) for layer in model]
    assert with_blur(model, convs, max_pools) == expected
    changed = [before is not type(after) for before, after in zip(kept, model, strict=True)]
    assert changed == [False, convs, max_pools, False]


@pytest.mark.parametrize(("arch", "count"), [("resnet18", 7), ("efficientnet_b0", 4), ("convnext_atto", 3)])
def test_real_networks_keep_weights_and_sizes(arch: str, count: int):
    """ResNet-18: a max-pool, and in three stages a convolution and a shortcut."""
    model = timm.create_model(arch, pretrained=False).eval()
    blurred = deepcopy(model)
    assert with_blur(blurred) == count
    assert sum(p.numel() for p in blurred.parameters()) == sum(p.numel() for p in model.parameters())
    assert sorted(v.shape for v in blurred.state_dict().values()) == sorted(
        v.shape for v in model.state_dict().values()
    )
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        for before, after in zip(*(m.forward_intermediates(x)[1] for m in (model, blurred)), strict=True):
            assert before.shape == after.shape
    assert with_blur(nn.Sequential(nn.Linear(3, 3), nn.MaxPool2d(2, ceil_mode=True))) == 0


def test_the_papers_example():
    """0 0 1 1 … max-pooled is 0 1 or 1 1, by where it begins; blurred, it is 1/2 1 or 3/4 3/4."""
    signal = torch.tensor([0.0, 0, 1, 1]).repeat(6).expand(1, 1, 24, 24)
    pool = nn.Sequential(nn.MaxPool2d(2, 2))
    inside = slice(2, 8), slice(2, 8)
    seen = []
    for x in (signal, signal.roll(-1, dims=-1)):
        seen.append([pool(x)[0, 0][inside]])
        blurred = deepcopy(pool)
        assert with_blur(blurred) == 1
        seen[-1].append(blurred(x)[0, 0][inside])
    (plain, blurred), (shifted, blurred_shifted) = seen
    assert plain.unique().tolist() == [0, 1]
    assert shifted.unique().tolist() == [1]
    assert blurred.unique().tolist() == [0.5, 1]
    assert blurred_shifted.unique().tolist() == [0.75]


def test_a_learner_has_it(make_parts: Callable):
    parts = make_parts(BlurPool())
    learn = build_learner(parts, dataloaders(parts))
    names = {type(module).__name__ for module in learn.model.modules()}
    assert "BlurPool2d" in names
    assert learn.model[0].model.conv1 is not None
    with learn.no_bar(), learn.no_logging():
        learn.fit(1, 1e-3)


def test_a_network_without_such_layers(make_parts: Callable):
    parts = make_parts(BlurPool(), model=Model(arch="test_vit", pretrained=False))
    with pytest.raises(AblateError, match=r"blurpool: this model\.arch has no layers to blur"):
        build_learner(parts, dataloaders(parts))


def test_both_off():
    with pytest.raises(ValidationError, match="leave blurpool out"):
        BlurPool(replace_convs=False, replace_maxpools=False)
