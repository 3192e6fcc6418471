"""Checkpoints on their way to a store's URL: one thread copies them, and training never waits for it."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path

from ablate import sealed
from ablate.errors import AblateError
from ablate.study.remote_folders import RemoteFolders
from ablate.study.store import CHECKPOINT

WORK = ".work"


class RemoteCheckpoints:
    """The last checkpoint of every unfinished stage, at a store's URL.

    Args:
        remote: The folders at the URL.
        passing: Gives the name of a new folder on the disk that the workplaces are on.
    """

    def __init__(self, remote: RemoteFolders, passing: Callable[[], Path]):
        self.remote, self.passing = remote, passing
        self._waiting: set[str] = set()
        self._there: dict[str, set[int]] = {}
        """The epochs of what is, or will be, at the URL, by stage."""
        self._failing, self._problem = False, ""

    def found(self, key: str, epochs: Iterable[int]) -> None:
        """Learn of checkpoints that are at the URL, so that they go once they are old."""
        self._there.setdefault(key, set()).update(epochs)

    def send(self, workplace: Path) -> None:
        """Copy the last checkpoint of a workplace, and remove older ones of its stage; returns at once."""
        if workplace.name not in self._waiting:
            self._waiting.add(workplace.name)
            self._there.setdefault(workplace.name, set())
            self._thread.submit(self._try, lambda: self._send(workplace))

    def remove(self, key: str) -> None:
        """Remove the checkpoints of a stage, once what is to be sent has been; returns at once."""
        if self._there.pop(key, None) is not None:
            self._thread.submit(self._try, lambda: self.remote.remove(f"{WORK}/{key}"))

    def problem(self) -> str | None:
        """What went wrong since it was last asked; told once, until copying works again."""
        problem, self._problem = self._problem, ""
        return problem or None

    @cached_property
    def _thread(self) -> ThreadPoolExecutor:
        """One, so that sending and removing keep their order; the interpreter waits for it at its end."""
        return ThreadPoolExecutor(1, "ablate-checkpoints")

    def _try(self, work: Callable[[], None]) -> None:
        try:
            work()
            self._failing = False
        except (AblateError, OSError) as error:
            if not self._failing:
                self._problem = f"a checkpoint cannot be copied, and training goes on: {error}"
            self._failing = True

    def _send(self, workplace: Path) -> None:
        key = workplace.name
        self._waiting.discard(key)  # first: what is written from now on is to be sent too
        newest, copy = max(whole_checkpoints(workplace), key=epoch_of, default=None), self.passing()
        if newest is None:
            return
        try:
            with contextlib.suppress(OSError):  # training removes it for the next one, which is sent in turn
                shutil.copytree(newest, copy, copy_function=_link)
            if not sealed.is_whole(copy):
                return
            self.remote.put(copy, f"{WORK}/{key}/{newest.name}")
        finally:
            shutil.rmtree(copy, ignore_errors=True)
        there = self._there.get(key, set())
        for epoch in there - {epoch_of(newest)}:
            self.remote.remove(f"{WORK}/{key}/{CHECKPOINT}{epoch}")
            there.discard(epoch)
        there.add(epoch_of(newest))


def whole_checkpoints(workplace: Path) -> list[Path]:
    """The checkpoints of a workplace that look as they were written."""
    return [path for path in workplace.glob(f"{CHECKPOINT}*") if sealed.is_whole(path)]


def epoch_of(checkpoint: Path) -> int:
    """The epoch, from 0, after which a checkpoint was written."""
    return int(checkpoint.name.removeprefix(CHECKPOINT))


def _link(source: str, to: str) -> None:
    try:
        os.link(source, to)
    except OSError:
        shutil.copy2(source, to)
