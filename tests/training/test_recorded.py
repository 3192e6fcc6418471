"""What is recorded is what fastai's own Recorder records, bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from fastai.callback.core import Callback, CancelEpochException
from fastai.data.core import DataLoaders
from fastai.data.load import DataLoader
from fastai.learner import AvgLoss, AvgMetric, AvgSmoothLoss, Learner
from fastai.metrics import accuracy, error_rate
from torch import Tensor, nn
from torch.nn import functional

from ablate.training.data import dataloaders
from ablate.training.learner import build_learner, quiet
from ablate.training.recorded import Mean, MeanLoss, SmoothLoss

EPOCHS = 3


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def share_right(prediction: Tensor, target: Tensor) -> float:
    """A metric that gives a plain number."""
    return float((prediction.argmax(1) == target).double().mean())


def by_class(prediction: Tensor, target: Tensor) -> Tensor:
    """A metric that gives several numbers at once, in double precision."""
    return torch.stack([(prediction.argmax(1) == c).double().mean() for c in range(3)])


class Read(Callback):
    """Keeps what metrics say when an epoch has ended."""

    order = 60

    def __init__(self, *metrics: Any):
        self.metrics, self.read = metrics, list[list[Any]]()

    def after_validate(self) -> None:
        self.read.append([metric.value for metric in self.metrics])


def learner(folder: Path, metrics: list[Any], *callbacks: Callback, train: int = 44) -> Learner:
    """A plain Learner, batches of 12 and a smaller last one on both sides."""
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(train + 31) % 3
    pairs = list(zip(torch.randn(len(y), 5, generator=generator), y, strict=True))
    dls = DataLoaders(DataLoader(pairs[:train], bs=12), DataLoader(pairs[train:], bs=12))
    torch.manual_seed(0)
    model, loss = nn.Linear(5, 3), functional.cross_entropy
    return quiet(Learner(dls, model, loss, metrics=metrics, cbs=list(callbacks), path=folder, lr=0.1))


def equal(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor):
        return isinstance(other, Tensor) and one.dtype == other.dtype and torch.equal(one, other)
    return type(one) is type(other) and one == other


def test_the_means_of_an_epoch_are_fastais(tmp_path: Path):
    functions = (accuracy, error_rate, share_right, by_class)
    ours, theirs = [Mean(one) for one in functions], [AvgMetric(one) for one in functions]
    assert [one.name for one in ours] == [one.name for one in theirs]
    read = Read(*ours, *theirs)
    learner(tmp_path, [*ours, *theirs], read).fit(EPOCHS)
    assert len(read.read) == EPOCHS
    for values in read.read:
        for own, other in zip(values[:4], values[4:], strict=True):
            assert equal(own, other)
    assert not torch.equal(read.read[0][3], read.read[-1][3])


def test_losses_are_fastais(tmp_path: Path):
    recorded = []
    for loss, smooth in ((AvgLoss(), AvgSmoothLoss()), (MeanLoss(), SmoothLoss())):
        learn = learner(tmp_path, [loss, accuracy])
        learn.recorder.loss, learn.recorder.smooth_loss = loss, smooth
        learn.fit(EPOCHS)
        learn.fit(2)  # and begins anew
        values = [[*row] for row in learn.recorder.values]
        recorded.append((values, learn.recorder.losses, learn.recorder.iters, learn.recorder.metric_names))
    (values, losses, *others), (plain, plain_losses, *plain_others) = recorded
    assert values == plain
    assert others == plain_others
    assert len(losses) == 2 * 4
    for own, other in zip(losses, plain_losses, strict=True):
        assert own.shape == other.shape == ()
        assert equal(own, other)


@pytest.mark.parametrize("beta", [0.98, 0.5])
def test_the_smoothed_loss_over_many_steps_and_far_scales(beta: float):
    generator = torch.Generator().manual_seed(0)
    ours, theirs = SmoothLoss(beta), AvgSmoothLoss(beta)
    for again in range(2):
        ours.reset()
        theirs.reset()
        for number in range(500):
            loss = torch.randn(3, generator=generator).exp() * 10 ** (number % 7 - 3) * (1 + again)
            learn: Any = type("Learn", (), {"loss": loss})
            for one in (ours, theirs):
                one.accumulate(learn)
            assert equal(ours.value, theirs.value)
            assert ours.count == theirs.count


def test_a_figure_stays_where_it_is_until_it_is_asked_for():
    """On the meta device nothing can be brought to the host."""
    metric, smooth = Mean(lambda prediction, y: prediction.mean()), SmoothLoss()
    metric.reset()
    smooth.reset()
    prediction = torch.zeros(4, 3, device="meta", requires_grad=True)
    learn: Any = type("Learn", (), {"pred": prediction, "yb": (torch.zeros(4),), "loss": prediction.sum()})
    metric.accumulate(learn)
    smooth.accumulate(learn)
    assert metric.batches[0][0].device.type == smooth.value.device.type == "meta"
    assert not metric.batches[0][0].requires_grad
    assert not smooth.value.requires_grad


def test_without_batches_there_is_no_mean():
    for metric in (Mean(accuracy), MeanLoss()):
        metric.reset()
        assert metric.value is None


def test_an_epoch_begins_with_nothing_of_the_last_one(tmp_path: Path):
    class Ends(Callback):
        """Leaves the second epoch out after a batch of validation."""

        order = 70

        def after_batch(self) -> None:
            if not self.learn.training and self.learn.epoch == 1:
                raise CancelEpochException

    plain, cut = (learner(tmp_path, [Mean(accuracy)], *own) for own in ((), (Ends(),)))
    for learn in (plain, cut):
        learn.recorder.loss, learn.recorder.smooth_loss = MeanLoss(), SmoothLoss()
        learn.fit(EPOCHS)
    assert list(cut.recorder.values[-1]) == list(plain.recorder.values[-1])


@pytest.mark.parametrize(
    ("on", "options"),
    [
        ((), {}),
        (("mixup", "cutmix", "label_smoothing"), {}),
        ((), {"micro_batch": 2}),
        ((), {"precision": "bfloat16"}),
    ],
    ids=["plain", "mixed", "micro-batches", "bfloat16"],
)
def test_a_phase_records_what_fastais_recorder_does(parts: Callable[..., Any], on: Any, options: Any):
    recorded = []
    for fastais in (False, True):
        learn = quiet(build_learner(made := parts(on=on, batch_size=4, **options), dataloaders(made)))
        if fastais:
            learn.recorder.loss, learn.recorder.smooth_loss = AvgLoss(), AvgSmoothLoss()
            learn.metrics = [AvgMetric(accuracy)]
        assert len(learn.dls.valid) == 2
        learn.fit_one_cycle(2, 1e-2)
        recorded.append(learn.recorder)
    ours, theirs = recorded
    assert ours.metric_names == theirs.metric_names
    assert [[*row] for row in ours.values] == [[*row] for row in theirs.values]
    assert all(equal(*pair) for pair in zip(ours.losses, theirs.losses, strict=True))
    assert ours.lrs == theirs.lrs
