"""The processes that train one stage together: forked from the stage's own, which only watches them.

The stage's process touches no accelerator, so it can end the others whatever they wait for: where one of them
dies or raises, it ends all and tells of that one.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Protocol

import torch
from fastai.learner import Learner

from ablate.data.share import Share
from ablate.errors import AblateError
from ablate.training.best import BestEpochs
from ablate.training.checkpoint import Checkpoints
from ablate.training.fit import Report

Stopping = Callable[[], bool]
Work = Callable[[Share, Path, Report, Stopping], Any]
"""What each process does: given its share, a file that does not exist yet, to meet the others by, whom to
report to, and whether to stop."""
_LOOK = 0.2
"""Seconds between looks at whether to stop and whether all are alive."""
_GRACE = 1.0
"""Seconds after the first failure in which the others tell of theirs, which may be what follows from it."""


class Team(Protocol):
    """What a fit has to know of who trains."""

    share: Share

    def checkpoints(self, folder: Path, best: BestEpochs, stopping: Stopping, report: Report) -> Checkpoints:
        """The checkpoints of the stage."""
        ...

    def prepare(self, learn: Learner) -> None:
        """Make ready a learner that is about to be fitted."""
        ...


class Alone:
    """One process trains."""

    share = Share()

    def checkpoints(self, folder: Path, best: BestEpochs, stopping: Stopping, report: Report) -> Checkpoints:
        return Checkpoints(folder, best, stopping, report)

    def prepare(self, learn: Learner) -> None:
        """Nothing is missing."""


class RankDied(Exception):
    """A process ended without an answer; the message says which and how."""


def require_devices(device: str, count: int) -> None:
    """Raise an `AblateError` unless so many devices can train together in this process."""
    if count > 1 and find_spec("accelerate") is None:
        raise AblateError(
            f"devices: {count} devices need accelerate; run `pip install 'ablate[distributed]'`, or write "
            "devices: 1."
        )
    if device == "cuda" and torch.cuda.device_count() < count:
        raise AblateError(
            f"devices: {count} GPUs are asked for, and {torch.cuda.device_count()} can be seen here; lower "
            "devices, or check `nvidia-smi` and CUDA_VISIBLE_DEVICES."
        )


def together(work: Work, ranks: int, report: Report, stopping: Stopping) -> Any:
    """Do some work in several processes, and end them all.

    Args:
        work: What each does.
        ranks: How many.
        report: Told what the first process reports.
        stopping: Whether to stop; asked here, and passed on to the first process.

    Returns:
        What the work gives in the first process; has to pickle.

    Raises:
        RankDied: A process was killed, or ended by itself.
        Exception: What the work raised first, in any process.
    """
    with tempfile.TemporaryDirectory(prefix="ablate-ranks-") as folder:
        started: list[_Rank] = []
        try:
            for rank in range(ranks):
                started.append(_Rank(work, Share(rank, ranks), Path(folder) / "meet"))
            return _follow(started, report, stopping)
        finally:
            for one in started:
                one.end()


class _Rank:
    """One of the processes, and the connection to it."""

    def __init__(self, work: Work, share: Share, meet: Path):
        context = multiprocessing.get_context("fork")
        self.share = share
        self.ours, theirs = context.Pipe()
        self.process = context.Process(
            target=_body, args=(work, share, meet, theirs), name=f"rank {share.rank}", daemon=False
        )
        self.process.start()
        theirs.close()
        self.outcome: dict[str, Any] | None = None

    def hear(self, report: Report) -> None:
        """Take in what the process has told so far, and whether it has died."""
        gone = not self.process.is_alive()  # asked first: what it told before is still there
        with contextlib.suppress(EOFError, OSError):
            while self.outcome is None and self.ours.poll():
                message = self.ours.recv()
                if "report" in message:
                    report(message["report"])
                else:
                    self.outcome = message
        if gone and self.outcome is None:
            self.outcome = {"raised": RankDied(self._death()), "at": 0.0}  # whatever the others tell follows

    def stop(self) -> None:
        with contextlib.suppress(OSError):  # it may just have ended
            self.ours.send("stop")

    def end(self) -> None:
        self.process.join(timeout=2 if self.outcome is not None else 0)
        self.process.kill()
        self.process.join()
        self.process.close()
        self.ours.close()

    def _death(self) -> str:
        code = self.process.exitcode or 0
        how = f"was killed ({signal.Signals(-code).name})" if code < 0 else f"ended with exit code {code}"
        return f"device {self.share.rank + 1} of {self.share.ranks}: its process {how}"


def _follow(started: Sequence[_Rank], report: Report, stopping: Stopping) -> Any:
    """Pass on what is told until the first process is done, or any has failed."""
    first, asked, until = started[0], False, float("inf")
    while True:
        if not asked and stopping():
            first.stop()
            asked = True
        running = [one for one in started if one.outcome is None]
        wait([source for one in running for source in (one.ours, one.process.sentinel)], timeout=_LOOK)
        for one in running:
            one.hear(report)
        failed = [one.outcome for one in started if one.outcome and "raised" in one.outcome]
        if failed:
            until = min(until, time.monotonic() + _GRACE)
            if time.monotonic() >= until or all(one.outcome for one in started):
                raise min(failed, key=lambda outcome: outcome["at"])["raised"]
        elif first.outcome is not None:
            return first.outcome["done"]


def _body(work: Work, share: Share, meet: Path, parent: Connection) -> None:
    """The body of a process."""
    threading.Thread(target=_die_with_parent, args=(meet.parent,), daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the stage's process decides

    def report(message: dict[str, Any]) -> None:
        if share.leads:
            parent.send({"report": message})

    try:
        message: dict[str, Any] = {"done": work(share, meet, report, parent.poll)}
    except Exception as error:
        if not isinstance(error, AblateError):
            print(f"device {share.rank + 1} of {share.ranks}:", file=sys.stderr)
            traceback.print_exception(error)
        message = {"raised": _that_pickles(error), "at": time.monotonic()}
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
        parent.send(message)
    parent.close()


def _that_pickles(error: Exception) -> Exception:
    """An exception as it can be sent: itself, or its type and message."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def _die_with_parent(meeting: Path) -> None:
    """End this process when the stage's has ended, even by a kill, and leave nothing behind."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    shutil.rmtree(meeting, ignore_errors=True)
    os._exit(1)
