"""Run jobs on this machine, each in a process of its own, forked from a server that has imported fastai once.

No trial can leak memory, CUDA state or globals into another, and starting one takes milliseconds.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from multiprocessing import forkserver
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from ablate.errors import AblateError, Damaged, StageFailed, StageStopped
from ablate.executors.base import Executor, Report, Started
from ablate.study.job import Job
from ablate.study.planning import available_cores

_SERVER_ENVIRONMENT = {
    # the imports' own warnings are not the user's business
    "PYTHONWARNINGS": "ignore",
    # OpenMP's threads spin while they wait; on a machine that does something else too, that made a training
    # step of a small network six times slower, and on an idle one it wins next to nothing
    "GOMP_SPINCOUNT": "1000",
}
_STARTS = 5
_ENDINGS = {"finished", "wrong", "damaged", "stopped", "failed"}


class LocalExecutor(Executor):
    """Processes forked from one server.

    Args:
        logs: The folder for what the processes print, one file per job.
        device: What the jobs run on.
    """

    slots = 1
    """More would share the cores or the accelerator, and be none the faster for it."""

    def __init__(self, logs: Path, device: str = "cpu"):
        self.logs, self.device = logs, device
        self._context = multiprocessing.get_context("forkserver")
        names = ("executors.preload", f"devices.{device}", "executors.preloaded")
        self._context.set_forkserver_preload([f"ablate.{name}" for name in names])
        # what is changed for a moment while a process starts belongs to all threads
        self._starting = threading.Lock()

    @property
    def threads(self) -> int:
        return available_cores()

    def warm_up(self) -> None:
        """Start the server now, so that its imports run beside what comes before the first job."""
        with self._starting, _environment(_SERVER_ENVIRONMENT), _without_main(), _short_names():
            forkserver.ensure_running()

    def start(self, job: Job, report: Report) -> Started:
        ours, theirs = self._context.Pipe()
        log = self.logs / f"{job.key}.log"
        for left in reversed(range(_STARTS)):
            process = self._context.Process(
                target=_work, args=(job, theirs, str(log)), name=job.label, daemon=False
            )
            try:
                with self._starting, _environment(_SERVER_ENVIRONMENT), _without_main(), _short_names():
                    process.start()
                break
            except (OSError, EOFError) as error:
                if not left:  # else the server has just been killed, and the next try has another
                    raise StageFailed(f"{job.label}: no process could be started ({error}).") from None
                time.sleep(0.1)
        theirs.close()
        started = _Started(job, report, process, ours, log)
        try:
            report({"started": ""})
        except BaseException:  # nobody else can end it yet
            started.kill()
            raise
        return started

    def wait(self, started: Sequence[Started], timeout: float) -> list[Started]:
        processes = [one for one in started if isinstance(one, _Started)]
        end = time.monotonic() + timeout
        while True:
            ended: list[Started] = [one for one in processes if one.follow()]
            left = end - time.monotonic()
            if ended or left <= 0:
                return ended
            wait([source for one in processes for source in (one.ours, one.process.sentinel)], timeout=left)


class _Started(Started):
    """A job's process and the connection to it."""

    def __init__(self, job: Job, report: Report, process: Any, ours: Connection, log: Path):
        super().__init__(job)
        self.report, self.process, self.ours, self.log = report, process, ours, log
        self.outcome: dict[str, Any] | None = None

    def stop(self) -> None:
        with contextlib.suppress(OSError):  # it may just have ended; how is read by `follow`
            self.ours.send("stop")

    def kill(self) -> None:
        self.process.terminate()
        _end(self.process)
        self.ours.close()

    def follow(self) -> bool:
        """Pass on what the process reports; gives whether it has said how it ended, or died."""
        try:
            while self.ours.poll():
                message = self.ours.recv()
                if message.keys() & _ENDINGS:
                    self.outcome = message
                    return True
                self.report(message)
        except (EOFError, OSError):
            return True
        return not self.process.is_alive() and not self.ours.poll()

    def result(self) -> None:
        exitcode = _end(self.process)
        self.ours.close()
        if self.outcome is None:
            raise StageFailed(f"{self.job.label}: {_killed(exitcode)}; its log is {self.log}.")
        raise_outcome(self.outcome, self.job, self.log)


def raise_outcome(outcome: dict[str, Any], job: Job, log: Path) -> None:
    """Raise what a job's process has said of its end, unless it ended well; see `Started.result`."""
    if "wrong" in outcome:
        raise AblateError(outcome["wrong"])
    if "damaged" in outcome:
        raise Damaged(Path(outcome["damaged"]))
    if "stopped" in outcome:
        raise StageStopped(outcome["stopped"])
    if "failed" in outcome:
        raise StageFailed(f"{job.label}: {outcome['failed']}; its log is {log}.")


def _end(process: Any) -> int | None:
    """Wait for a process that has nothing left to do, or end it; gives its exit code."""
    process.join(timeout=5 if process.exitcode is None else None)
    if process.is_alive():
        process.terminate()
        process.join(timeout=5)
    if process.is_alive():
        process.kill()
        process.join()
    exitcode: int | None = process.exitcode
    process.close()  # closes what the process watches too: without its server nobody else could end it
    return exitcode


def _killed(exitcode: int | None) -> str:
    if exitcode == -signal.SIGKILL:
        return "was killed, most likely because memory ran out; set micro_batch or a smaller batch_size"
    name = signal.Signals(-exitcode).name if exitcode and exitcode < 0 else f"exit code {exitcode}"
    return f"ended without an answer ({name})"


@contextlib.contextmanager
def _environment(defaults: dict[str, str]) -> Iterator[None]:
    """Set variables that the user has not set, for the processes that are started meanwhile."""
    added = {name: value for name, value in defaults.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]


@contextlib.contextmanager
def _short_names() -> Iterator[None]:
    """Tell in one sentence that the name of the server's socket, in the temporary folder, is too long."""
    try:
        yield
    except OSError as error:
        if "path too long" not in str(error):
            raise
        raise AblateError(
            f"{tempfile.gettempdir()}: is too long a name for a temporary folder; set TMPDIR to another."
        ) from None


@contextlib.contextmanager
def _without_main() -> Iterator[None]:
    """Hide the main module from the new process, which would otherwise run the user's script once more."""
    main = sys.modules["__main__"]
    hidden: dict[str, Any] = {
        name: vars(main).pop(name) for name in ("__file__", "__spec__") if name in vars(main)
    }
    try:
        main.__spec__ = None
        yield
    finally:
        vars(main).update(hidden)


def _work(job: Job, parent: Connection, log: str) -> None:
    """The body of a job's process."""
    os.environ.update(job.environment)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what Ctrl-C means
    threading.Thread(target=_die_with_parent, daemon=True).start()
    # a fork server's children would start loader workers through a server too, which pickles the data set
    multiprocessing.set_start_method("fork", force=True)
    from ablate.training.stage import is_out_of_memory, out_of_memory, run_job

    try:
        _redirect(log)
        run_job(job, _throttled(parent), parent.poll)
        message: dict[str, Any] = {"finished": True}
    except StageStopped as error:
        message = {"stopped": str(error)}
    except Damaged as error:
        message = {"damaged": str(error.folder)}
    except AblateError as error:
        _log(error)
        message = {"wrong": str(error)}
    except Exception as error:
        _log(error)
        if is_out_of_memory(error) and "phase" in job.settings:
            message = {"failed": out_of_memory(job.settings["phase"]).rstrip(".")}
        else:
            message = {
                "failed": f"{type(error).__name__}: {' '.join(str(error).split())[:300] or 'no message'}"
            }
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    with contextlib.suppress(BrokenPipeError):
        parent.send(message)
    parent.close()


def _log(error: BaseException) -> None:
    """Write an error to the log, unless the disk is full."""
    with contextlib.suppress(OSError):
        traceback.print_exception(error)


def _die_with_parent() -> None:
    """End this process when the one that wanted it has ended, even by a kill: another may take over."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


def _redirect(log: str) -> None:
    problem = None
    try:
        Path(log).parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    except OSError as error:
        problem = f"{log}: cannot be written ({error.strerror}); once it can, the same command goes on."
        descriptor = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    os.close(descriptor)
    if problem:
        raise AblateError(problem)


def _throttled(sender: Connection, every: float = 0.1) -> Report:
    """Send progress at most ten times a second, and everything else at once."""
    last = 0.0

    def report(message: dict[str, Any]) -> None:
        nonlocal last
        now = time.monotonic()
        if "done" not in message or now - last > every or message["done"] == message["total"]:
            sender.send(message)
            last = now

    return report
