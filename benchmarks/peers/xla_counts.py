"""What both sides of `benchmarks/xla.py` count in the same way: compilations, fallbacks, seconds, losses."""

from __future__ import annotations

import csv
import json
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fastai.callback.core import Callback
from fastai.learner import Learner

TABLE = "table.csv"
EPOCHS = 2


def rows(root: Path) -> list[dict[str, str]]:
    """The photos of a folder with `table.csv`: `image`, `label`, and `is_val`, which is True or False."""
    with (root / TABLE).open(newline="") as file:
        return list(csv.DictReader(file))


def compiled() -> tuple[int, float]:
    """How many graphs this process has compiled, and the seconds that it took."""
    found = _metrics().metric_data("CompileTime")
    return (found[0], found[1] / 1e9) if found else (0, 0.0)


def fallbacks() -> list[str]:
    """The operations that XLA handed to the CPU; fetching a number is none."""
    counted = _metrics().counter_names()
    return [name for name in counted if name.startswith("aten::") and name != "aten::_local_scalar_dense"]


def _metrics() -> Any:
    from torch_xla.debug import metrics  # not before ablate, which has a setting to make first

    return metrics


class Counts(Callback):
    """Notes losses, and the graphs compiled after each training step and each epoch; times the fit."""

    order = 300  # after everything that belongs to a step

    def before_fit(self) -> None:
        self.steps: list[int] = []
        self.epochs: list[int] = []
        self.losses: list[Any] = []
        self.began, (self.before, self.spent) = time.perf_counter(), compiled()

    def after_batch(self) -> None:
        if self.learn.training:
            self.steps.append(compiled()[0] - self.before)
            self.losses.append(self.learn.loss.detach())

    def after_epoch(self) -> None:
        self.epochs.append(compiled()[0] - self.before)


def fitted(learn: Learner, rate: float = 1e-3) -> dict[str, Any]:
    """Two epochs of fastai's one-cycle policy, and what was counted in them."""
    counts = Counts()
    learn.fit_one_cycle(EPOCHS, rate, cbs=counts)
    seconds = time.perf_counter() - counts.began
    number, spent = compiled()
    return {
        "compilations": number - counts.before,
        "compile_seconds": spent - counts.spent,
        "steps": counts.steps,
        "epochs": counts.epochs,
        "fit_seconds": seconds,
        "losses": [float(loss) for loss in counts.losses],
    }


def answer(phases: list[dict[str, Any]], began: float) -> None:
    """The one line that a side ends with.

    Args:
        phases: What `fitted` gave for each.
        began: When the side began, after its imports.
    """
    seconds = time.perf_counter() - began
    packages = ("torch", "torch_xla", "torchvision", "fastai", "timm")
    told = {"phases": phases, "seconds": seconds, "fallbacks": fallbacks()}
    print(json.dumps(told | {"versions": {name: version(name) for name in packages}}))
