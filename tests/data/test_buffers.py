from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ablate.data.buffers import Buffers

KEEPERS: dict[str, Callable[[np.ndarray], Any]] = {
    "a view": lambda array: array[1:],
    "a transposed view": lambda array: array.transpose(2, 0, 1),
    "another type": lambda array: array.view(np.int8),
    "a tensor": torch.from_numpy,
    "a tensor's view": lambda array: torch.from_numpy(array).permute(2, 0, 1)[0],
    "numpy's view of a tensor": lambda array: torch.from_numpy(array)[:2].numpy(),
}


def address(array: np.ndarray) -> int:
    return array.ctypes.data


@pytest.mark.parametrize("what", KEEPERS)
def test_memory_is_used_again_when_nothing_refers_to_it(what: str):
    buffers = Buffers()
    array = buffers((4, 5, 3))
    place = address(array)
    kept = KEEPERS[what](array)
    del array
    assert address(buffers((4, 5, 3))) != place
    del kept
    assert place in {address(other) for other in [buffers((4, 5, 3)), buffers((4, 5, 3))]}


@given(st.lists(st.integers(0, 3), max_size=60))
def test_two_that_are_in_use_never_share(steps: list[int]):
    """Lend, give back the oldest, give back the newest: what was written stays as long as it is held."""
    buffers, held, count = Buffers(), [], 0
    for step in steps:
        if step < 2 or not held:
            array = buffers((7,), np.float32)
            array[:] = count
            held.append((array, count))
            count += 1
        else:
            held.pop(0 if step == 2 else -1)
        assert all((array == number).all() for array, number in held)


def test_shape_and_type():
    array = Buffers()((2, 3, 4), np.float32)
    assert array.shape == (2, 3, 4)
    assert array.dtype == np.float32
    assert array.flags.c_contiguous
    assert array.flags.writeable


def test_threads_take_and_give_at_once():
    buffers = Buffers()

    def work(number: int) -> bool:
        arrays = [buffers((1000,)) for _ in range(3)]
        for array in arrays:
            array[:] = number % 251
        return all((array == number % 251).all() for array in arrays)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(2000)))
    assert 0 < buffers.kept <= 24 * 1000  # what was in use at once, and no more


def test_no_more_is_kept_than_the_limit():
    buffers = Buffers(limit=5000)
    held = [buffers((1000,)) for _ in range(20)]
    del held
    assert buffers.kept == 5000
