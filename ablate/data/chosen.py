"""Some of a study's items, such as one side of a split, without a Python object for each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, overload

import numpy as np

from ablate.data.items import Columns, Item

_BLOCK = 4096


class Chosen(Sequence[Item]):
    """Items by number, made when they are asked for. fastai keeps it as it is, as it does an array.

    Args:
        items: All items.
        numbers: Which of them, in order, int64 of shape (n,).
    """

    def __init__(self, items: Sequence[Item], numbers: np.ndarray):
        self.items, self.numbers = items, numbers

    def __len__(self) -> int:
        return len(self.numbers)

    @overload
    def __getitem__(self, index: int) -> Item: ...
    @overload
    def __getitem__(self, index: slice) -> Chosen: ...
    def __getitem__(self, index: int | slice) -> Item | Chosen:
        if isinstance(index, slice):
            return Chosen(self.items, self.numbers[index])
        return self.items[int(self.numbers[index])]

    def __iter__(self) -> Iterator[Item]:
        for begin in range(0, len(self), _BLOCK):
            yield from self.at(slice(begin, begin + _BLOCK))

    def at(self, positions: list[int] | slice) -> list[Item]:
        """Several of them, for less than one by one."""
        numbers = self.numbers[positions]
        if isinstance(self.items, Columns):
            return list(self.items.at(numbers))
        return [self.items[number] for number in numbers.tolist()]

    def __add__(self, other: Chosen) -> Chosen:
        return Chosen(self.items, np.concatenate([self.numbers, other.numbers]))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """The items as an array of objects: what has this, fastcore's `L` does not turn into a list."""
        return np.fromiter(self, object, len(self))


def numbers_of(items: Sequence[Item]) -> np.ndarray:
    """The numbers of some items, int64 of shape (n,)."""
    if isinstance(items, Chosen):
        return items.numbers
    if isinstance(items, Columns):
        return np.arange(len(items))
    return np.array([item.number for item in items], dtype=np.int64)
