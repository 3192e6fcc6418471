"""How far a run is and how long the rest takes, from what it has done so far."""

from __future__ import annotations

import time

from ablate.study.graph import Plan, Stage


class Clock:
    """Counts the stages of a run, and estimates what is left from the work done so far; see `Stage.work`.

    Of a stage that an earlier run has begun, only the rest counts as work, as it alone takes this run's time.
    """

    def __init__(self) -> None:
        self.number, self.total = 0, 0
        self._left: dict[str, float] = {}
        self._keys: dict[str, str] = {}
        self._began = self._heard = time.monotonic()
        self._work = 0.0
        self.stage("", 0)

    def begin(self, plan: Plan, keys: list[str]) -> None:
        """These stages are going to run."""
        self.number, self.total = 0, len(keys)
        self._left = {key: plan.stages[key].work for key in keys}
        self._keys = {plan.stages[key].label: key for key in keys}
        self._began = self._heard = time.monotonic()

    def stage(self, label: str, epochs: int) -> None:
        """A stage starts."""
        self._label, self._epochs, self._key = label, epochs, self._keys.get(label, "")
        self._first, self._now = 0, 0

    def epoch(self, number: int) -> None:
        """The stage has finished an epoch; they count from 0."""
        self._first = self._first if self._now else number
        self._now = number + 1
        self._heard = time.monotonic()

    def stage_done(self, stage: Stage) -> bool:
        """A stage has ended, well or not, or need not be run any more.

        Returns:
            Whether it was this run that ran it.
        """
        ran, work = stage.label == self._label, self._left.pop(stage.key, None)
        self.number += 1
        self.total += work is None  # nobody knew of it at the beginning, as of the winner's test
        if ran:
            self._work += (work or 0.0) * self._share()
            self._heard = time.monotonic()
            self.stage("", 0)
        return ran

    def remaining(self) -> float | None:
        """Seconds; None before anything is known."""
        running = self._left.get(self._key, 0.0) if self._now else 0.0
        work = self._work + running * self._share()
        left = sum(self._left.values()) - running * self._now / max(self._epochs, 1)
        return (self._heard - self._began) / work * left if work else None

    def _share(self) -> float:
        """How much of the stage's work this run has done, if the stage ends now."""
        return (self._now - self._first) / self._epochs if self._epochs else 1.0
