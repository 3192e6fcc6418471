"""What stands of a study: how far its trials and stages are, what is left, and what to do next.

From `plan.json` and the store alone, so that it answers at once, also on a store that can only be read and
while a run is on. A stage counts as finished by its seal; whether its files are whole is not looked at.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal

from ablate.errors import AblateError
from ablate.study.estimate import Estimator
from ablate.study.remote_store import store_at
from ablate.study.study import SKIPPED, Study

StudyState = Literal["finished", "running", "failed", "interrupted"]
TrialState = Literal["ok", "diverged", "failed", "running", "pending"]
StageState = Literal["running", "stopped", "failed", "pending", "left_out"]
_TRIAL_STATES: tuple[TrialState, ...] = ("ok", "diverged", "failed", "running", "pending")
_URGENT: tuple[StageState, ...] = ("running", "stopped", "failed", "pending", "left_out")


@dataclass(frozen=True)
class Unfinished:
    """A stage that is not finished.

    Args:
        key: The stage's key.
        label: What people call it.
        state: `running`: a live process computes it. `stopped`: it has a checkpoint. `failed`: it did in the
            last run. `pending`: nothing of it is there. `left_out`: a stage before it diverged.
        epochs: How many it takes.
        epochs_done: How many its last checkpoint has.
        waits_for: The labels of the stages just before it that are not finished either.
        reason: Why it failed or is left out.
        log: The file with what its process printed, if it failed and there is one.
    """

    key: str
    label: str
    state: StageState
    epochs: int
    epochs_done: int
    waits_for: tuple[str, ...] = ()
    reason: str | None = None
    log: str | None = None


class Status:
    """What stands of a study; its folder and its store are only read.

    Args:
        study: The study.

    Raises:
        AblateError: Its `plan.json` cannot be read, or its store was written by a newer ablate.
    """

    def __init__(self, study: Study):
        self.folder = study.folder
        try:
            content = study.plan
            self.name, self.store = str(content["name"]), store_at(content["store"])
            self.plan, self.looks = study.stored_plan(), content.get("looks")
        except (OSError, ValueError, KeyError, TypeError):
            raise AblateError(f"{self.folder / 'plan.json'}: cannot be read as a study's plan.") from None
        seals = {key: self.store.seal(key) for key in self.plan.stages}
        self._endings = {key: str(seal["status"]) for key, seal in seals.items() if seal is not None}
        self._missing = [key for key, seal in seals.items() if seal is None]
        self._checkpointed = {key: self.store.epochs_done(key) for key in self._missing}
        self._running = {key for key in self._missing if self.store.is_locked(key)}
        self._reasons = study.failures()
        self._marked = study.seems_finished
        self._written = study.is_finished((self.folder / "plan.json").read_text())

    @property
    def store_exists(self) -> bool:
        """Whether the stage store is there; without it every stage counts as still to be run."""
        return self.store.exists

    @cached_property
    def state(self) -> StudyState:
        """`failed` if all that can run has run, and some of it failed."""
        if self._running:
            return "running"
        if not self.left:
            # trials that all diverged leave nothing to write a report on
            whole = self._written or (self._marked and not self.trials["ok"])
            return "finished" if whole else "interrupted"
        stuck = self._with_later(self._failed)
        return "failed" if all(one.key in stuck for one in self.left) else "interrupted"

    @cached_property
    def trials(self) -> dict[TrialState, int]:
        """How many trials there are by state."""
        diverged, running, failed = map(self._with_later, (self._diverged, self._running, self._failed))

        def state(key: str) -> TrialState:
            if key in diverged:
                return "diverged"
            if key in self._endings:
                return "ok"
            return "running" if key in running else "failed" if key in failed else "pending"

        counts = Counter(state(trial.predict) for trial in self.plan.trials)
        return {name: counts[name] for name in _TRIAL_STATES}

    @cached_property
    def unfinished(self) -> list[Unfinished]:
        """What is under way first, then what failed, then the rest; each in the order of running."""
        keys = self.plan.in_order(key for key in self._keys if key not in self._endings)
        return sorted((self._unfinished(key) for key in keys), key=lambda one: _URGENT.index(one.state))

    @cached_property
    def left(self) -> list[Unfinished]:
        """The unfinished stages that are to run, now or with the next `ablate run`."""
        return [one for one in self.unfinished if one.state != "left_out"]

    @property
    def stages(self) -> dict[str, int]:
        """How many stages are `done`, `left` and `left_out`; and the `total`."""
        total, left = len(self._keys), len(self.left)
        done = total - len(self.unfinished)
        return {"done": done, "left": left, "left_out": total - done - left, "total": total}

    @property
    def epochs(self) -> dict[str, int]:
        """How many epochs are `done`, those in checkpoints too; and the `total`."""
        total = sum(self.plan.stages[key].epochs for key in self._keys)
        return {"done": total - sum(one.epochs - one.epochs_done for one in self.unfinished), "total": total}

    @cached_property
    def seconds_left(self) -> float | None:
        """About how long the rest takes; None if nothing like it has been measured.

        Stages like none that was measured are taken to be as fast, for their work, as the others.
        """
        estimator, seconds, measured, work = Estimator(self.store), 0.0, 0.0, 0.0
        for one in self.left:
            stage, rest = self.plan.stages[one.key], 1 - one.epochs_done / max(one.epochs, 1)
            estimate = estimator(stage)
            work += rest * stage.work
            if estimate is not None:
                seconds, measured = seconds + rest * estimate.seconds, measured + rest * stage.work
        return seconds / measured * work if measured else None

    @property
    def next(self) -> str:
        """What to do now."""
        stages = f"{len(self.left)} stage{' is' if len(self.left) == 1 else 's are'} left"
        stages += " until the next look at the results" if self.looks else ""
        run = f"`ablate run --until-decided --max-seeds {self.looks[-1]}`" if self.looks else "`ablate run`"
        if self.state == "finished":
            report = (
                f"the report is {self.folder / 'report.html'}" if self._written else "no trial ended well"
            )
            return f"Nothing is left to do; {report}"
        if self.state == "running":
            return f"It goes on by itself: {stages}."
        if self.state == "failed":
            return f"{run} tries again what failed: {stages}."
        if not self.left and self.looks:
            return f"{run} looks at the results, and goes on where they leave something open."
        if not self.left:
            return "`ablate run` writes the tables and the report; every stage is finished."
        return f"{run} goes on with it: {stages}."

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON values."""
        return {
            "name": self.name,
            "state": self.state,
            "folder": str(self.folder),
            "store": self.store.place,
            "store_exists": self.store_exists,
            "trials": {**self.trials, "total": len(self.plan.trials)},
            "stages": self.stages,
            "epochs": self.epochs,
            "seconds_left": None if self.seconds_left is None else round(self.seconds_left, 1),
            "next": self.next,
            "unfinished": [asdict(one) for one in self.unfinished],
        }

    @cached_property
    def _keys(self) -> list[str]:
        """The stages that every run goes through; and of tests, which only the winner gets, what is tried."""
        tests = {trial.test for trial in self.plan.trials}
        tried = [key for key in self._missing if key in tests and key in self._running | self._failed]
        return self.plan.needed(trial.predict for trial in self.plan.trials) + tried

    @cached_property
    def _diverged(self) -> set[str]:
        return {key for key, ending in self._endings.items() if ending == "diverged"}

    @cached_property
    def _failed(self) -> set[str]:
        """The stages that failed themselves; a run notes those too that it skipped for that."""
        return {key for key in self._missing if self._reasons.get(key, SKIPPED) != SKIPPED}

    @cached_property
    def _left_out(self) -> dict[str, str]:
        """The stages that hang on one that diverged, and which that is."""
        return {key: root for key, root in self._with_later(self._diverged).items() if key != root}

    def _with_later(self, roots: Collection[str]) -> dict[str, str]:
        """Some stages and all that hang on them, each with the one that it hangs on."""
        found = {key: key for key in roots}
        for key in self.plan.needed(self.plan.stages):
            for parent in self.plan.stages[key].parents:
                if parent in found:
                    found.setdefault(key, found[parent])
        return found

    def _unfinished(self, key: str) -> Unfinished:
        stage, log = self.plan.stages[key], self.folder / "logs" / f"{key}.log"
        state = self._state(key)
        return Unfinished(
            key,
            stage.label,
            state,
            stage.epochs,
            self._checkpointed[key],
            waits_for=tuple(self.plan.stages[one].label for one in stage.parents if one not in self._endings),
            reason=self._reason(key, state),
            log=str(log) if state == "failed" and log.is_file() else None,
        )

    def _state(self, key: str) -> StageState:
        if key in self._running:
            return "running"
        if key in self._failed:
            return "failed"
        if key in self._left_out:
            return "left_out"
        return "stopped" if self._checkpointed[key] else "pending"

    def _reason(self, key: str, state: StageState) -> str | None:
        if state == "left_out":
            return f"{self.plan.stages[self._left_out[key]].label} diverged"
        if state == "failed":  # label and log have places of their own
            text = self._reasons[key].removeprefix(f"{self.plan.stages[key].label}: ")
            return text.partition("; its log is ")[0]
        return None
