"""How far a run is and how long the rest takes, from what it has done so far."""

from __future__ import annotations

import time
from dataclasses import dataclass

from ablate.study.graph import Plan, Stage


@dataclass
class _Running:
    """A stage that is running: its epochs, the first one that this run trains, how many are finished."""

    epochs: int
    first: int = 0
    now: int = 0

    @property
    def share(self) -> float:
        """How much of the stage's work this run has done, if the stage ends now."""
        return (self.now - self.first) / self.epochs if self.epochs else 1.0


class Clock:
    """Counts the stages of a run, and estimates what is left from the work done so far; see `Stage.work`.

    Of a stage that an earlier run has begun, only the rest counts as work, as it alone takes this run's time.
    Stages that run side by side are taken to go on doing so.
    """

    def __init__(self) -> None:
        self.number, self.total = 0, 0
        self._left: dict[str, float] = {}
        self._running: dict[str, _Running] = {}
        self._began = self._heard = time.monotonic()
        self._work = 0.0

    def begin(self, plan: Plan, keys: list[str]) -> None:
        """These stages are going to run."""
        self.number, self.total = 0, len(keys)
        self._left = {key: plan.stages[key].work for key in keys}
        self._began = self._heard = time.monotonic()

    def stage(self, stage: Stage) -> None:
        """A stage starts."""
        self._running[stage.key] = _Running(stage.epochs)

    def epoch(self, stage: Stage, number: int) -> None:
        """A stage that is running has finished an epoch; they count from 0."""
        running = self._running[stage.key]
        running.first = running.first if running.now else number
        running.now = number + 1
        self._heard = time.monotonic()

    def stage_done(self, stage: Stage) -> bool:
        """A stage has ended, well or not, or need not be run any more.

        Returns:
            Whether it was this run that ran it.
        """
        ran, work = self._running.pop(stage.key, None), self._left.pop(stage.key, None)
        self.number += 1
        self.total += work is None  # nobody knew of it at the beginning, as of the winner's test
        if ran:
            self._work += (work or 0.0) * ran.share
            self._heard = time.monotonic()
        return ran is not None

    def remaining(self) -> float | None:
        """Seconds; None before anything is known."""
        work, left = self._work, sum(self._left.values())
        for key, running in self._running.items():
            if running.now:
                work += self._left.get(key, 0.0) * running.share
                left -= self._left.get(key, 0.0) * running.now / running.epochs
        return (self._heard - self._began) / work * left if work else None
