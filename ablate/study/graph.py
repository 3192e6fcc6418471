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

    def needed(self, keys: Iterable[str]) -> list[str]:
        """Some stages and everything that they hang on, parents first."""
        order: dict[str, None] = {}

        def visit(key: str) -> None:
            if key not in order:
                for parent in self.stages[key].parents:
                    visit(parent)
                order[key] = None

        for key in keys:
            visit(key)
        return list(order)
