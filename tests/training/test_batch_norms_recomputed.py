"""Batch norms' averages worked out anew are those of torch's own `update_bn`."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from timm.layers import BatchNormAct2d
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from ablate.training.batch_norms import batch_norms, recompute_statistics


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def network() -> nn.Sequential:
    """All kinds of batch norms, with momenta of their own, that have seen something."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 5, 3),
        nn.BatchNorm2d(5, momentum=0.3),
        nn.ReLU(),
        nn.Conv2d(5, 4, 3),
        BatchNormAct2d(4, momentum=None),
        nn.Flatten(),
        nn.Linear(16, 6),
        nn.BatchNorm1d(6, affine=False),
        nn.BatchNorm1d(6, track_running_stats=False),
    )
    model.train()(torch.randn(7, 3, 6, 6) * 5 - 2)
    return model


def batches(sizes: tuple[int, ...]) -> list[tuple[Tensor, ...]]:
    generator = torch.Generator().manual_seed(len(sizes))
    return [(torch.randn(n, 3, 6, 6, generator=generator) * (i + 1) + i,) for i, n in enumerate(sizes)]


def assert_same(found: nn.Module, expected: nn.Module) -> None:
    own, other = found.state_dict(), expected.state_dict()
    assert own.keys() == other.keys()
    for name in own:
        assert own[name].dtype == other[name].dtype
        torch.testing.assert_close(own[name], other[name], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("sizes", [(8,), (8, 8), (8, 3), (4,) * 30, ()])
def test_they_are_torchs(sizes: tuple[int, ...]):
    ours, theirs = network(), network()
    momenta = [norm.momentum for norm in batch_norms(ours)]
    recompute_statistics(ours, batches(sizes))
    update_bn([x for (x,) in batches(sizes)], theirs)
    assert_same(ours, theirs)
    assert [norm.momentum for norm in batch_norms(ours)] == momenta == [0.3, None, 0.1, 0.1]
    assert [norm.num_batches_tracked for norm in batch_norms(ours)[:3]] == [len(sizes)] * 3


def test_they_are_the_averages_by_hand():
    """The mean over batches of a batch's mean, and of its unbiased variance; earlier ones do not count."""
    model, seen = nn.Sequential(nn.BatchNorm2d(3)), batches((8, 5))
    model.train()(torch.full((4, 3, 2, 2), 100.0))
    recompute_statistics(model, seen)
    means = torch.stack([x.double().mean((0, 2, 3)) for (x,) in seen]).mean(0)
    variances = torch.stack([x.double().var((0, 2, 3)) for (x,) in seen]).mean(0)
    torch.testing.assert_close(model[0].running_mean.double(), means, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(model[0].running_var.double(), variances, rtol=1e-6, atol=1e-6)


def test_weights_stay_and_training_goes_on_as_after_torchs():
    ours, theirs = network(), network()
    weights = [parameter.detach().clone() for parameter in ours.parameters()]
    recompute_statistics(ours, batches((8, 8)))
    update_bn([x for (x,) in batches((8, 8))], theirs)
    assert all(torch.equal(*pair) for pair in zip(ours.parameters(), weights, strict=True))
    assert all(parameter.grad is None for parameter in ours.parameters())
    assert list(dict(ours.named_buffers())) == list(dict(theirs.named_buffers()))
    for x in batches((6, 6, 6)):
        for model in (ours, theirs):
            model.train()(*x)
    assert_same(ours, theirs)


def test_frozen_ones_are_used_and_stay():
    model = network()
    frozen = model[1].eval()
    kept = {name: tensor.clone() for name, tensor in frozen.state_dict().items()}
    before = model[4].running_mean.clone()
    recompute_statistics(model, seen := batches((8,)))
    assert all(torch.equal(frozen.state_dict()[name], kept[name]) for name in kept)
    assert frozen.momentum == 0.3
    assert not torch.equal(model[4].running_mean, before)
    with torch.no_grad():
        given = model[:4](*seen[0])
    torch.testing.assert_close(model[4].running_mean, given.mean((0, 2, 3)), rtol=1e-5, atol=1e-6)


def test_where_all_are_frozen_batches_are_not_looked_at():
    def never() -> Any:
        raise AssertionError
        yield

    model = network().eval()
    kept = copy.deepcopy(model.state_dict())
    recompute_statistics(model, never())
    recompute_statistics(nn.Linear(2, 2), never())
    assert all(torch.equal(model.state_dict()[name], kept[name]) for name in kept)


def test_several_inputs():
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.BatchNorm1d(2), nn.BatchNorm1d(3)

        def forward(self, x: Tensor, table: Tensor) -> Tensor:
            return torch.cat([self.one(x), self.two(table)], 1)

    model, x, table = Both().train(), torch.randn(5, 2), torch.randn(5, 3) + 4
    recompute_statistics(model, [(x, table)])
    torch.testing.assert_close(model.one.running_mean, x.mean(0))
    torch.testing.assert_close(model.two.running_mean, table.mean(0))
    torch.testing.assert_close(model.two.running_var, table.var(0))
