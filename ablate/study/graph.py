"""The graph of a plan: trials, the stages that they are made of, and what they share."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from ablate.analysis.contrasts import Contrast


@dataclass(frozen=True)
class FoldData:
    """The identity of one fold's data; None while images have not been looked at."""

    index: int
    train: str | None
    valid: str | None
    test: str | None = None


@dataclass(frozen=True)
class Stage:
    """One node of the plan."""

    key: str
    kind: str
    label: str
    settings: dict[str, Any]
    seed: int
    fold: int
    parents: tuple[str, ...] = ()
    weights: str | None = None

    @property
    def epochs(self) -> int:
        """Epochs of training that the stage takes."""
        return int(self.settings["phase"]["epochs"]) if self.kind == "fit" else 0

    @property
    def work(self) -> float:
        """About how much there is to do: epochs × size²; a search is one epoch, a prediction a fifth."""
        epochs = {"fit": float(self.epochs), "lr_find": 1.0, "predict": 0.2}[self.kind]
        return epochs * float(self.settings["phase"]["size"]) ** 2


@dataclass(frozen=True)
class Trial:
    """A variant × a seed × a fold, and the stages that it is made of."""

    variant: str
    seed: int
    fold: int
    levels: dict[str, str]
    fits: tuple[str, ...]
    predict: str
    test: str | None = None

    @property
    def name(self) -> str:
        """The trial's variant, seed and fold for people."""
        return f"{self.variant}, seed {self.seed}" + (f", fold {self.fold}" if self.fold else "")


@dataclass
class Plan:
    """All trials and the stages that they share."""

    trials: list[Trial] = field(default_factory=list)
    stages: dict[str, Stage] = field(default_factory=dict)
    contrasts: list[Contrast] = field(default_factory=list)
    factors: list[str] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    data_known: bool = True
    shared: bool = True

    @property
    def requested_epochs(self) -> int:
        """Epochs that the trials would take one by one."""
        return sum(self.stages[key].epochs for trial in self.trials for key in trial.fits)

    @property
    def unique_epochs(self) -> int:
        """Epochs that are trained."""
        return sum(stage.epochs for stage in self.stages.values())

    @property
    def merge_rate(self) -> float:
        """Requested ÷ unique epochs."""
        return self.requested_epochs / max(self.unique_epochs, 1)

    def in_order(self, keys: Iterable[str]) -> list[str]:
        """Stages in the order to run them: seed by seed, and the longest remaining path first.

        A stage comes after those that it hangs on, since its own path is shorter.
        """
        remaining = {key: stage.work for key, stage in self.stages.items()}
        for key in reversed(self.needed(self.stages)):
            for parent in self.stages[key].parents:
                own = self.stages[parent].work
                remaining[parent] = max(remaining[parent], own + remaining[key])
        seeds = {seed: i for i, seed in enumerate(dict.fromkeys(trial.seed for trial in self.trials))}
        return sorted(keys, key=lambda key: (seeds[self.stages[key].seed], -remaining[key]))

    def needed(self, keys: Iterable[str]) -> list[str]:
        """Some stages and everything that they hang on, parents first."""
        order: dict[str, None] = {}
        waiting = list(keys)[::-1]
        while waiting:
            key = waiting[-1]
            missing = [parent for parent in self.stages[key].parents if parent not in order]
            if missing:
                waiting += missing[::-1]
            else:
                order[waiting.pop()] = None
        return list(order)
