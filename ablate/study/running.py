"""Run the stages of a plan, each once, whatever fails, is interrupted or is computed by somebody else."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from ablate.errors import AblateError, Damaged, StageFailed, StageStopped
from ablate.executors.local import LocalExecutor
from ablate.recipe.recipe import Recipe
from ablate.study.display import Display
from ablate.study.estimate import remember
from ablate.study.graph import Plan, Stage
from ablate.study.job import Job
from ablate.study.plan import stage_key
from ablate.study.prepare import Prepared
from ablate.study.store import OUT, Store
from ablate.study.stored import folder_bytes
from ablate.study.study import SKIPPED

Outcome = Literal["done", "failed", "busy"]
_PAUSE = 0.5
"""Seconds between looks at what another process is computing."""
_OF_ONE = ("seed", "parent", "data", "lr_from", "salt", "trial")
"""The settings in which fit stages differ that are alike for a preflight."""


@dataclass
class Run:
    """A study while it runs: where things are, and what went wrong so far."""

    recipe: Recipe
    plan: Plan
    prepared: Prepared
    store: Store
    executor: LocalExecutor
    display: Display
    device: str
    threads: int
    workers: int
    quick: bool
    looks: tuple[int, ...] | None = None
    begun: bool = False
    failed: dict[str, str] = field(default_factory=dict)
    mended: set[str] = field(default_factory=set)
    notes: set[str] = field(default_factory=set)
    stopping: Callable[[], bool] = lambda: False

    def told(self, message: dict[str, Any]) -> None:
        """Show what a stage reports; what several stages say is said once."""
        note = message.get("note")
        if note is None:
            self.display.report(message)
        elif note not in self.notes:
            self.notes.add(note)
            self.display.note(note)

    @property
    def keys(self) -> list[str]:
        """The stages that the plan's trials take, in the order to run them."""
        return self.plan.in_order(self.plan.needed(trial.predict for trial in self.plan.trials))

    def job(self, stage: Stage, folder: Path) -> Job:
        """What a process needs to run one stage."""
        mean, std = self.prepared.pixels[stage.fold]
        return Job(
            key=stage.key,
            label=stage.label,
            settings=stage.settings,
            folder=str(folder),
            data=self.recipe.data.model_dump(mode="json"),
            fold=stage.fold,
            quick=self.quick,
            weights=stage.weights,
            parents={parent: str(self.store.folder(parent)) for parent in stage.parents},
            device=self.device,
            threads=self.threads,
            workers=self.workers,
            presized=self.prepared.presized,
            skipped=self.prepared.without(stage.fold),
            pixel_mean=mean,
            pixel_std=std,
        )

    def missing(self, keys: Sequence[str]) -> list[str]:
        """The stages that are not there and can be: nothing that they hang on has diverged."""
        found, left_out = [], set()
        for key in keys:
            parents = self.plan.stages[key].parents
            if any(parent in left_out or self.store.status(parent) == "diverged" for parent in parents):
                left_out.add(key)
            elif not self.store.has(key):
                found.append(key)
        return found

    def run_stages(self, keys: Sequence[str], after: Callable[[Stage], None]) -> None:
        """Run stages in the order given, until all are finished or have failed, or it is time to stop.

        Args:
            keys: Each after those that it hangs on.
            after: Called with each stage that is finished.
        """
        waiting = False
        while not self.stopping():
            todo = [key for key in keys if key not in self.failed and not self.store.has(key)]
            if not todo:
                return
            decided = 0
            for key in todo:
                decided += self._advance(self.plan.stages[key], after)
            if not decided:
                if not waiting:
                    self.display.note("waiting for another `ablate run` that computes the same stages")
                time.sleep(_PAUSE)
            waiting = not decided

    def _advance(self, stage: Stage, after: Callable[[Stage], None]) -> bool:
        """Run one stage if that is possible now; gives whether anything was decided about it."""
        if self.stopping():
            return True
        states = [self.store.status(parent) for parent in stage.parents]
        if "diverged" in states or self.failed.keys() & {*stage.parents}:
            self.failed[stage.key] = SKIPPED
            after(stage)
            return True
        if None in states:
            return False
        try:
            outcome = self._compute(stage)
            if outcome != "busy":
                after(stage)
        except Damaged as error:
            self.mend(error)
            return True
        except StageStopped:
            return True
        return outcome != "busy"

    def _compute(self, stage: Stage) -> Outcome:
        with self.store.lock(stage.key) as ours:
            if not ours:
                return "busy"
            if self.store.publish(stage.key):  # another process was first, or this one was killed just here
                return "done"
            self.display.stage(stage.label, stage.epochs)
            for attempt in range(1 + self.recipe.study.retries):
                try:
                    folder = self.store.workplace(stage.key) / OUT
                    self.executor.run(self.job(stage, folder), self.told, self.stopping)
                    if self.store.publish(stage.key):
                        self._remember(stage)
                    self.failed.pop(stage.key, None)
                    return "done"
                except StageFailed as error:
                    self.failed[stage.key] = str(error)
                    left = self.recipe.study.retries - attempt
                    self.display.problem(f"{error}" + (f" Trying again ({left} left)." if left else ""))
            return "failed"

    def _remember(self, stage: Stage) -> None:
        result = self.store.result(stage.key)
        if result["status"] == "ok":
            size = folder_bytes(self.store.folder(stage.key))
            remember(self.store, stage.settings, result["seconds"], size)

    def set_damaged_aside(self) -> None:
        """Have every stage of the plan that is not whole any more computed again."""
        for key in self.plan.stages:
            if self.store.is_damaged(key):
                self.mend(Damaged(self.store.folder(key)))

    def mend(self, found: Damaged) -> None:
        """Have a damaged stage computed again.

        Raises:
            Damaged: It has been found before, and nothing is wrong with it.
        """
        key = found.folder.name
        if self.store.set_aside(key):
            self.display.problem(f"{found.folder}: is damaged; it is set aside and computed again.")
        elif key in self.mended:  # by another process the first time, but not for ever
            raise found
        self.mended.add(key)

    def preflight(self, missing: Sequence[str]) -> None:
        """Run one batch of every distinct phase that is to be trained, before the first hour is spent.

        Args:
            missing: The stages that are to run.

        Raises:
            AblateError: One of them cannot.
        """
        distinct: dict[str, Stage] = {}
        for stage in (self.plan.stages[key] for key in missing):
            if stage.kind == "fit":
                own = {name: value for name, value in stage.settings.items() if name not in _OF_ONE}
                distinct.setdefault(stage_key(own), stage)
        if not distinct:
            return
        first = next(iter(distinct.values()))
        settings = {
            "kind": "preflight",
            "stages": [stage.settings for stage in distinct.values()],
            "deterministic": self.recipe.deterministic,
        }
        whole = Stage("preflight", "preflight", "preflight", settings, 0, first.fold, (), first.weights)
        self.display.stage("preflight: one batch of every phase", 0)
        with TemporaryDirectory(prefix="ablate-") as folder:
            try:
                self.executor.run(self.job(whole, Path(folder)), self.told)
            except StageFailed as error:
                raise AblateError(str(error)) from None
