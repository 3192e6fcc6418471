"""Losses that say what each class costs: linear in the target, in any precision, in anybody's Learner."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pytest
import torch
from fastai.callback import schedule  # noqa: F401  gives Learner its lr_find
from fastai.layers import NoneReduce
from fastai.losses import BCEWithLogitsLossFlat, CrossEntropyLossFlat
from fastai.torch_core import TensorBase, TensorCategory
from sklearn.metrics import log_loss
from torch import Tensor, nn
from torch.nn import functional

from ablate.errors import AblateError
from ablate.training.best import BestEpochs
from ablate.training.data import dataloaders
from ablate.training.learner import build_learner, quiet
from ablate.training.losses import (
    ArcFaceLoss,
    ClassLoss,
    CrossEntropy,
    FocalLoss,
    OneVsAll,
    Smoothed,
    Weighted,
    class_loss,
    is_plain,
)
from ablate.training.mixing import MixedLoss

mpl.use("agg")
from matplotlib import pyplot as plt

N, K = 24, 5
WEIGHTS = torch.tensor([0.5, 2.0, 0.0, 1.25, 3.0])
LINEAR: dict[str, ClassLoss] = {
    "cross-entropy": CrossEntropy(),
    "focal": FocalLoss(2.0),
    "focal, gamma 0.5": FocalLoss(0.5),
    "one against all": OneVsAll(),
    "one against all, summed": OneVsAll(sum_classes=True),
    "weighted": Weighted(CrossEntropy(), WEIGHTS),
    "weighted focal": Weighted(FocalLoss(1.0), WEIGHTS),
    "smoothed": Smoothed(CrossEntropy(), 0.1),
    "all": Smoothed(Weighted(Weighted(FocalLoss(), WEIGHTS), 1 / (1 + WEIGHTS)), 0.2),
}
ALL = LINEAR | {"arcface": ArcFaceLoss(), "smooth arcface": ArcFaceLoss(ls_eps=0.1, easy_margin=True)}


@pytest.fixture(params=LINEAR.values(), ids=LINEAR.keys())
def linear(request: pytest.FixtureRequest) -> ClassLoss:
    return copy.deepcopy(request.param)


@pytest.fixture(params=ALL.values(), ids=ALL.keys())
def loss(request: pytest.FixtureRequest) -> ClassLoss:
    return copy.deepcopy(request.param)


def batch(dtype: torch.dtype = torch.float32, scale: float = 3.0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = scale * torch.randn(N, K, generator=generator, dtype=torch.float64)
    return logits.to(dtype).requires_grad_(), torch.randint(K, (N,), generator=generator)


def costs(loss: ClassLoss, logits: Tensor) -> Tensor:
    """What every class costs every item, shape (n, K), asked one class at a time."""
    each = [loss.of(logits, torch.full((len(logits),), c)) for c in range(logits.shape[1])]
    return torch.stack(each, dim=1)


def assert_same(ours: Tensor, expected: Tensor, inputs: Tensor, tolerance: float = 1e-6) -> None:
    """Values and gradients."""
    torch.testing.assert_close(ours.double(), expected.double(), rtol=tolerance, atol=tolerance)
    gradients = [torch.autograd.grad(value.sum(), inputs)[0].double() for value in (ours, expected)]
    torch.testing.assert_close(*gradients, rtol=tolerance, atol=tolerance)


def test_what_a_spread_target_costs(linear: ClassLoss):
    logits, _ = batch(torch.float64)
    shares = torch.tensor([0.1, 0.0, 0.4, 0.3, 0.7], dtype=torch.float64)
    assert_same(linear.spread(logits, shares), costs(linear, logits) @ shares, logits)


def test_reductions(loss: ClassLoss):
    logits, target = batch()
    each = loss.of(logits, target)
    assert each.shape == (N,)
    torch.testing.assert_close(loss(logits, target), each.mean())
    with NoneReduce(loss) as unreduced:
        assert torch.equal(unreduced(logits, target), each)
    assert loss.reduction == "mean"
    loss.reduction = "sum"
    torch.testing.assert_close(loss(logits, target), each.sum())


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_wrapped_losses_reduce_as_those_within(reduction: Any):
    inner = FocalLoss(reduction=reduction)
    assert Smoothed(Weighted(inner, WEIGHTS)).reduction == reduction


def test_cross_entropy_is_fastais_bit_for_bit():
    logits, target = batch()
    ours, fastais = CrossEntropy(), CrossEntropyLossFlat()
    assert float(ours(logits, target)) == pytest.approx(float(fastais(logits, target)), abs=1e-6)
    with NoneReduce(fastais) as each:
        assert torch.equal(ours.of(logits, target), each(logits, target).as_subclass(Tensor))


def test_mixing_is_the_loss_of_the_mixed_target(linear: ClassLoss):
    logits, target = batch(torch.float64)
    partner, share = target.flip(0), torch.rand(N, generator=torch.Generator().manual_seed(1)).double()
    soft = share[:, None] * functional.one_hot(target, K) + (1 - share)[:, None] * functional.one_hot(
        partner, K
    )
    expected = (costs(linear, logits) * soft).sum(1).mean()
    assert_same(MixedLoss(linear)(logits, target, partner, share), expected, logits)


def test_extreme_logits_give_finite_losses_and_gradients(loss: ClassLoss):
    logits = torch.tensor([[200.0, -200, 0, 30, -30], [-500, 500, 500, 0, 0], [1e4, 0, 0, 0, 0]])
    if isinstance(loss, ArcFaceLoss):
        logits = 30 * torch.tensor([[1.0, -1, 0, 1 - 6e-8, 1e-9], [-1, 1, 1, 0, 0], [1 + 1e-6, 0, 0, 0, 0]])
    logits.requires_grad_()
    for target in (torch.tensor([0, 1, 0]), torch.tensor([1, 0, 4])):
        value = loss(logits, target)
        assert value.isfinite()
        assert torch.autograd.grad(value, logits)[0].isfinite().all()


@pytest.mark.parametrize("autocast", [False, True])
def test_half_precision_logits_are_computed_in_float32(loss: ClassLoss, autocast: bool):
    logits, target = batch(torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        ours = loss(logits, target)
    assert ours.dtype == torch.float32
    assert torch.equal(ours, loss(logits.float(), target))


def test_what_fastai_hands_over(loss: ClassLoss):
    logits, target = batch()
    wrapped = loss(TensorBase(logits.detach()), TensorCategory(target.int()))
    assert type(wrapped) is Tensor
    assert torch.equal(wrapped, loss(logits, target))


def test_probabilities(loss: ClassLoss):
    logits, _ = batch()
    probabilities = loss.activation(logits)
    torch.testing.assert_close(probabilities.sum(1), torch.ones(N))
    assert torch.equal(loss.decodes(probabilities), logits.argmax(1))
    if not isinstance(loss, OneVsAll):
        assert torch.equal(probabilities, logits.softmax(1))


def test_copies_and_pickles(loss: ClassLoss):
    logits, target = batch()
    for twin in (copy.deepcopy(loss), pickle.loads(pickle.dumps(loss))):
        assert torch.equal(twin(logits, target), loss(logits, target))


def test_weights_go_where_the_logits_are():
    moved = Smoothed(Weighted(CrossEntropy(), WEIGHTS)).to("meta")
    assert all(buffer.device.type == "meta" for buffer in moved.buffers())
    logits, target = batch()
    on_meta = Weighted(CrossEntropy(), WEIGHTS).of(logits.to("meta"), target.to("meta"))
    assert on_meta.device.type == "meta"


@pytest.mark.parametrize("name", ["focal", "one against all", "weighted focal", "smoothed"])
def test_many_classes_take_a_few_tables_and_no_more(name: str):
    """81,313 classes: a loss keeps no more than three tables of the logits' size for its gradient."""
    loss, classes = copy.deepcopy(LINEAR[name]), 81_313
    if isinstance(loss, Weighted):
        loss = Weighted(loss.loss, torch.ones(classes))
    logits, kept = torch.randn(4, classes, requires_grad=True), []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        loss(logits, torch.tensor([0, 1, 5, 81_312])).backward()
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in kept}
    assert sum(storages.values()) <= 3.1 * logits.nbytes
    assert max(tensor.numel() for tensor in kept) <= logits.numel()


def test_which_losses_can_be_built_on():
    made = FocalLoss()
    assert class_loss(made, "x") is made
    plain = CrossEntropyLossFlat()
    plain.reduction = "sum"
    assert is_plain(plain)
    converted = class_loss(plain, "x")
    assert isinstance(converted, CrossEntropy)
    assert converted.reduction == "sum"
    others = [
        CrossEntropyLossFlat(weight=torch.ones(3)),
        CrossEntropyLossFlat(axis=1),
        BCEWithLogitsLossFlat(),
        nn.CrossEntropyLoss(),
        functional.cross_entropy,
    ]
    for other in others:
        assert not is_plain(other)
        with pytest.raises(AblateError, match=r"^class_weights: cannot act on \w+; it takes fastai's"):
            class_loss(other, "class_weights")


SIX: dict[str, tuple[str, ...]] = {
    "cross-entropy": (),
    "focal": ("focal_loss",),
    "bce": ("bce_loss",),
    "arcface": ("arcface",),
    "weighted": ("class_weights",),
    "smoothed": ("label_smoothing", "focal_loss", "class_weights"),
}


@pytest.mark.parametrize("on", SIX.values(), ids=SIX.keys())
def test_in_a_learner(on: tuple[str, ...], parts: Any, tmp_path: Path):
    made = parts(on=on)
    learn = quiet(build_learner(made, dataloaders(made), folder=tmp_path))
    assert 1e-7 < learn.lr_find(show_plot=False).valley < 10
    learn.fit(2, 1e-3)
    valid_loss = learn.recorder.values[-1][1]
    probabilities, _, decoded, each = learn.get_preds(with_decoded=True, with_loss=True)
    assert probabilities.shape == (6, 3)
    torch.testing.assert_close(probabilities.sum(1), torch.ones(6))
    assert torch.equal(decoded, probabilities.argmax(1))
    assert each.shape == (6,)
    assert float(each.mean()) == pytest.approx(valid_loss, abs=1e-5)
    logits = learn.get_preds(act=lambda raw: raw)[0]
    assert torch.equal(logits.argmax(1), decoded)
    learn.show_results(max_n=4)
    plt.close("all")
    assert learn.predict(made.items.items[0].image)[2].shape == (3,)


@pytest.mark.parametrize("on", SIX.values(), ids=SIX.keys())
def test_the_best_epoch_goes_by_the_log_loss_of_what_is_predicted(on: tuple[str, ...], parts: Any):
    made = parts(on=on)
    learn = quiet(build_learner(made, dataloaders(made)))
    best = BestEpochs(made.side("valid"))
    learn.fit(1, 1e-3, cbs=best)
    probabilities, target = learn.get_preds()
    assert best.scores[2] == pytest.approx(log_loss(target.numpy(), probabilities.numpy()), abs=1e-5)
