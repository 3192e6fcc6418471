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
from collections.abc import Callable, Iterator
from multiprocessing import forkserver
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from ablate.errors import AblateError, Damaged, StageFailed, StageStopped
from ablate.study.job import Job

Report = Callable[[dict[str, Any]], None]
_SERVER_ENVIRONMENT = {
    # the imports' own warnings are not the user's business
    "PYTHONWARNINGS": "ignore",
    # OpenMP's threads spin while they wait; on a machine that does something else too, that made a training
    # step of a small network six times slower, and on an idle one it wins next to nothing
    "GOMP_SPINCOUNT": "1000",
}
_STARTS = 5
_ENDINGS = {"finished", "wrong", "damaged", "stopped", "failed"}
_PRELOAD = ["ablate.training.stage", "ablate.training.mixing"]


class LocalExecutor:
    """One job at a time, in processes forked from one server.

    Args:
        logs: The folder for what the processes print, one file per job.
        device: What the jobs run on.
    """

    def __init__(self, logs: Path, device: str = "cpu"):
        self.logs = logs
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload([*_PRELOAD, f"ablate.devices.{device}"])

    def warm_up(self) -> None:
        """Start the server now, so that its imports run beside what comes before the first job."""
        with _environment(_SERVER_ENVIRONMENT), _without_main(), _short_names():
            forkserver.ensure_running()

    def run(self, job: Job, report: Report, stopping: Callable[[], bool] = lambda: False) -> None:
        """Run one job to its end.

        Args:
            job: What to do.
            report: Told of its progress.
            stopping: Asked now and then whether the job should stop after its epoch.

        Raises:
            AblateError: The recipe or the data cannot work, in one sentence.
            Damaged: A stage before it is.
            StageFailed: It ended with an error or was killed; the message says where its log lies.
            StageStopped: It was asked to stop and did.
        """
        log = self.logs / f"{job.key}.log"
        process, ours = self._start(job, log)
        try:
            outcome = _follow(process, ours, report, stopping)
        except BaseException:  # a second Ctrl-C above all: what the job was doing is not wanted any more
            process.terminate()
            raise
        finally:
            exitcode = _end(process)
            ours.close()
        if outcome is None:
            raise StageFailed(f"{job.label}: {_killed(exitcode)}; its log is {log}.")
        _raise(outcome, job, log)

    def _start(self, job: Job, log: Path) -> tuple[Any, Connection]:
        """Start a job's process; gives it and the connection to it."""
        ours, theirs = self._context.Pipe()
        for left in reversed(range(_STARTS)):
            process = self._context.Process(
                target=_work, args=(job, theirs, str(log)), name=job.label, daemon=False
            )
            try:
                with _environment(_SERVER_ENVIRONMENT), _without_main(), _short_names():
                    process.start()
                break
            except (
                OSError,
                EOFError,
            ) as error:  # a server that has just been killed; the next try has another
                if not left:
                    raise StageFailed(f"{job.label}: no process could be started ({error}).") from None
                time.sleep(0.1)
        theirs.close()
        return process, ours


def _raise(outcome: dict[str, Any], job: Job, log: Path) -> None:
    if "wrong" in outcome:
        raise AblateError(outcome["wrong"])
    if "damaged" in outcome:
        raise Damaged(Path(outcome["damaged"]))
    if "stopped" in outcome:
        raise StageStopped(outcome["stopped"])
    if "failed" in outcome:
        raise StageFailed(f"{job.label}: {outcome['failed']}; its log is {log}.")


def _follow(
    process: Any, ours: Connection, report: Report, stopping: Callable[[], bool]
) -> dict[str, Any] | None:
    """Pass on what the process reports, until it says how it ended, or dies."""
    asked = False
    while True:
        wait([ours, process.sentinel], timeout=0.2)
        if stopping() and not asked:
            asked = True
            with contextlib.suppress(OSError):  # it may just have ended; how is read below
                ours.send("stop")
        try:
            while ours.poll():
                message = ours.recv()
                if message.keys() & _ENDINGS:
                    return message
                report(message)
        except (EOFError, OSError):
            return None
        if not process.is_alive() and not ours.poll():
            return None


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
