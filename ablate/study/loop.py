"""Run the stages of a plan, each once, whatever fails, is interrupted or is computed by somebody else."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from ablate.errors import Damaged, StageFailed, StageLost, StageStopped
from ablate.executors.base import Started
from ablate.study.graph import Stage
from ablate.study.running import Run
from ablate.study.store import OUT
from ablate.study.study import SKIPPED

After = Callable[[Stage], None]
Beside = Callable[[], None]
_PAUSE = 0.5
"""Seconds between looks at what another process is computing."""
_WAIT = 0.2
"""Seconds between looks at whether to stop."""
_MOST_LOSSES = 5
"""How often a stage is lost without finishing an epoch before that counts as its own failure."""


def run_stages(run: Run, keys: Sequence[str], after: After, beside: Beside = lambda: None) -> None:
    """Run stages, as many at once as the executor takes, until all are finished or have failed.

    It may also be time to stop. Stages are begun in the order given, as soon as what they hang on is there.

    Args:
        run: The study.
        keys: Each after those that it hangs on.
        after: Called with each stage that is finished.
        beside: Called when everything has been begun that there is room for, to do what takes its time.
    """
    _Loop(run, after, beside).run_all(keys)


@dataclass
class _Underway:
    """A stage that is being computed, under a lock of the store.

    Args:
        stage: The stage.
        lock: Holds the lock.
        started: Its job, the last one if it was tried several times; None once that has ended.
        failures: How often it has failed.
        losses: How often it was lost since it last finished an epoch.
        stopped: Whether its job has been asked to stop.
    """

    stage: Stage
    lock: ExitStack
    started: Started | None = None
    failures: int = 0
    losses: int = 0
    stopped: bool = False


class _Loop:
    """What is underway, and what to do next; all in one thread.

    Args:
        run: The study.
        after: Called with each stage that is finished.
        beside: Called while jobs work.
    """

    def __init__(self, run: Run, after: After, beside: Beside):
        self._run, self._after, self._beside = run, after, beside
        self._underway: dict[str, _Underway] = {}

    def run_all(self, keys: Sequence[str]) -> None:
        """See `run_stages`."""
        run, waiting = self._run, False
        try:
            while True:
                decided, left = self._advance_all(keys)
                if self._underway:
                    self._work_beside()
                    self._wait()
                elif run.stopping() or not (decided or left):
                    return
                elif not decided:
                    if not waiting:
                        run.display.note("waiting for another `ablate run` that computes the same stages")
                    time.sleep(_PAUSE)
                waiting = not decided and not self._underway
        finally:  # after an error or a second Ctrl-C, what the jobs were doing is not wanted any more
            self._let_go()

    def _advance_all(self, keys: Sequence[str]) -> tuple[bool, bool]:
        """Begin what can be, while there is room; gives whether anything was decided, and is left."""
        run, decided, left = self._run, False, False
        for key in keys:
            if run.stopping():
                return decided, True
            if key in run.failed or key in self._underway or run.store.has(key):
                continue
            if len(self._underway) >= run.executor.slots:
                return decided, True
            advanced = self._advance(run.plan.stages[key])
            decided, left = decided or advanced, left or not advanced
        return decided, left

    def _advance(self, stage: Stage) -> bool:
        """Begin one stage if that is possible now; gives whether anything was decided about it."""
        run = self._run
        states = [run.store.status(parent) for parent in stage.parents]
        if "diverged" in states or run.failed.keys() & {*stage.parents}:
            run.failed[stage.key] = SKIPPED
            self._after(stage)
            return True
        return None not in states and self._begin(stage)

    def _begin(self, stage: Stage) -> bool:
        """Begin to compute a stage, unless somebody else does."""
        with ExitStack() as lock:
            if not lock.enter_context(self._run.store.lock(stage.key)):
                return False
            # another process may have been first, or this one have been killed just here
            if not self._run.store.publish(stage.key):
                underway = self._underway[stage.key] = _Underway(stage, lock.pop_all())
                self._start(underway)
                return True
        self._finished(stage)
        return True

    def _start(self, underway: _Underway) -> None:
        run, stage = self._run, underway.stage
        job = run.job(stage, run.store.workplace(stage.key) / OUT)
        underway.stopped = False

        def report(message: dict[str, Any]) -> None:
            if "epoch" in message:
                underway.losses = 0
            run.told(stage, message)

        try:
            underway.started = run.executor.start(job, report)
        except StageFailed as error:
            self._failed(underway, error)

    def _wait(self) -> None:
        """Let the jobs work until one has ended, and see to that; have them stop if it is time to."""
        started = [one.started for one in self._underway.values() if one.started]
        for ended in self._run.executor.wait(started, _WAIT):
            self._ended(self._underway[ended.job.key], ended)
        if self._run.stopping():
            for one in self._underway.values():
                if one.started and not one.stopped:
                    one.stopped = True
                    one.started.stop()

    def _ended(self, underway: _Underway, started: Started) -> None:
        """Take in what a job that has ended has to say."""
        run, stage = self._run, underway.stage
        underway.started = None
        try:
            started.result()
        except StageStopped:
            self._release(underway)
        except Damaged as error:
            self._release(underway)
            run.mend(error)
        except StageLost as error:
            underway.losses += 1
            if underway.losses == _MOST_LOSSES:
                self._failed(underway, error)
            else:
                run.display.problem(f"{error} It goes on from its last checkpoint.")
                self._start(underway)
        except StageFailed as error:
            self._failed(underway, error)
        else:
            if run.store.publish(stage.key):
                run.remember(stage)
            self._release(underway)
            self._finished(stage)

    def _failed(self, underway: _Underway, error: StageFailed) -> None:
        """Try a stage that has failed again, if the recipe says so."""
        run = self._run
        left = run.recipe.study.retries - underway.failures
        underway.failures += 1
        run.display.problem(f"{error}" + (f" Trying again ({left} left)." if left else ""))
        if left:
            self._start(underway)
        else:
            run.failed[underway.stage.key] = str(error)
            self._release(underway)
            self._after(underway.stage)

    def _finished(self, stage: Stage) -> None:
        try:
            self._run.keep_log(stage)
            self._after(stage)
        except Damaged as error:
            self._run.mend(error)

    def _work_beside(self) -> None:
        try:
            self._beside()
        except Damaged as error:
            self._run.mend(error)

    def _release(self, underway: _Underway) -> None:
        del self._underway[underway.stage.key]
        underway.lock.close()

    def _let_go(self) -> None:
        """End what is running, at once."""
        for underway in [*self._underway.values()]:
            if underway.started:
                underway.started.kill()
            self._release(underway)
