"""Do work in threads a little ahead of whoever takes the results, in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def in_order(
    pool: ThreadPoolExecutor, function: Callable[[T], R], things: Iterable[T], ahead: int
) -> Generator[R]:
    """`map` in a pool's threads that is never more than `ahead` results in front.

    So a slow taker is not buried under results, and `things` may have no end. What has not begun when the
    iterator is closed is left undone.
    """
    rest = iter(things)
    waiting: deque[Future[R]] = deque(pool.submit(function, thing) for thing in islice(rest, ahead))
    try:
        while waiting:
            result = waiting.popleft().result()
            waiting.extend(pool.submit(function, thing) for thing in islice(rest, 1))
            yield result
    finally:
        for future in waiting:
            future.cancel()
