"""sam: by hand on a bowl, against the reference's two steps, in parts, in float16, under dropout."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from fastai.data.core import DataLoaders
from fastai.data.load import DataLoader
from fastai.learner import Learner
from fastai.optimizer import OptimWrapper
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from ablate.recipe.schema import Phase
from ablate.techniques.base import Technique
from ablate.techniques.sam import SAM, ascent
from ablate.training.callbacks import MicroBatch, Precision
from ablate.training.data import dataloaders
from ablate.training.learner import build_learner, quiet
from ablate.training.second_pass import SharpnessAware

SGD = partial(OptimWrapper, opt=partial(torch.optim.SGD, momentum=0.9))


def toy(seed: int, norm: bool = True) -> nn.Sequential:
    torch.manual_seed(seed)
    middle = nn.BatchNorm1d(8) if norm else nn.Identity()
    return nn.Sequential(nn.Linear(5, 8), middle, nn.Tanh(), nn.Linear(8, 3))


def batches(seed: int, count: int = 6) -> list[tuple[Tensor, Tensor]]:
    torch.manual_seed(seed)
    return [(torch.randn(12, 5), torch.randint(3, (12,))) for _ in range(count)]


def fitted(model: nn.Module, data: Any, *callbacks: Any, loss: Any = functional.cross_entropy) -> nn.Module:
    """A network after an epoch over given batches, with torch's SGD in fastai's loop."""
    loader = DataLoader(data, bs=None)
    learn = Learner(
        DataLoaders(loader, loader),
        model,
        loss_func=loss,
        opt_func=SGD,
        cbs=list(callbacks),
        wd=0.0,
        train_bn=False,
    )
    with learn.no_bar(), learn.no_logging():
        learn.fit(1, lr=0.1)
    return model


def reference(
    model: nn.Module, data: Any, rho: float, adaptive: bool = False, interval: int = 1
) -> nn.Module:
    """SAM as its authors' algorithm 1, with torch's SGD: climb, take the gradient there, go back, step."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for number, (x, y) in enumerate(data):
        optimizer.zero_grad()
        functional.cross_entropy(model(x), y).backward()
        if (number + 1) % interval == 0:
            weights = list(model.parameters())
            own = [w.detach().clone() for w in weights]
            g = [w.grad.clone() for w in weights]
            t = [w.abs() if adaptive else torch.ones_like(w) for w in own]
            length = sum(float(((a * b) ** 2).sum()) for a, b in zip(t, g, strict=True)) ** 0.5
            with torch.no_grad():
                for w, a, b in zip(weights, t, g, strict=True):
                    w += rho * a**2 * b / length
            optimizer.zero_grad()
            functional.cross_entropy(model(x), y).backward()
            with torch.no_grad():
                for w, before in zip(weights, own, strict=True):
                    w.copy_(before)
        optimizer.step()
    return model


def assert_close(model: nn.Module, other: nn.Module, tolerance: float = 1e-6) -> None:
    for (name, p), q in zip(model.named_parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=tolerance, atol=tolerance, msg=name)


def test_by_hand_on_a_bowl() -> None:
    """L(w) = ½ wᵀ A w: the gradient is A w, and that at the climbed weights A (w + ρ A w / |A w|)."""
    a, w, rho = np.diag([1.0, 4.0]), np.array([3.0, 1.0]), 0.5

    class Bowl(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.tensor(w, dtype=torch.float32))

        def forward(self, x: Tensor) -> Tensor:
            return x @ self.w

    data = [(torch.tensor(np.sqrt(a), dtype=torch.float32), torch.zeros(2))]
    model = fitted(Bowl(), data, SharpnessAware(rho), loss=lambda pred, y: (pred**2).sum() / 2)
    gradient = a @ w  # (3, 4), of length 5
    moved = w + rho * gradient / 5
    assert moved == pytest.approx([3.3, 1.4])
    assert model.w.tolist() == pytest.approx((w - 0.1 * a @ moved).tolist(), rel=1e-6)


@pytest.mark.parametrize("adaptive", [False, True])
@pytest.mark.parametrize("interval", [1, 2])
def test_steps_are_those_of_the_reference(adaptive: bool, interval: int) -> None:
    own = fitted(toy(0), batches(1), SharpnessAware(0.3, adaptive, interval))
    theirs = reference(toy(0), batches(1), 0.3, adaptive, interval)
    assert_close(own, theirs)
    plain = fitted(toy(0), batches(1))
    assert (
        max(float((p - q).abs().max()) for p, q in zip(own.parameters(), plain.parameters(), strict=True))
        > 1e-3
    )


def test_running_averages_are_those_of_the_first_pass() -> None:
    seen: list[Tensor] = []
    model = toy(0)
    model[1].register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].detach().clone()))
    fitted(model, batches(1), SharpnessAware(0.3))
    seen = seen[:12]  # two passes for each batch, then validation
    by_hand = nn.BatchNorm1d(8)
    for first in seen[::2]:
        by_hand(first)
    torch.testing.assert_close(model[1].running_mean, by_hand.running_mean)
    torch.testing.assert_close(model[1].running_var, by_hand.running_var)
    assert int(model[1].num_batches_tracked) == 6


@pytest.mark.parametrize("size", [1, 5, 12])
def test_a_batch_in_parts_is_a_whole_batch(size: int) -> None:
    parts = fitted(toy(0, norm=False), batches(1), SharpnessAware(0.3), MicroBatch(size))
    assert_close(parts, reference(toy(0, norm=False), batches(1), 0.3))


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
@pytest.mark.parametrize("size", [6, 12])
def test_other_precisions_are_close(precision: str, size: int) -> None:
    callbacks = [Precision(precision, "cpu"), SharpnessAware(0.3), MicroBatch(size)]
    own = fitted(toy(0, norm=False), batches(1), *callbacks)
    theirs = reference(toy(0, norm=False), batches(1), 0.3)
    assert_close(own, theirs, 0.02 if precision == "bfloat16" else 0.003)


def test_a_step_that_overflows_in_float16_is_skipped_and_leaves_the_weights() -> None:
    data = batches(1, 1)
    data[0][0][0, 0] = 1e6  # beyond float16
    model = fitted(toy(0, norm=False), data, Precision("float16", "cpu"), SharpnessAware(0.3))
    assert all(
        torch.equal(p, q) for p, q in zip(model.parameters(), toy(0, norm=False).parameters(), strict=True)
    )


def stage(make_parts: Callable[..., Any], *on: Technique, **changes: Any) -> Any:
    phase = Phase(name="tune", epochs=1, batch_size=32, size=16, presize=20, weight_decay=0, **changes)
    made = make_parts(*on, phase=phase)
    return quiet(build_learner(made, dataloaders(made)))


@pytest.mark.parametrize("micro_batch", [None, 8])
def test_both_passes_have_the_same_dropout(make_parts: Callable[..., Any], micro_batch: int | None) -> None:
    """With next to no way to go, the second pass is the first one again."""
    learn = stage(make_parts, SAM(rho=1e-12), micro_batch=micro_batch)
    seen: list[Tensor] = []

    def see(module: nn.Module, inputs: Any, output: Tensor) -> None:
        if module.training:
            seen.append(output.detach().clone())

    assert any(isinstance(module, nn.Dropout) for module in learn.model.modules())
    learn.model.register_forward_hook(see)
    learn.fit(1, lr=1e-3)
    parts = 32 // micro_batch if micro_batch else 1
    assert len(seen) == 3 * 2 * parts
    for step in range(3):
        first, second = (seen[(2 * step + turn) * parts :][:parts] for turn in (0, 1))
        torch.testing.assert_close(torch.cat(first), torch.cat(second), rtol=1e-5, atol=1e-6)


def test_the_loss_that_is_recorded_is_the_first_passes(make_parts: Callable[..., Any]) -> None:
    losses = []
    for on in ([], [SAM(rho=0.5)]):
        learn = stage(make_parts, *on)
        learn.fit(1, lr=1e-3)
        losses.append([float(loss) for loss in learn.recorder.losses])
    assert losses[0][0] == losses[1][0]
    assert losses[0][1] != losses[1][1]


def test_a_frozen_body_stays(make_parts: Callable[..., Any]) -> None:
    learn = stage(make_parts, SAM(rho=0.5), freeze=True)
    before = {name: p.detach().clone() for name, p in learn.model.named_parameters()}
    learn.fit(1, lr=1e-2)
    moved = {name for name, p in learn.model.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {name for name, p in learn.model.named_parameters() if p.requires_grad}
    assert moved < set(before)


@given(
    values=st.lists(st.floats(-10, 10), min_size=2, max_size=6),
    scale=st.floats(1e-3, 1e5),
    rho=st.floats(0.01, 1),
    adaptive=st.booleans(),
)
def test_the_way_is_rho_long_whatever_the_gradients_scale(
    values: list[float], scale: float, rho: float, adaptive: bool
) -> None:
    g = [torch.tensor(values[:1]).double(), torch.tensor(values[1:]).double()]
    w = [torch.full_like(one, 0.5) for one in g]
    one, other = (ascent(w, [k * gradient for gradient in g], rho, adaptive) for k in (1, scale))
    length = float(torch.cat(one).norm())
    if float(torch.cat(g).norm()) > 1e-3:
        assert length == pytest.approx(rho / 2 if adaptive else rho, rel=1e-6)
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("bad", [float("inf"), float("nan")])
def test_nothing_moves_where_the_gradient_is_not_finite(bad: float) -> None:
    steps = ascent([torch.ones(2), torch.ones(1)], [torch.tensor([1.0, bad]), torch.ones(1)], 0.1)
    assert [step.tolist() for step in steps] == [[0, 0], [0]]
