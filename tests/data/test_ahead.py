"""Work done ahead in threads: its order, how far it goes, its end, its errors."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ablate.data.ahead import in_order


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(3) as made:
        yield made


@given(st.lists(st.integers(0, 3), max_size=30), st.integers(1, 7))
def test_results_come_in_the_order_of_the_things(delays: list[int], ahead: int):
    def slow(thing: tuple[int, int]) -> int:
        time.sleep(thing[1] / 5000)
        return thing[0]

    with ThreadPoolExecutor(3) as pool:
        assert list(in_order(pool, slow, enumerate(delays), ahead)) == list(range(len(delays)))


@pytest.mark.parametrize("ahead", [1, 2, 5])
def test_it_is_never_further_ahead_than_told(pool: ThreadPoolExecutor, ahead: int):
    begun = 0

    def things() -> Iterator[int]:
        nonlocal begun
        while True:
            begun += 1
            yield begun

    furthest = []
    made = in_order(pool, lambda thing: thing, things(), ahead)
    for taken in range(1, 30):
        assert next(made) == taken
        furthest.append(begun - taken)
    made.close()
    assert set(furthest) == {ahead}  # and as many as that, since there is always more


def test_things_are_worked_on_side_by_side(pool: ThreadPoolExecutor):
    together = threading.Barrier(3)
    assert len(list(in_order(pool, lambda _: together.wait(10), range(6), 3))) == 6


def test_what_has_not_begun_when_it_is_closed_is_left_undone():
    go, begun = threading.Event(), []

    def work(thing: int) -> int:
        begun.append(thing)
        if thing:
            go.wait(10)
        return thing

    with ThreadPoolExecutor(1) as pool:
        made = in_order(pool, work, range(100), 8)
        assert next(made) == 0
        made.close()
        go.set()
    assert set(begun) <= {0, 1}


def test_an_error_comes_where_its_result_would(pool: ThreadPoolExecutor):
    made = in_order(pool, lambda thing: 6 // thing, [3, 2, 0, 1], 3)
    assert [next(made), next(made)] == [2, 3]
    with pytest.raises(ZeroDivisionError):
        next(made)
    assert list(made) == []


def test_nothing_to_do(pool: ThreadPoolExecutor):
    assert list(in_order(pool, str, [], 4)) == []
