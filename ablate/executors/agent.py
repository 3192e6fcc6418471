"""The agent that lives on each node of a Ray cluster: it owns the fork server, and runs what tasks bring."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from multiprocessing import AuthenticationError
from multiprocessing.connection import Connection, Listener
from pathlib import Path
from typing import Any

from ablate.data.packs import Presized
from ablate.errors import AblateError, Damaged, StageFailed, StageStopped
from ablate.executors.base import Needs, Report, Started
from ablate.executors.fitness import Token, check_data, check_python, check_versions, check_weights
from ablate.executors.local import LocalExecutor
from ablate.executors.task import Crew
from ablate.study.job import Job
from ablate.study.remote_store import RemoteStore
from ablate.study.store import OUT

_PAUSE = 0.1
_LONGEST_LOG = 1 << 18
Told = list[tuple[int, dict[str, Any]]]


@dataclass
class _Order:
    """What has been asked of a job, and whether it has ended."""

    stop: threading.Event = field(default_factory=threading.Event)
    kill: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)


class Agent:
    """One node's fork server and the jobs in it: an actor without resources of its own.

    Args:
        crew: What it belongs to.
        node: The node's id.
        name: The node's name, for people.
    """

    def __init__(self, crew: Crew, node: str, name: str):
        os.environ.pop("OMP_NUM_THREADS", None)  # Ray's, after the resources of this actor
        for variable, value in crew.environment.items():
            os.environ.setdefault(variable, value)
        self.crew, self.name = crew, name
        self._logs = Path(tempfile.mkdtemp(prefix="ablate-logs-"))
        self._executor = LocalExecutor(self._logs, crew.device)
        self._listener = Listener(crew.address(node), "AF_UNIX", backlog=64, authkey=crew.key)
        self._store: RemoteStore | None = None
        self._presized: dict[int, Presized] | None = None
        self._unfit: str | None = None
        self._beginning, self._listening = threading.Lock(), False
        self._told: Told = []
        self._news = threading.Condition()
        self._orders: dict[int, _Order] = {}
        self._executor.warm_up()

    def begin(self, needs: Needs | None, token: Token | None) -> str | None:
        """Make this node fit to run stages, then take jobs.

        Args:
            needs: What has to be the same here; None for no question.
            token: In the store, if that is a folder.

        Returns:
            Why it is not fit, in one sentence.
        """
        with self._beginning:
            self._unfit = self._why_unfit(needs, token)
            if not self._listening:
                self._listening = True
                threading.Thread(target=self._listen, daemon=True).start()
            return self._unfit

    def _why_unfit(self, needs: Needs | None, token: Token | None) -> str | None:
        try:
            check_python(self.crew.python)
            if needs is not None:
                self._fulfil(needs, token)
        except AblateError as error:
            return str(error)
        except Exception as error:  # a node without a reason would be waited for in vain
            return f"cannot look at the data ({type(error).__name__}: {' '.join(str(error).split())})."
        return None

    def _fulfil(self, needs: Needs, token: Token | None) -> None:
        self._store = None
        check_versions(dict(needs.versions))
        if token is not None:
            token.check()
        else:
            self._store = RemoteStore(needs.store)
            self._store.make_writable()
        self._presized = check_data(needs, lambda text: self._tell(0, {"note": f"{self.name}: {text}"}))

    def reports(self, seconds: float) -> Told:
        """What jobs have reported since the last call, by their number; waits so long for something."""
        with self._news:
            self._news.wait_for(lambda: self._told, seconds)
            told, self._told = self._told, []
        return told

    def stop(self, number: int) -> None:
        """Ask a job to stop after its epoch."""
        self._order(number).stop.set()

    def kill(self, number: int) -> None:
        """End a job, and return when it has ended; one that has not come yet will not begin."""
        order = self._order(number)
        order.kill.set()
        order.ended.wait(20)

    def close(self) -> None:
        """Let go of everything."""
        self._executor.close()
        shutil.rmtree(self._logs, ignore_errors=True)

    def _order(self, number: int) -> _Order:
        with self._news:
            if number not in self._orders:
                self._orders[number] = _Order()
                self._orders[number].ended.set()  # until it begins
            return self._orders[number]

    def _tell(self, number: int, message: dict[str, Any]) -> None:
        with self._news:
            self._told.append((number, message))
            self._news.notify_all()

    def _listen(self) -> None:
        while True:
            try:
                connection = self._listener.accept()
            except (OSError, EOFError, AuthenticationError):  # a task that was killed just now
                continue
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: Connection) -> None:
        """Run the job that a task brings, and let the task go when it has ended."""
        with connection, contextlib.suppress(OSError, EOFError):
            number, job = connection.recv()
            if self._unfit:  # the task stays where it is, so that no other is put here
                self._tell(number, {"unfit": f"{self.name}: {self._unfit}"})
                connection.poll(None)
                return
            order = self._order(number)
            order.ended.clear()
            try:
                if not order.kill.is_set():
                    self._tell(number, {"ended": self._run(number, job, order, connection)})
            finally:
                order.ended.set()
            connection.send("ended")

    def _run(self, number: int, job: Job, order: _Order, connection: Connection) -> dict[str, Any]:
        log = self._logs / f"{job.key}.log"
        try:
            check_weights(job)
            with self._here(job) as here:
                self._follow(self._executor.start(here, self._report(number, job.key)), order, connection)
                if self._store is not None and not _is_trial(job):
                    self._store.publish(job.key)
            outcome: dict[str, Any] = {}
        except StageStopped as error:
            outcome = {"stopped": str(error)}
        except Damaged as error:
            if self._store is not None:
                self._store.set_aside(error.folder.name)  # it may be this node's copy alone
            outcome = {"damaged": str(error.folder)}
        except StageFailed as error:
            outcome = {"failed": _without(str(error), job, log)}
        except AblateError as error:
            outcome = {"wrong": str(error)}
        except _Killed:
            outcome = {"lost": "was ended"}
        except Exception as error:
            outcome = {
                "lost": f"could not be run ({type(error).__name__}: {' '.join(str(error).split())[:300]})"
            }
        return {**outcome, "log": _tail(log)}

    def _report(self, number: int, key: str) -> Report:
        def report(message: dict[str, Any]) -> None:
            self._tell(number, {"started": self.name} if "started" in message else message)
            if self._store is not None and "checkpoint" in message and (problem := self._store.keep(key)):
                self._tell(number, {"note": f"{self.name}: {problem}"})

        return report

    def _follow(self, started: Started, order: _Order, connection: Connection) -> None:
        """Wait for a job's end; a task that goes away takes its job with it."""
        asked = False
        while not self._executor.wait([started], _PAUSE):
            if order.kill.is_set() or connection.poll():
                started.kill()
                raise _Killed
            if order.stop.is_set() and not asked:
                asked = True
                started.stop()
        started.result()

    @contextlib.contextmanager
    def _here(self, job: Job) -> Iterator[Job]:
        """The job with this node's own folders."""
        if self._presized is not None:
            job = replace(job, presized=self._presized)
        if _is_trial(job):
            with tempfile.TemporaryDirectory(prefix="ablate-") as folder:
                yield replace(job, folder=folder)
        elif self._store is None:
            yield job
        else:
            for key in job.parents:  # another node may have finished one since we have last asked
                self._store.has(key) or self._store.publish(key)
            parents = {key: str(self._store.folder(key)) for key in job.parents}
            folder = str(self._store.workplace(job.key) / OUT)
            yield replace(job, folder=folder, parents=parents)


class _Killed(Exception):
    """A job has been ended on demand."""


def _without(text: str, job: Job, log: Path) -> str:
    """What went wrong, without the label and the log's place, which are added where people are."""
    return text.removeprefix(f"{job.label}: ").removesuffix(f"; its log is {log}.")


def _is_trial(job: Job) -> bool:
    """Whether a job leaves nothing behind, and may run in any folder."""
    return bool(job.settings["kind"] == "preflight")


def _tail(log: Path) -> str:
    """The end of what a job has printed."""
    try:
        return log.read_bytes()[-_LONGEST_LOG:].decode(errors="replace")
    except OSError:
        return ""
