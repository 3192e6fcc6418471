"""A study while it runs: what its stages need, what they report, what has gone wrong so far."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ablate.errors import AblateError, Damaged, StageFailed
from ablate.executors.base import Executor, Needs
from ablate.recipe.recipe import Recipe
from ablate.study.display import Display
from ablate.study.estimate import remember
from ablate.study.graph import Plan, Stage
from ablate.study.job import Job
from ablate.study.local_log import LocalLog
from ablate.study.plan import stage_key
from ablate.study.prepare import Prepared, presizes_of
from ablate.study.store import Store
from ablate.study.stored import folder_bytes
from ablate.tracking.tracker import Tracker

_OF_ONE = ("seed", "parent", "data", "lr_from", "salt", "trial")
"""The settings in which fit stages differ that are alike for a preflight."""


@dataclass
class Run:
    """Where the things of a study are that is running, and what went wrong so far."""

    recipe: Recipe
    plan: Plan
    prepared: Prepared
    store: Store
    executor: Executor
    display: Display
    log: LocalLog
    tracker: Tracker
    threads: int
    workers: int
    quick: bool
    looks: tuple[int, ...] | None = None
    begun: bool = False
    failed: dict[str, str] = field(default_factory=dict)
    mended: set[str] = field(default_factory=set)
    notes: set[str] = field(default_factory=set)
    stopping: Callable[[], bool] = lambda: False

    def told(self, stage: Stage, message: dict[str, Any]) -> None:
        """Show and keep what a stage reports; what several stages note is said once."""
        if "started" in message:
            self.display.stage(stage)
        elif "note" in message:
            if message["note"] not in self.notes:
                self.notes.add(message["note"])
                self.display.note(message["note"])
        elif "checkpoint" in message:
            if problem := self.store.keep(stage.key):
                self.display.note(problem)
        else:
            if "epoch" in message:
                self.log.append(stage.key, message)
            self.display.report(stage, message)

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
            device=self.executor.device,
            threads=self.threads,
            workers=self.workers,
            presized=self.prepared.presized,
            technique_files=self.recipe.technique_sources,
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

    def keep_log(self, stage: Stage) -> None:
        """Have the history of a stage, if it is finished, in the study's own log."""
        if stage.kind == "fit" and self.store.has(stage.key):
            self.log.complete(stage.key, self.store.folder(stage.key))

    def keep_logs(self) -> None:
        """Have the history of every finished stage of the plan in the study's own log."""
        for stage in self.plan.stages.values():
            self.keep_log(stage)

    def remember(self, stage: Stage) -> None:
        """Remember what a finished stage took, for the estimates of later plans."""
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

    def require(self, missing: Sequence[str]) -> None:
        """Have every place where stages are to run be fit for it.

        Raises:
            AblateError: One of them is not.
        """
        if missing:
            self.executor.require(
                Needs(
                    recipe=self.recipe.to_dict(),
                    quick=self.quick,
                    presizes=tuple((one.shorter, one.quality) for one in presizes_of(self.recipe)),
                    identities=tuple(self.prepared.identities),
                    versions=self.plan.versions,
                    store=str(self.store.place),
                )
            )

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
        shown = replace(whole, label="preflight: one batch of every phase")
        with TemporaryDirectory(prefix="ablate-") as folder:
            try:
                self.executor.run(self.job(whole, Path(folder)), partial(self.told, shown))
            except StageFailed as error:
                raise AblateError(str(error)) from None
