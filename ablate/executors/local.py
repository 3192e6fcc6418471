"""Run jobs on this machine, each in a process of its own, forked from a server that has imported fastai once.

No trial can leak memory, CUDA state or globals into another, and starting one takes milliseconds.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from multiprocessing import forkserver
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from ablate.errors import AblateError, StageFailed
from ablate.study.job import Job

Report = Callable[[dict[str, Any]], None]
_SERVER_ENVIRONMENT = {
    # the imports' own warnings are not the user's business
    "PYTHONWARNINGS": "ignore",
    # OpenMP's threads spin while they wait; on a machine that does something else too, that made a training
    # step of a small network six times slower, and on an idle one it wins next to nothing
    "GOMP_SPINCOUNT": "1000",
}
_PRELOAD = ["ablate.training.stage", "ablate.training.mixing"]


class LocalExecutor:
    """One job at a time, in processes forked from one server.

    Args:
        logs: The folder for what the processes print, one file per job.
    """

    def __init__(self, logs: Path):
        self.logs = logs
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(_PRELOAD)

    def warm_up(self) -> None:
        """Start the server now, so that its imports run beside what comes before the first job."""
        with _environment(_SERVER_ENVIRONMENT), _without_main():
            forkserver.ensure_running()

    def run(self, job: Job, report: Report) -> None:
        """Run one job to its end.

        Raises:
            AblateError: The recipe or the data cannot work, in one sentence.
            StageFailed: It ended with an error or was killed; the message says where its log lies.
        """
        log = self.logs / f"{job.key}.log"
        receiver, sender = self._context.Pipe(duplex=False)
        process = self._context.Process(
            target=_work, args=(job, sender, str(log)), name=job.label, daemon=False
        )
        with _environment(_SERVER_ENVIRONMENT), _without_main():
            process.start()
        sender.close()
        try:
            outcome = _follow(process, receiver, report)
        except BaseException:  # Ctrl-C above all: what the job was doing is not wanted any more
            process.terminate()
            raise
        finally:
            _end(process)
            receiver.close()
        if outcome is None:
            raise StageFailed(f"{job.label}: {_killed(process.exitcode)}; its log is {log}.")
        if "wrong" in outcome:
            raise AblateError(outcome["wrong"])
        if "failed" in outcome:
            raise StageFailed(f"{job.label}: {outcome['failed']}; its log is {log}.")


def _follow(process: Any, receiver: Connection, report: Report) -> dict[str, Any] | None:
    """Pass on what the process reports, until it says how it ended, or dies."""
    while True:
        wait([receiver, process.sentinel])
        try:
            while receiver.poll():
                message = receiver.recv()
                if message.keys() & {"finished", "wrong", "failed"}:
                    return message
                report(message)
        except (EOFError, OSError):
            return None
        if not process.is_alive() and not receiver.poll():
            return None


def _end(process: Any) -> None:
    process.join(timeout=5 if process.exitcode is None else None)
    if process.is_alive():
        process.terminate()
        process.join(timeout=5)
    if process.is_alive():
        process.kill()
        process.join()


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


def _work(job: Job, sender: Connection, log: str) -> None:
    """The body of a job's process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what Ctrl-C means
    # a fork server's children would start loader workers through a server too, which pickles the data set
    multiprocessing.set_start_method("fork", force=True)
    _redirect(log)
    from ablate.training.stage import is_out_of_memory, out_of_memory, run_job

    try:
        run_job(job, _throttled(sender))
        message: dict[str, Any] = {"finished": True}
    except AblateError as error:
        traceback.print_exc()
        message = {"wrong": str(error)}
    except Exception as error:
        traceback.print_exc()
        if is_out_of_memory(error) and "phase" in job.settings:
            message = {"failed": out_of_memory(job.settings["phase"]).rstrip(".")}
        else:
            message = {
                "failed": f"{type(error).__name__}: {' '.join(str(error).split())[:300] or 'no message'}"
            }
    sys.stdout.flush()
    sys.stderr.flush()
    with contextlib.suppress(BrokenPipeError):
        sender.send(message)
    sender.close()


def _redirect(log: str) -> None:
    Path(log).parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    os.close(descriptor)


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
