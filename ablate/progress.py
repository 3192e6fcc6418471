"""Progress for what has no display of its own: in lines, or as a bar on a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Told:
    """Tells on stderr how many of something have been looked at, every few seconds and at the end.

    Args:
        after: What takes no longer than so many seconds is not told at all.
    """

    seconds = 5.0
    """Between lines."""

    def __init__(self, after: float = 0.0) -> None:
        self.begun = self.last = time.monotonic()
        self.after = after

    def __call__(self, done: int, total: int, what: str = "new images") -> None:
        now = time.monotonic()
        if now - self.begun >= self.after and (done == total or now - self.last > self.seconds):
            self.last = now
            print(f"looked at {done} of {total} {what}", file=sys.stderr, flush=True)


@contextmanager
def counting(after: float = 2.0) -> Iterator[Callable[[int, int, str], None]]:
    """Gives what is told how many are done, how many there are, and of what: shown on stderr.

    Args:
        after: What takes no longer than so many seconds is not shown at all.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    began = last = time.monotonic()
    if not sys.stderr.isatty():

        def line(done: int, total: int, what: str) -> None:
            nonlocal last
            now = time.monotonic()
            if now - began >= after and now - last >= Told.seconds:
                last = now
                print(f"{done} of {total} {what}", file=sys.stderr, flush=True)

        yield line
        return
    columns = (
        MofNCompleteColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("", total=None, visible=False)

        def show(done: int, total: int, what: str) -> None:
            visible = time.monotonic() - began >= after
            progress.update(bar, completed=done, total=total, description=what, visible=visible)

        yield show
