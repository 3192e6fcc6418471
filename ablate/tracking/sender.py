"""Sends what is in a study's folder to W&B: what is new while trials train, and at the end everything.

Whatever goes wrong is raised: whoever sends the folder again goes on from what has arrived.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablate.sealed import checksum
from ablate.tracking.described import Described, TrialRun
from ablate.tracking.notes import Notes
from ablate.tracking.outputs import Outputs
from ablate.tracking.rows import Histories
from ablate.tracking.service import Problem, Service

if TYPE_CHECKING:
    from ablate.tracking.client import Client
    from ablate.tracking.runs import OpenTrial

Tell = Callable[[dict[str, Any]], None]
MOST_OPEN = 16
"""Runs that are open at once; a further trial has its run opened when another has been trained."""
_AT_ONCE = 8
"""Runs that are being ended at once: most of that is waiting for answers."""
_SETTLE = 10.0
"""Seconds in which the service has to tell that it has the rows which it has acknowledged."""


class Sender:
    """Sends a study's folder.

    Args:
        notes: The study's.
        client: Opens runs.
        place: Where they are sent to, for the notes.
        service: W&B; None offline.
        tell: Told of progress.
        weights: Whether weights go along.
    """

    def __init__(
        self, notes: Notes, client: Client, place: str, service: Service | None, tell: Tell, weights: bool
    ):
        self.folder, self.notes, self.client, self.place = client.folder, notes, client, place
        self.service, self.tell, self.weights = service, tell, weights
        self.histories = Histories(self.folder)
        self.open: dict[str, OpenTrial] = {}
        self.ending: dict[str, Future[None]] = {}
        self.seen: dict[str, Any] = {}
        self.pool = ThreadPoolExecutor(_AT_ONCE)
        self._planned = 0

    def refresh(self) -> None:
        """Read the plan and the tables, where they are others than before."""
        planned = (self.folder / "plan.json").stat().st_mtime_ns
        if planned != self._planned:  # a study that runs until it is decided gets more trials
            self._planned, self.study = planned, Described(self.folder, self.notes.id)
            self.outputs = Outputs(self.folder, self.study.plan["factors"])
        self.outputs.refresh()

    def look(self) -> None:
        """Send what is new of the trials, and end those that are finished."""
        self.refresh()
        for trial in self.study.trials:
            if trial.id in self.ending:
                continue
            if self.outputs.settled and self.outputs.status(trial.key) in ("ok", "diverged"):
                self._end(trial)
            elif self.service is not None:  # files are written once
                self._follow(trial)
        for future in self.ending.values():
            if future.done():
                future.result()
        if any(self.client.took_nonsense(id_) for id_ in list(self.open)):
            raise self._nonsense()  # before more rows follow

    def finish(self) -> None:
        """Send everything that there is, end all runs, and send the study's own."""
        self.refresh()
        self.ending[self.study.study_id] = self.pool.submit(self._send_study)
        for trial in self.study.trials:
            if trial.id not in self.ending:
                self._end(trial)
        self._progress()
        for future in as_completed(self.ending.values()):
            future.result()
            self._progress()

    def _progress(self) -> None:
        done = sum(future.done() for future in self.ending.values())
        self.tell({"sent": done, "of": len(self.ending)})

    def _follow(self, trial: TrialRun) -> None:
        """Send the rows of a trial that is still training."""
        stamp = self.histories.stamp(trial.fits)
        if self.seen.get(trial.id) == stamp:
            return
        if rows := self.histories.of(trial.fits):
            if trial.id not in self.open and not self._has_room():
                return
            self._opened(trial).send(rows)
        self.seen[trial.id] = stamp

    def _has_room(self) -> bool:
        """Whether a further run may be open; ends that of a trial that has been trained, if need be."""
        if len(self.open) < MOST_OPEN:
            return True
        for id_, opened in self.open.items():
            if self.histories.are_finished(opened.trial.fits):
                self.open.pop(id_).pause()
                return True
        return False

    def _end(self, trial: TrialRun) -> None:
        # what the tables say now: those of a study that goes on are taken away before they are written anew
        status, scores = self.outputs.status(trial.key), self.outputs.scores(trial.key)
        self.ending[trial.id] = self.pool.submit(self._whole, trial, status, scores)

    def _whole(self, trial: TrialRun, status: str, scores: dict[str, float]) -> None:
        """Send all of a trial and end its run, unless that was done before; a trial without rows has none."""
        rows = self.histories.of(trial.fits)
        state = _hash([status, len(rows), scores, self.weights])
        if self.notes.sent(self.place).get(trial.id, {}).get("state") == state:
            return
        if not rows and status == "pending":
            return
        opened = self._opened(trial)
        opened.send(rows)
        samples = {
            phase: path
            for phase, key in zip(trial.phases, trial.fits, strict=True)
            if (path := self.histories.samples(key))
        }
        predictions = self.outputs.predictions(trial.key) if status == "ok" else None
        classes = self.study.plan["classes"]
        opened.close(status, scores, samples, predictions, classes, self._weights_of(trial))
        self._verify(trial.id, opened.run, opened.next)
        self._done(trial.id, opened.run, state)
        self.open.pop(trial.id, None)

    def _opened(self, trial: TrialRun) -> OpenTrial:
        from ablate.tracking.runs import OpenTrial

        if trial.id not in self.open:
            self._mend(trial.id)
            self.open[trial.id] = OpenTrial(self.client, trial, self.study.name, self._report())
        return self.open[trial.id]

    def _report(self) -> str:
        """Where the report is: at W&B, or beside this process."""
        return (
            f"Report of the study: {self.client.url_of(self.study.study_id) or self.folder / 'report.html'}"
        )

    def _weights_of(self, trial: TrialRun) -> Path | None:
        path = self.folder / "weights" / trial.fits[-1]
        return path if self.weights and path.is_dir() else None

    def _send_study(self) -> None:
        from ablate.tracking.runs import ARTIFACT, send_study

        files = (self.folder / name for name in (*ARTIFACT, "report.html"))
        state = _hash([checksum(path.read_bytes()) if path.is_file() else "" for path in files])
        if self.notes.sent(self.place).get(self.study.study_id, {}).get("state") == state:
            return
        finished = all(self.outputs.status(trial.key) == "ok" for trial in self.study.trials)
        self._mend(self.study.study_id)
        run, rows = send_study(self.client, self.study, state, finished)
        self._verify(self.study.study_id, run, rows)
        self._done(self.study.study_id, run, state)

    def _mend(self, id_: str) -> None:
        """Have a run begin anew if rows are lacking in between: wandb can only add to the end."""
        if self.service is None or not self.client.took_nonsense(id_):
            return
        place = self.client.entity, self.client.project
        run = self.client.ids(id_)[-1]
        if self.service.unbroken(*place, run) < (self.service.lines(*place, run) or 0):
            self.client.renew(id_)
        for left in self.client.ids(id_)[:-1]:
            self.service.delete(*place, left)

    def _verify(self, id_: str, run: Any, expected: int) -> None:
        """Ask whether all rows of a run that has ended have arrived: wandb only says so in its log.

        Raises:
            Problem: They have not, or there is no answer.
        """
        if self.service is None:
            return
        count = self.service.unbroken if self.client.took_nonsense(id_) else self.service.lines
        until = time.monotonic() + _SETTLE
        while True:
            try:
                found = count(run.entity, run.project, run.id)
                if found is None or found >= expected:
                    return
                problem = Problem(
                    f"{self.service.account.url} has {found} of {expected} rows of run {run.id}"
                )
            except Problem as error:
                problem = error
            if problem.lasting or time.monotonic() > until:
                raise problem
            time.sleep(0.3)

    def _nonsense(self) -> Problem:
        assert self.service is not None
        return Problem(f"{self.service.account.url} answers nonsense to rows; they are sent again")

    def _done(self, id_: str, run: Any, state: str) -> None:
        self.client.settle(id_, run)
        self.notes.note(self.place, id_, state, "" if run.offline else run.url or "")


def _hash(value: Any) -> str:
    return checksum(json.dumps(value, sort_keys=True).encode())
