"""Progress in lines, for what has no display of its own."""

from __future__ import annotations

import sys
import time


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
