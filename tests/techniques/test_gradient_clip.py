"""gradient_clip: against torch's clip_grad_norm_ in a loop by hand, in any precision, in parts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from fastai.callback.core import Callback
from torch import nn
from torch.nn.utils import clip_grad_norm_

from ablate.recipe.schema import Phase
from ablate.techniques.gradient_clip import GradientClip
from ablate.training.callbacks import SingleBatch
from ablate.training.data import dataloaders
from ablate.training.learner import build_learner, quiet


def gradients(parts: Any) -> dict[str, torch.Tensor]:
    """What the optimizer gets in the first step; dropout is off and batch norms go by their averages."""
    learn = quiet(build_learner(parts, dataloaders(parts)))
    for module in learn.model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.eval().train = lambda mode=True: None  # type: ignore[method-assign]
    kept: dict[str, torch.Tensor] = {}

    class Keep(Callback):
        order = 50

        def before_step(self) -> None:
            named = self.learn.model.named_parameters()
            kept.update({name: p.grad.clone() for name, p in named if p.grad is not None})

    learn.fit(1, cbs=[Keep(), SingleBatch()])
    return kept


def norm(kept: dict[str, torch.Tensor]) -> float:
    return float(torch.cat([gradient.flatten() for gradient in kept.values()]).norm())


def phase(**changes: Any) -> Phase:
    fixed = {"name": "tune", "epochs": 1, "batch_size": 16, "size": 16, "presize": 20, "weight_decay": 0.0}
    return Phase(**(fixed | changes))


@pytest.mark.parametrize(
    "changes",
    [{}, {"micro_batch": 4}, {"precision": "float16"}, {"precision": "float16", "micro_batch": 8}],
    ids=["float32", "in parts", "float16", "float16 in parts"],
)
def test_the_gradient_is_torchs_clipped_one(make_parts: Callable[..., Any], changes: dict[str, Any]) -> None:
    plain = gradients(make_parts(phase=phase(**changes)))
    bound = norm(plain) / 3
    clipped = gradients(make_parts(GradientClip(max_norm=bound), phase=phase(**changes)))
    weights = [nn.Parameter(torch.zeros_like(gradient)) for gradient in plain.values()]
    for weight, gradient in zip(weights, plain.values(), strict=True):
        weight.grad = gradient.clone()
    clip_grad_norm_(weights, bound)
    assert norm(clipped) == pytest.approx(bound, rel=1e-4)
    for name, weight in zip(plain, weights, strict=True):
        torch.testing.assert_close(clipped[name], weight.grad, rtol=1e-6, atol=1e-9)


def test_a_small_gradient_stays(make_parts: Callable[..., Any]) -> None:
    plain = gradients(make_parts(phase=phase()))
    clipped = gradients(make_parts(GradientClip(max_norm=norm(plain) * 1.01), phase=phase()))
    assert all(torch.equal(plain[name], clipped[name]) for name in plain)


def test_float16_and_float32_are_clipped_at_the_same_norm(make_parts: Callable[..., Any]) -> None:
    """A scaled gradient would be clipped 65,536 times too much."""
    half = gradients(make_parts(GradientClip(max_norm=0.1), phase=phase(precision="float16")))
    whole = gradients(make_parts(GradientClip(max_norm=0.1), phase=phase()))
    assert norm(half) == pytest.approx(norm(whole), rel=1e-3) == pytest.approx(0.1, rel=1e-3)
    difference = {name: half[name] - whole[name] for name in whole}
    assert norm(difference) < 0.01
