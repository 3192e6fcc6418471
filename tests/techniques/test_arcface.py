"""ArcFace against a Keras notebook's layer, worked again in float64, and against angles themselves."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from torch.nn import functional

from ablate.errors import AblateError
from ablate.techniques.arcface import ArcFace, arc_margin
from ablate.training.data import dataloaders
from ablate.training.learner import build_learner, quiet
from ablate.training.losses import ArcFaceLoss, Smoothed
from ablate.training.mixing import MixedLoss
from ablate.training.output import CosineLayer, output_layer

N, FEATURES, K = 48, 16, 7


def embeddings(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    """Features, a layer's weights and labels; the angles to the label's class go from 0 to π, nearly."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(K, FEATURES, generator=generator, dtype=torch.float64)
    target = torch.randint(K, (N,), generator=generator)
    noise = torch.randn(N, FEATURES, generator=generator, dtype=torch.float64)
    x = 3 * (torch.linspace(-2, 2, N)[:, None] * functional.normalize(weight)[target] + 0.2 * noise)
    return x.to(dtype).requires_grad_(), weight.to(dtype).requires_grad_(), target


def keras_layer(
    x: Tensor, weight: Tensor, target: Tensor, s: float, m: float, easy_margin: bool, ls_eps: float
) -> Tensor:
    """The notebook's ArcMarginProduct, line by line, then categorical cross-entropy from logits.

    The notebook has an option easy_margin without using it; the code that it cites does as here.
    """
    cosine = functional.normalize(x) @ functional.normalize(weight).T
    sine = torch.sqrt(1.0 - cosine**2)
    phi = cosine * math.cos(m) - sine * math.sin(m)
    if easy_margin:
        phi = torch.where(cosine > 0, phi, cosine)
    else:
        phi = torch.where(cosine > math.cos(math.pi - m), phi, cosine - math.sin(math.pi - m) * m)
    one_hot = functional.one_hot(target, K).to(cosine.dtype)
    if ls_eps > 0:
        one_hot = (1 - ls_eps) * one_hot + ls_eps / K
    output = ((one_hot * phi) + ((1.0 - one_hot) * cosine)) * s
    return (output.logsumexp(1) - output.gather(1, target[:, None])[:, 0]).mean()


@pytest.mark.parametrize("ls_eps", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("easy_margin", [False, True])
@pytest.mark.parametrize(("s", "m"), [(30.0, 0.5), (64.0, 0.2), (10.0, 1.5), (30.0, 0.0)])
def test_layer_and_loss_are_the_notebooks(s: float, m: float, easy_margin: bool, ls_eps: float):
    x, weight, target = embeddings()
    layer = CosineLayer(FEATURES, K, s).double()
    layer.weight = torch.nn.Parameter(weight.detach().clone())
    ours = ArcFaceLoss(s, m, easy_margin, ls_eps)(layer(x), target)
    expected = keras_layer(x, weight, target, s, m, easy_margin, ls_eps)
    assert float(ours.detach()) == pytest.approx(float(expected.detach()), abs=1e-9)
    own = torch.autograd.grad(ours, [x, layer.weight])
    for one, other in zip(own, torch.autograd.grad(expected, [x, weight]), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("ls_eps", [0.0, 0.1])
def test_in_float32(ls_eps: float):
    x, weight, target = embeddings(torch.float32)
    layer = CosineLayer(FEATURES, K)
    layer.weight = torch.nn.Parameter(weight.detach().clone())
    ours = ArcFaceLoss(ls_eps=ls_eps)(layer(x), target)
    exact = keras_layer(x.double(), weight.double(), target, 30, 0.5, False, ls_eps)
    assert float(ours.detach()) == pytest.approx(float(exact.detach()), rel=1e-6)
    (own,) = torch.autograd.grad(ours, x)
    torch.testing.assert_close(own, torch.autograd.grad(exact, x)[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("m", [0.0, 0.2, 0.5, 1.5])
@pytest.mark.parametrize("easy_margin", [False, True])
def test_the_margin_is_on_the_angle(m: float, easy_margin: bool):
    angle = torch.linspace(0.001, math.pi - 0.001, 500, dtype=torch.float64)
    cosine = angle.cos().requires_grad_()
    phi = arc_margin(cosine, m, easy_margin)
    (gradient,) = torch.autograd.grad(phi.sum(), cosine)
    moved = angle < (math.pi / 2 if easy_margin else math.pi - m)
    torch.testing.assert_close(phi[moved], (angle + m).cos()[moved], rtol=1e-9, atol=1e-9)
    by_hand = (angle + m).sin() / angle.sin()  # d cos(θ + m) / d cos θ
    torch.testing.assert_close(gradient[moved], by_hand[moved], rtol=1e-6, atol=1e-6)
    rest = cosine.detach() if easy_margin else cosine.detach() - m * math.sin(m)
    torch.testing.assert_close(phi[~moved], rest[~moved], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(gradient[~moved], torch.ones_like(gradient[~moved]))
    if not easy_margin:
        assert (phi.diff() < 1e-12).all()  # a larger angle is never better


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_at_the_ends_are_finite(dtype: torch.dtype):
    ends = [1, -1, 1 + 2e-7, -1 - 2e-7, 1 - 6e-8, -1 + 6e-8, 0]
    cosine = torch.tensor(ends, dtype=dtype, requires_grad=True)
    phi = arc_margin(cosine, 0.5)
    (gradient,) = torch.autograd.grad(phi.sum(), cosine)
    assert gradient.isfinite().all()
    assert gradient.abs().max() < 5000
    assert float(phi[0].detach()) == pytest.approx(math.cos(0.5), abs=1e-7)
    assert float(phi[1].detach()) == pytest.approx(-1 - 0.5 * math.sin(0.5), abs=1e-6)


def test_without_a_margin_it_is_cross_entropy():
    logits = (30 * torch.rand(N, K) - 15).requires_grad_()
    target = embeddings()[2]
    ours, expected = ArcFaceLoss(m=0.0)(logits, target), functional.cross_entropy(logits, target)
    torch.testing.assert_close(ours, expected)


def test_mixing_weighs_two_margins():
    x, weight, target = embeddings()
    logits = 30 * (functional.normalize(x) @ functional.normalize(weight).T)
    partner, share = target.roll(1), torch.rand(N, dtype=torch.float64)
    loss = ArcFaceLoss()
    expected = (share * loss.of(logits, target) + (1 - share) * loss.of(logits, partner)).mean()
    torch.testing.assert_close(MixedLoss(loss)(logits, target, partner, share), expected)


def test_label_smoothing_is_its_own():
    with pytest.raises(AblateError, match="arcface has smoothing of its own; set its ls_eps instead"):
        Smoothed(ArcFaceLoss(), 0.1)(torch.randn(4, 3), torch.tensor([0, 1, 2, 0]))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_in_a_learner(precision: Any, make_parts: Callable):
    parts = make_parts(ArcFace(s=20.0))
    phase = parts.phase.model_copy(update={"precision": precision, "epochs": 4})
    parts = make_parts(ArcFace(s=20.0), phase=phase)
    learn = quiet(build_learner(parts, dataloaders(parts)))
    layer = output_layer(learn.model)
    assert isinstance(layer, CosineLayer)
    seen: list[tuple[Tensor, Tensor]] = []
    layer.register_forward_hook(lambda _, inputs, output: seen.append((inputs[0].detach(), output)))
    learn.fit(4, 3e-3)
    losses = [float(row[0]) for row in learn.recorder.values]
    assert losses[-1] < losses[0]
    assert all(output.dtype == torch.float32 for _, output in seen)
    assert all(float(output.detach().abs().max()) <= 20.001 for _, output in seen)
    seen.clear()
    probabilities, target = learn.get_preds()
    x = torch.cat([inputs.float() for inputs, _ in seen])
    cosine = functional.normalize(x) @ functional.normalize(layer.weight.detach()).T
    np.testing.assert_allclose(probabilities.numpy(), (20 * cosine).softmax(1).numpy(), atol=1e-5)
    assert target.shape == (40,)


def test_the_classes_directions_follow_the_seed(make_parts: Callable):
    def weights(seed: int) -> Tensor:
        parts = make_parts(ArcFace(), seed=seed)
        return output_layer(build_learner(parts, dataloaders(parts)).model).weight.detach()  # type: ignore

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


@pytest.mark.parametrize("options", [{"s": 0}, {"m": -0.1}, {"m": 2.0}, {"ls_eps": 1.0}, {"easy_margin": 1}])
def test_impossible_options(options: dict[str, object]):
    with pytest.raises(ValidationError, match=next(iter(options))):
        ArcFace.model_validate(options)
