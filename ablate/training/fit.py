"""Train one phase with fastai's one-cycle policy, and write down every step and epoch."""

from __future__ import annotations

import csv
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fastai.callback import schedule  # noqa: F401  gives Learner its fit_one_cycle and lr_find
from fastai.callback.core import Callback
from fastai.learner import Learner

from ablate.recipe.schema import Phase
from ablate.training.callbacks import StopWhenDiverged

Report = Callable[[dict[str, Any]], None]
HISTORY, STEPS = "history.csv", "steps.csv"


class EpochLog(Callback):
    """Collect a row per epoch and a row per training step, and report progress.

    Args:
        phase: The phase's name.
        report: Told `{"done": …, "total": …}` after batches and `{"epoch": row}` after epochs.
    """

    order = 70  # after the recorder

    def __init__(self, phase: str, report: Report):
        self.phase, self.report = phase, report
        self.epochs: list[dict[str, Any]] = []
        self.steps: list[dict[str, Any]] = []

    def before_fit(self) -> None:
        self.total = self.learn.n_epoch * len(self.learn.dls.train)

    def before_epoch(self) -> None:
        self.began = time.perf_counter()

    def after_batch(self) -> None:
        if self.learn.training:
            groups = self.learn.opt.hypers
            self.steps.append(
                {
                    "epoch": int(self.learn.epoch),
                    "step": len(self.steps),
                    "loss": self.learn.loss.detach().clone(),
                    "lr": float(groups[-1]["lr"]),
                    "lr_body": float(groups[0]["lr"]),
                    "mom": float(groups[-1]["mom"]) if "mom" in groups[-1] else "",
                }
            )
            self.report({"done": len(self.steps), "total": self.total})

    def after_epoch(self) -> None:
        names = [str(name) for name in self.learn.recorder.metric_names[1:-1]]
        values = [float(value) for value in self.learn.recorder.values[-1]]
        row = {"phase": self.phase, "epoch": int(self.learn.epoch), **dict(zip(names, values, strict=True))}
        row["seconds"] = round(time.perf_counter() - self.began, 3)
        self.epochs.append(row)
        self.report({"epoch": row})

    def write(self, folder: Path) -> None:
        """Write `history.csv` and `steps.csv`."""
        for step in self.steps:
            step["loss"] = float(step["loss"])
        for name, rows in ((HISTORY, self.epochs), (STEPS, self.steps)):
            with (folder / name).open("w", newline="") as file:
                writer = csv.DictWriter(file, list(rows[0]) if rows else ["epoch"], restval="")
                writer.writeheader()
                writer.writerows(rows)


def fit_phase(
    learn: Learner, phase: Phase, rate: float | list[float], report: Report
) -> tuple[EpochLog, bool]:
    """Run a phase's epochs on a learner that stands where the phase before left it.

    Args:
        learn: Frozen or not as the phase says, with weights and optimizer state loaded.
        phase: The phase.
        rate: The highest learning rate, or the lowest and highest over the layers.
        report: See `EpochLog`.

    Returns:
        What was logged, and whether the loss stayed finite.
    """
    log, guard = EpochLog(phase.name, report), StopWhenDiverged()
    lr = slice(*rate) if isinstance(rate, list) else rate
    learn.fit_one_cycle(phase.epochs, lr_max=lr, wd=phase.weight_decay, cbs=[log, guard])
    return log, not guard.diverged


def find_rate(learn: Learner, folder: Path) -> float:
    """fastai's learning rate finder and its valley rule, on the learner as it stands.

    Args:
        learn: As for `fit_phase`; its weights are the same afterwards.
        folder: Where the finder keeps the weights meanwhile.
    """
    learn.path = folder
    return float(learn.lr_find(show_plot=False).valley)
