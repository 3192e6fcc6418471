"""Train one phase with fastai's one-cycle policy, and write down every step and epoch."""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fastai.callback.core import Callback, CancelEpochException
from fastai.callback.schedule import ParamScheduler  # its module gives Learner fit_one_cycle
from fastai.learner import Learner
from fastai.torch_core import set_seed
from fastcore.foundation import even_mults

from ablate.recipe.schema import Phase
from ablate.streams import Streams
from ablate.techniques.base import Schedule
from ablate.training.callbacks import StopWhenDiverged

Report = Callable[[dict[str, Any]], None]
"""Told what a stage has done: `{"done": …, "total": …}`, `{"epoch": row, "steps": columns}`,
`{"checkpoint": epoch}` when that is kept, or `{"note": sentence}`."""
HISTORY, STEPS = "history.csv", "steps.csv"
COLUMNS = ("epoch", "step", "loss", "lr", "lr_body", "mom")


class SeedEpochs(Callback):
    """Seed the global generators when an epoch begins, for callbacks from elsewhere that draw from them.

    What is drawn in an epoch so depends on its number, and not on the process that it runs in. Within an
    epoch, the loaders and `KeyedTraining` seed for each batch.
    """

    order = -100

    def __init__(self, streams: Streams):
        self.streams = streams

    def before_fit(self) -> None:
        set_seed(self.streams.integer("fit"))

    def before_epoch(self) -> None:
        set_seed(self.streams.integer("epoch", int(self.learn.epoch)))


class EpochLog(Callback):
    """Collect a row per epoch and a row per training step, and report progress.

    Args:
        phase: The phase's name.
        report: Told `{"done": …, "total": …}` after batches and, after epochs, `{"epoch": row, "steps":
            columns}` with the values of each of the epoch's steps, numbered from the phase's first.
    """

    order = 55  # after the recorder, before what may end the fit

    def __init__(self, phase: str, report: Report):
        self.phase, self.report = phase, report
        self.epochs: list[dict[str, Any]] = []
        self.earlier = 0.0
        """Seconds that epochs before an interruption took."""
        self.steps: list[dict[str, Any]] = []

    def before_fit(self) -> None:
        self.total = self.learn.n_epoch * len(self.learn.dls.train)

    def before_epoch(self) -> None:
        self.began, self.first = time.perf_counter(), len(self.steps)

    def after_batch(self) -> None:
        if self.learn.training:
            first, last = self.learn.opt.hypers[0], self.learn.opt.hypers[-1]
            values = (
                int(self.learn.epoch),
                len(self.steps),
                self.learn.loss.detach(),
                *(float(rate) for rate in (last["lr"], first["lr"], last.get("mom", math.nan))),
            )
            self.steps.append(dict(zip(COLUMNS, values, strict=True)))
            self.report({"done": len(self.steps), "total": self.total})

    def after_train(self) -> None:
        losses = self.learn.recorder.losses
        losses[self.first :] = [loss.cpu() for loss in losses[self.first :]]  # waits for the device, once
        for step in self.steps[self.first :]:
            step["loss"] = float(step["loss"])

    def after_epoch(self) -> None:
        names = [str(name) for name in self.learn.recorder.metric_names[1:-1]]
        values = [float(value) for value in self.learn.recorder.values[-1]]
        row = {"phase": self.phase, "epoch": int(self.learn.epoch), **dict(zip(names, values, strict=True))}
        row["seconds"] = round(time.perf_counter() - self.began, 3)
        self.epochs.append(row)
        steps = self.steps[self.first :]
        self.report({"epoch": row, "steps": {name: [step[name] for step in steps] for name in COLUMNS[1:]}})

    def state_dict(self) -> dict[str, Any]:
        rows = [[float(step[name]) for name in COLUMNS] for step in self.steps]
        return {"epochs": self.epochs, "steps": torch.tensor(rows, dtype=torch.float64)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.epochs = state["epochs"]
        self.earlier = sum(row["seconds"] for row in self.epochs)
        rows = (dict(zip(COLUMNS, row, strict=True)) for row in state["steps"].tolist())
        self.steps = [row | {"epoch": int(row["epoch"]), "step": int(row["step"])} for row in rows]

    def write(self, folder: Path) -> None:
        """Write `history.csv` and `steps.csv`."""
        _write_rows(folder / HISTORY, list(self.epochs[0]) if self.epochs else ["epoch"], self.epochs)
        _write_rows(folder / STEPS, COLUMNS, self.steps)


def _write_rows(path: Path, columns: Sequence[str], rows: list[dict[str, Any]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)


class Scheduled(ParamScheduler):
    """Set the rates by the position in the phase, which fastai only knows as a sum of small shares.

    Args:
        peaks: The highest rate of each parameter group.
        schedule: From the position in epochs to the share of the highest rate.
    """

    def __init__(self, peaks: Sequence[float], schedule: Schedule):
        super().__init__({"lr": lambda position: np.array(peaks) * schedule(position)})

    def before_batch(self) -> None:
        self._update_val(int(self.learn.epoch) + int(self.learn.iter) / int(self.learn.n_iter))


def peak_rates(rate: float | list[float], groups: int) -> list[float]:
    """The highest rate of each parameter group: one for all, or in even factors from lowest to highest."""
    if isinstance(rate, list):
        return [float(one) for one in even_mults(*rate, groups)]
    return [rate] * groups


def fit_phase(
    learn: Learner,
    phase: Phase,
    rates: Sequence[float],
    callbacks: Sequence[Callback],
    start: int = 0,
    schedule: Schedule | None = None,
) -> bool:
    """Run a phase's epochs on a learner that stands where the phase before left it.

    Args:
        learn: Frozen or not as the phase says, with weights and optimizer state loaded.
        phase: The phase.
        rates: The highest learning rate of each parameter group.
        callbacks: Take part beside the learner's own.
        start: The first epoch to run; a callback restores what those before have left.
        schedule: How the rates move, as shares of the highest; None for fastai's one-cycle policy.

    Returns:
        Whether the loss stayed finite.
    """
    guard = StopWhenDiverged()
    # fastai's own way to start later, start_epoch, fires after_epoch for every epoch that it leaves out
    learn._do_fit = partial(_run_epochs, learn, start)
    try:
        if schedule is None:
            learn.fit_one_cycle(
                phase.epochs, lr_max=np.array(rates), wd=phase.weight_decay, cbs=[*callbacks, guard]
            )
        else:
            own = [Scheduled(rates, schedule), *callbacks, guard]
            learn.fit(phase.epochs, lr=np.array(rates), wd=phase.weight_decay, cbs=own)
    finally:
        del learn._do_fit
    return not guard.diverged


def _run_epochs(learn: Learner, start: int) -> None:
    """fastai's loop over epochs, from one that need not be the first."""
    for epoch in range(start, learn.n_epoch):
        learn.epoch = epoch
        learn._with_events(learn._do_epoch, "epoch", CancelEpochException)


def find_rate(learn: Learner, folder: Path) -> float:
    """fastai's learning rate finder and its valley rule, on the learner as it stands.

    Args:
        learn: As for `fit_phase`; its weights are the same afterwards.
        folder: Where the finder keeps the weights meanwhile.
    """
    learn.path = folder
    return float(learn.lr_find(show_plot=False).valley)
