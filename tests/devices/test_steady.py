"""What makes the first step the same graph as all others changes no number: bit for bit on the CPU."""

from __future__ import annotations

import copy
import gc
from collections.abc import Callable
from typing import Any

import pytest
import torch
from fastai.data.core import DataLoaders
from fastai.learner import Learner
from fastai.optimizer import Adam
from optimizers import OPTIMIZERS
from timm.layers import BatchNormAct2d
from torch import Tensor, nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from ablate.devices.steady import compute_all, create_state, forget_gradients, in_training

OF_TORCH = {name for name in OPTIMIZERS if name.startswith("torch")}
STEPS = 5


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def network() -> nn.Sequential:
    """Weights of zero too: a bias, whose norm LAMB and LARC divide by."""
    torch.manual_seed(0)
    body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten())
    head = nn.Linear(16, 3)
    nn.init.zeros_(head.bias)
    return nn.Sequential(body, head)


def make(model: nn.Sequential, name: str) -> Any:
    """An optimizer with two groups, as fastai's learner makes it."""
    groups = [list(model[0].parameters()), list(model[1].parameters())]
    optimizer = OPTIMIZERS[name](groups, lr=0.05)
    optimizer.set_hyper("wd", 0.1)
    return optimizer


def step(model: nn.Module, optimizer: Any, number: int) -> None:
    """One step of training, on a batch of its own and with rates of its own."""
    generator = torch.Generator().manual_seed(number)
    x, y = torch.randn(6, 3, 4, 4, generator=generator), torch.arange(6) % 3
    optimizer.set_hyper("lr", 0.05 / (number + 1))
    functional.cross_entropy(model(x), y).backward()
    optimizer.step()


def train(name: str, before: Callable[[Any], None], steps: int = STEPS) -> tuple[nn.Module, Any]:
    """A network and its optimizer after some steps, with something done before the first."""
    model = network()
    optimizer = make(model, name)
    before(optimizer)
    for number in range(steps):
        step(model, optimizer, number)
        optimizer.zero_grad()
    return model, optimizer


def same(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor):
        return isinstance(other, Tensor) and torch.equal(one, other)
    return one == other


def states(optimizer: Any) -> list[dict[str, Any]]:
    return [dict(state) for *_, state, _ in optimizer.all_params()]


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_training_is_what_it_is_without(name: str):
    (plain, optimizer), (ours, made) = train(name, lambda _: None), train(name, create_state)
    for own, other in zip(ours.state_dict().values(), plain.state_dict().values(), strict=True):
        assert torch.equal(own, other)
    for own, other in zip(states(made), states(optimizer), strict=True):
        assert own.keys() == other.keys()
        assert all(same(own[key], other[key]) for key in own)


@pytest.mark.parametrize("name", sorted(OPTIMIZERS.keys() - OF_TORCH))
def test_all_that_the_first_step_would_create_is_there_and_zero(name: str):
    model = network()
    optimizer = make(model, name)
    create_state(optimizer)
    before = states(optimizer)
    _, trained = train(name, lambda _: None, steps=1)
    for (parameter, *_), own, after in zip(optimizer.all_params(), before, states(trained), strict=True):
        averages = {key for key, value in after.items() if isinstance(value, Tensor) and value.ndim}
        assert averages <= own.keys()
        assert all(isinstance(value, Tensor) and not value.any() for value in own.values())
        assert all(own[key].shape == parameter.shape for key in averages)
    assert all(state.get("step", 1) == 1 for state in states(trained))


@pytest.mark.parametrize("name", sorted(OF_TORCH))
def test_torchs_own_are_left_alone(name: str):
    optimizer = make(network(), name)
    create_state(optimizer)
    assert not optimizer.opt.state


def test_what_fastai_has_noted_of_a_parameter_stays():
    learn = Learner(DataLoaders(), network(), functional.cross_entropy, opt_func=Adam, wd_bn_bias=False)
    learn.create_opt()
    noted = states(learn.opt)
    assert any(state.get("do_wd") is False for state in noted)
    assert any(state.get("force_train") for state in noted)
    create_state(learn.opt)
    for state, before in zip(states(learn.opt), noted, strict=True):
        assert state.keys() == before.keys() | {"grad_avg", "sqr_avg"}
        assert all(state[key] == before[key] for key in before)


def test_frozen_parameters_get_none_until_they_are_trained():
    model = network()
    optimizer = make(model, "Adam")
    optimizer.freeze()
    create_state(optimizer)
    own = [bool(state) for state in states(optimizer)]
    assert own == [parameter.requires_grad for parameter, *_ in optimizer.all_params()]
    assert own == [False] * 4 + [True] * 2
    optimizer.unfreeze()
    create_state(optimizer)
    assert all(state.keys() == {"grad_avg", "sqr_avg"} for state in states(optimizer))


@pytest.mark.parametrize("name", ["Adam", "RMSProp with momentum", "ranger"])
def test_averages_that_are_there_stay(name: str):
    model, optimizer = train(name, lambda _: None)
    kept, weights = copy.deepcopy(states(optimizer)), copy.deepcopy(model.state_dict())
    create_state(optimizer)
    for own, before in zip(states(optimizer), kept, strict=True):
        assert own.keys() == before.keys()
        assert all(same(own[key], before[key]) for key in own)
    assert all(torch.equal(value, weights[key]) for key, value in model.state_dict().items())


def test_gradients_are_forgotten_and_the_next_ones_are_the_same():
    model = network()
    optimizer = make(model, "SGD with momentum")
    step(model, optimizer, 0)
    assert all(parameter.grad is not None for parameter in model.parameters())
    forget_gradients(optimizer)
    assert all(parameter.grad is None for parameter in model.parameters())
    plain, _ = train("SGD with momentum", lambda _: None, steps=2)
    step(model, optimizer, 1)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), plain.parameters(), strict=True))


class Written(TorchDispatchMode):
    """Where operations in place write to."""

    def __init__(self) -> None:
        super().__init__()
        self.places: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func._schema.name.endswith("_"):
            self.places.add(args[0].data_ptr())
        return func(*args, **(kwargs or {}))


def test_all_tensors_are_computed_and_keep_their_bits(monkeypatch: pytest.MonkeyPatch):
    special = torch.tensor([0.0, -0.0, float("inf"), float("-inf"), float("nan"), 1e-45])
    held = [
        special,
        special[:4].to(torch.bfloat16),
        nn.Parameter(torch.randn(2, 3)),
        torch.randn(3, 4)[:, 1],
        torch.randn(2, 3, 4, 5).contiguous(memory_format=torch.channels_last),
        torch.arange(5) - 2,
        torch.tensor(2**53 + 1),
        torch.tensor([0, 255], dtype=torch.uint8),
        torch.tensor([True, False]),
        torch.tensor(True),
        torch.empty(0),
    ]
    elsewhere, no_tensor = torch.randn(3, device="meta"), [special]
    bits = [tensor.detach().clone() for tensor in held]
    # no more than these: a test must not write to what others hold
    ours = {id(one) for one in [*held, elsewhere, no_tensor]}
    every = gc.get_objects
    monkeypatch.setattr(gc, "get_objects", lambda: [one for one in every() if id(one) in ours])
    with Written() as written:
        compute_all("cpu")
    for tensor, before in zip(held, bits, strict=True):
        assert tensor.data_ptr() in written.places
        assert tensor.dtype == before.dtype
        raw = [one.detach().contiguous().reshape(-1).view(torch.uint8) for one in (tensor, before)]
        assert torch.equal(*raw)
    assert isinstance(held[2], nn.Parameter)
    assert held[2].requires_grad
    assert held[2].grad_fn is None


@pytest.mark.parametrize("shape", [(8, 4), (8, 4, 1, 1), (3, 4, 5, 2)])
def test_a_biased_variance_is_taken_up_as_the_unbiased_one(shape: tuple[int, ...]):
    """Where torch_xla takes up the biased variance of a batch, what is left is torch's own average."""
    torch.manual_seed(0)
    x = torch.randn(shape) * 3 + 1
    biased: Any = nn.BatchNorm1d(4) if len(shape) == 2 else BatchNormAct2d(4)
    plain = copy.deepcopy(biased)
    count = x.numel() // 4
    own = type(biased).forward

    class OnXla(type(biased)):  # type: ignore[misc]
        def forward(self, x: Tensor) -> Tensor:
            before = self.running_var * (1 - self.momentum)
            result = own(self, x)
            if self.training:
                self.running_var.data.sub_(before).mul_((count - 1) / count).add_(before)
            return result

    biased.__class__ = OnXla
    for _ in range(3):
        torch.testing.assert_close(in_training(biased, x), plain(x))
    torch.testing.assert_close(biased.running_var, plain.running_var)
    torch.testing.assert_close(biased.running_mean, plain.running_mean)
    kept = biased.running_var.clone()
    in_training(biased.eval(), x)
    assert torch.equal(biased.running_var, kept)
