from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ablate.data.shards import Shard
from ablate.data.streaming import fetching, layout, stream_order
from ablate.errors import AblateError
from ablate.streams import Streams

layouts = st.lists(st.integers(0, 30), min_size=1, max_size=200).map(np.array)


@given(layouts, st.integers(1, 40), st.integers(0, 3), st.integers(0, 3))
def test_an_epoch_is_a_permutation_that_reads_few_shards_at_a_time(
    shard_of_item: np.ndarray, shards: int, seed: int, epoch: int
):
    order = stream_order(Streams(seed, "p"), epoch, shard_of_item, shards)
    assert sorted(order.tolist()) == list(range(len(shard_of_item)))
    read = shard_of_item[order]
    opened: list[int] = []
    for place, shard in enumerate(read.tolist()):
        if shard in opened:
            continue
        if len(opened) == shards:  # the next window begins: none of the last one comes up again
            assert not set(opened) & set(read[place:].tolist())
            opened = []
        opened.append(shard)


def test_the_order_depends_on_its_arguments_alone():
    shard_of_item = np.repeat(np.arange(10), 20)

    def order(seed: int = 0, phase: str = "p", epoch: int = 0, shards: int = 3) -> list[int]:
        np.random.seed(np.random.randint(1000))
        return stream_order(Streams(seed, phase), epoch, shard_of_item, shards).tolist()

    first = order()
    assert order() == first
    others = [order(seed=1), order(phase="q"), order(epoch=1), order(shards=4)]
    assert len({tuple(other) for other in [first, *others]}) == 5


def test_all_windows_and_all_places_within_them_are_as_likely():
    """Over many epochs every item stands at the mean place, and any two shards share a window."""
    shard_of_item = np.repeat(np.arange(6), 10)
    orders = np.array([stream_order(Streams(0, "p"), epoch, shard_of_item, 2) for epoch in range(3000)])
    places = np.argsort(orders, axis=1)
    assert np.abs(places.mean(axis=0) - 29.5).max() < 5 * 17.3 / np.sqrt(3000)
    windows = shard_of_item[orders].reshape(3000, 3, 20)
    assert all(len(set(window.tolist())) == 2 for epoch in windows[:100] for window in epoch)
    partners = {frozenset(window.tolist()) for epoch in windows for window in epoch}
    assert len(partners) == 15
    first_half = (windows[:, :, :10] == windows.min(axis=2, keepdims=True)).sum(axis=2)
    assert abs(first_half.mean() - 5) < 0.1
    assert first_half.std() > 0.5


def test_one_window_of_all_shards_mixes_everything():
    shard_of_item = np.repeat(np.arange(4), 50)
    order = stream_order(Streams(0, "p"), 0, shard_of_item, 4)
    changes = (np.diff(shard_of_item[order]) != 0).mean()
    assert 0.6 < changes < 0.9


def test_the_layout_is_about_who_stands_with_whom():
    base = layout(np.array([0, 0, 1, 2]))
    assert layout(np.array([3, 3, 5, 9])) == base  # what stands before does not matter
    assert layout(np.array([0, 1, 1, 2])) != base
    assert layout(np.array([0, 0, 1, 1])) != base


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The shards that have been asked for, in turn."""
    places: list[str] = []

    def path(shard: Shard) -> Path:
        if shard.place == "gone":
            raise AblateError("gone: is gone.")
        places.append(shard.place)
        return Path(shard.place)

    monkeypatch.setattr(Shard, "path", path)
    return places


def test_shards_are_fetched_one_window_ahead(fetched: list[str]):
    shards = [Shard(str(i), "", 1) for i in range(12)]
    shard_of_item = np.repeat(np.arange(12), 5)
    order = stream_order(Streams(0, "p"), 0, shard_of_item, 3)
    seen: list[int] = []
    for position in fetching(order, shard_of_item, shards, 3):
        seen.append(position)
        needed = [str(shard) for shard in dict.fromkeys(shard_of_item[seen].tolist())]
        assert set(needed) <= set(fetched)
        assert len(fetched) <= len(needed) + 3
    assert seen == order.tolist()
    assert sorted(fetched, key=int) == [str(i) for i in range(12)]


def test_an_order_that_is_left_stops_fetching(fetched: list[str]):
    shards = [Shard(str(i), "", 1) for i in range(12)]
    positions = fetching(range(12), np.arange(12), shards, 2)
    next(positions)
    positions.close()  # type: ignore[attr-defined]
    assert len(fetched) <= 3
    assert threading.active_count() == 1 or not any("ThreadPool" in t.name for t in threading.enumerate())


def test_a_shard_that_cannot_be_fetched_is_told_when_it_is_needed(fetched: list[str]):
    shards = [Shard("0", "", 1), Shard("1", "", 1), Shard("gone", "", 1)]
    positions = fetching([0, 1, 2, 3, 4], np.array([0, 0, 1, 1, 2]), shards, 3)
    assert [next(positions) for _ in range(4)] == [0, 1, 2, 3]
    with pytest.raises(AblateError, match="gone: is gone"):
        next(positions)
