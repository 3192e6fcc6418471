"""Images per second of something that goes on and on: warm up, count by windows, take their median."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

WINDOWS = 8
"""How many windows the time is meant for; slow work gets fewer."""


def _nothing() -> None:
    pass


class Stopwatch:
    """Counts images into windows of time. It can be paused.

    Args:
        seconds: After how long to stop, warm-up included; the window that is under way is completed first.
        warm: How many counts pass before it measures, but for slow work, of which one does.
        least: How many counts a window has at least, since what several threads make comes in bursts.
        wait: Waits until everything that was counted is done, for devices that compute on their own.
    """

    def __init__(self, seconds: float, warm: int = 1, least: int = 1, wait: Callable[[], None] = _nothing):
        now = time.perf_counter()
        self.half, self.until, self.window = now + seconds / 2, now + seconds, seconds / WINDOWS
        self.warm, self.least, self.wait = max(warm, 1), least, wait
        self.rates: list[float] = []
        self._reset()

    def _reset(self) -> None:
        self.images = self.counts = 0
        self.before, self.mark = 0.0, time.perf_counter()

    def pause(self) -> None:
        """What comes now does not count, until `resume`."""
        self.before = self._elapsed()

    def resume(self) -> None:
        """Go on after `pause`."""
        self.mark = time.perf_counter()

    def count(self, images: int) -> bool:
        """Some more images are done; gives whether it is time to stop."""
        now = time.perf_counter()
        if self.warm:
            self.warm = 0 if now > self.half else self.warm - 1
            if not self.warm:
                self.wait()
                self._reset()
            return False
        self.images += images
        self.counts += 1
        if self.counts < self.least or (now < self.until and self._elapsed() < self.window):
            return False
        self.wait()
        self.rates.append(self.images / max(self._elapsed(), 1e-9))
        self._reset()
        return time.perf_counter() >= self.until

    def _elapsed(self) -> float:
        return self.before + time.perf_counter() - self.mark

    @property
    def rate(self) -> float:
        """The median over the windows, in images per second."""
        return median(self.rates)
