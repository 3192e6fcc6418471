"""A phase against fastai's own: the same schedule step for step, the same losses."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from fastai.callback.core import Callback
from fastai.data.block import CategoryBlock, DataBlock
from fastai.data.transforms import ColReader
from fastai.losses import CrossEntropyLossFlat
from fastai.optimizer import Adam
from fastai.vision.augment import Resize
from fastai.vision.data import ImageBlock
from fastai.vision.learner import vision_learner
from PIL import Image
from torch import nn

from ablate.training.data import dataloaders
from ablate.training.fit import EpochLog, find_rate, fit_phase, peak_rates
from ablate.training.learner import build_learner, quiet


def ignore(_message: object) -> None:
    pass


def logged_fit(learn, phase, rate, report=ignore) -> tuple[EpochLog, bool]:
    """Fit a phase, and give its log and whether the loss stayed finite."""
    log = EpochLog(phase.name, report)
    return log, fit_phase(learn, phase, peak_rates(rate, len(learn.opt.param_lists)), [log])


def no_dropout(model: nn.Module) -> nn.Module:
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return model


@pytest.mark.parametrize(("phase", "rate"), [("head", 3e-3), ("body", [1e-5, 2e-3]), ("body", 1e-2)])
def test_rates_and_momenta_are_those_of_fit_one_cycle(parts, phase, rate):
    made = parts(phase, phases__1__epochs=3)
    ours = quiet(build_learner(made, dataloaders(made)))
    log, _ = logged_fit(ours, made.phase, rate)
    theirs = quiet(build_learner(made, dataloaders(made)))
    theirs.fit_one_cycle(made.phase.epochs, slice(*rate) if isinstance(rate, list) else rate)
    assert [step["lr"] for step in log.steps] == [float(lr) for lr in theirs.recorder.hps["lr"]]
    assert [step["mom"] for step in log.steps] == [float(mom) for mom in theirs.recorder.hps["mom"]]
    if isinstance(rate, list):
        assert log.steps[0]["lr"] == pytest.approx(rate[1] / 25)
        assert log.steps[0]["lr_body"] == pytest.approx(rate[0] / 25)


def test_ten_steps_equal_a_hand_written_fastai_loop(tmp_path: Path, parts):
    """All techniques off: the same weights, images and order give the same losses as fastai's own pieces."""
    rng = np.random.default_rng(1)
    rows = []
    for i in range(26):
        Image.fromarray(rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)).save(tmp_path / f"{i}.png")
        rows.append((f"{i}.png", "ab"[i % 2], i >= 20))
    with (tmp_path / "t.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("image", "label", "is_val"), *rows])
    made = parts(
        "body",
        data__root=str(tmp_path),
        data__table="t.csv",
        presize=32,
        batch_size=4,
        study__baseline=[],
        study__vary=[],
    )
    ours = quiet(build_learner(made, dataloaders(made)))
    no_dropout(ours.model)
    state = {name: tensor.clone() for name, tensor in ours.model.state_dict().items()}
    log, finite = logged_fit(ours, made.phase, [1e-3, 1e-2])
    assert finite

    orders = [made.streams.generator("order", epoch).permutation(20) for epoch in range(2)]

    class Reorder(Callback):
        """Give the plain loader the order of each epoch."""

        def before_epoch(self) -> None:
            order = orders[self.epoch].tolist()
            self.learn.dls.train.get_idxs = lambda: order

        def before_batch(self) -> None:
            self.learn.xb = tuple(x.contiguous(memory_format=torch.channels_last) for x in self.learn.xb)

    import pandas as pd

    table = pd.DataFrame(rows, columns=["image", "label", "is_val"])
    block = DataBlock(
        (ImageBlock, CategoryBlock),
        get_x=ColReader("image", pref=f"{tmp_path}/"),
        get_y=ColReader("label"),
        splitter=lambda frame: (list(range(20)), list(range(20, 26))),
        item_tfms=Resize(32),
    )
    dls = block.dataloaders(table, bs=4, num_workers=0, device=torch.device("cpu"))
    theirs = vision_learner(
        dls,
        "test_efficientnet",
        pretrained=False,
        normalize=False,
        loss_func=CrossEntropyLossFlat(),
        opt_func=Adam,
    )
    no_dropout(theirs.model).to(memory_format=torch.channels_last).load_state_dict(state)
    with theirs.no_bar(), theirs.no_logging():
        theirs.fit_one_cycle(2, slice(1e-3, 1e-2), wd=0.01, cbs=Reorder())
    assert len(log.steps) == 10
    losses = _losses_of_steps(theirs)
    assert [float(step["loss"]) for step in log.steps] == pytest.approx(losses, abs=1e-5)


def _losses_of_steps(learn) -> list[float]:
    """fastai records a smoothed, debiased loss: undo both."""
    beta, average, losses = learn.recorder.smooth_loss.beta, 0.0, []
    for step, smooth in enumerate(learn.recorder.losses, 1):
        now = float(smooth) * (1 - beta**step)
        losses.append((now - beta * average) / (1 - beta))
        average = now
    return losses


def test_history_has_a_row_per_epoch_and_steps_one_per_batch(parts, tmp_path: Path):
    made = parts("body")
    messages: list[dict] = []
    learn = quiet(build_learner(made, dataloaders(made)))
    log, _ = logged_fit(learn, made.phase, 1e-3, messages.append)
    log.write(tmp_path)
    epochs = list(csv.DictReader((tmp_path / "history.csv").open()))
    assert [row["epoch"] for row in epochs] == ["0", "1"]
    assert {"phase", "train_loss", "valid_loss", "accuracy", "seconds"} <= set(epochs[0])
    assert len(list(csv.DictReader((tmp_path / "steps.csv").open()))) == 2 * len(learn.dls.train)
    assert messages[-1]["epoch"]["epoch"] == 1
    assert [m["done"] for m in messages if "done" in m] == list(range(1, len(log.steps) + 1))


def test_a_loss_that_is_not_finite_ends_training(parts):
    made = parts("body", phases__1__epochs=5)
    learn = quiet(build_learner(made, dataloaders(made)))
    log, finite = logged_fit(learn, made.phase, 1e20)
    assert not finite
    assert len(log.epochs) < 5


def test_the_finder_leaves_the_weights_as_they_were(parts, tmp_path: Path):
    made = parts("body")
    learn = quiet(build_learner(made, dataloaders(made)))
    before = {name: tensor.clone() for name, tensor in learn.model.state_dict().items()}
    rate = find_rate(learn, tmp_path)
    assert 1e-7 < rate < 10
    assert all(torch.equal(tensor, before[name]) for name, tensor in learn.model.state_dict().items())


def test_a_schedule_moves_every_groups_rate_by_epoch_and_step(parts):
    made = parts("body", phases__1__epochs=3)
    learn = quiet(build_learner(made, dataloaders(made)))
    log, peaks = EpochLog(made.phase.name, ignore), [1e-4, 1e-2]
    assert fit_phase(learn, made.phase, peaks, [log], schedule=lambda position: 1 / (1 + position))
    steps = len(learn.dls.train)
    positions = [epoch + step / steps for epoch in range(3) for step in range(steps)]
    assert [step["lr"] for step in log.steps] == pytest.approx([1e-2 / (1 + x) for x in positions], rel=1e-12)
    assert [step["lr_body"] for step in log.steps] == pytest.approx(
        [1e-4 / (1 + x) for x in positions], rel=1e-12
    )


def test_peak_rates_are_those_of_fastais_slices(parts):
    made = parts("body")
    learn = quiet(build_learner(made, dataloaders(made)))
    learn.opt.set_hyper("lr", slice(1e-5, 2e-3))
    assert [group["lr"] for group in learn.opt.hypers] == peak_rates([1e-5, 2e-3], 2)
    assert peak_rates(1e-3, 3) == [1e-3] * 3
    assert peak_rates([1e-4, 1e-2], 3) == pytest.approx([1e-4, 1e-3, 1e-2])
