"""Room for batches that is used again: fresh memory costs a page fault for every 4 KB of every batch."""

from __future__ import annotations

import weakref
from math import prod

import numpy as np


class Buffers:
    """Hands out arrays, and takes their memory back when nothing refers to them any more.

    Safe to use from several threads: the lists it keeps are changed in single steps.

    Args:
        limit: How many bytes are kept at most for who comes next.
    """

    def __init__(self, limit: int = 1 << 29) -> None:
        self.limit = limit
        self._free: dict[int, list[memoryview]] = {}

    def __reduce__(self) -> tuple[type[Buffers], tuple[int]]:
        """A copy, such as one in a learner that is exported, begins with no memory."""
        return Buffers, (self.limit,)

    @property
    def kept(self) -> int:
        """How many bytes are waiting to be used again."""
        return sum(size * len(free) for size, free in list(self._free.items()))

    def __call__(self, shape: tuple[int, ...], dtype: np.typing.DTypeLike = np.uint8) -> np.ndarray:
        """An uninitialized array; a tensor over it keeps it in use too."""
        size = prod(shape) * np.dtype(dtype).itemsize
        free = self._free.setdefault(size, [])
        try:
            memory = free.pop()
        except IndexError:
            memory = np.empty(size, np.uint8).data
        # all views of this array, and tensors over them, refer to it; it refers to the memory
        lent = np.frombuffer(memory, np.uint8)
        weakref.finalize(lent, self._keep, memory).atexit = False
        return lent.view(dtype).reshape(shape)

    def _keep(self, memory: memoryview) -> None:
        if self.kept + memory.nbytes <= self.limit:
            self._free[memory.nbytes].append(memory)
