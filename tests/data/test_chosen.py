from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from fastcore.foundation import L

from ablate.data.chosen import Chosen, numbers_of
from ablate.data.items import Item, load_items
from ablate.data.sharded import ShardItems
from ablate.data.shards import Member, Shard
from ablate.recipe.data_schema import Data

NUMBERS = np.array([5, 1, 9, 7])


def sharded(count: int) -> ShardItems:
    """Items in two shards, whose places tell which they are."""
    everyone = np.arange(count)
    ids = pa.array([f"id {i}" for i in everyone], pa.large_string())
    shards = [Shard(place, "", 1) for place in "ab"]
    return ShardItems(shards, (everyone % 2).astype(np.int32), ids, everyone * 10, everyone + 1, everyone % 3)


def told(item: Item) -> tuple[object, ...]:
    assert isinstance(item.image, Member)
    return item.number, item.id, str(item.image), item.image.length, item.target, item.group


def expected(number: int) -> tuple[object, ...]:
    return number, f"id {number}", f"{'ab'[number % 2]}#{number * 10}", number + 1, number % 3, ""


def test_it_has_the_items_of_its_numbers():
    chosen = Chosen(sharded(10), NUMBERS)
    wanted = [expected(number) for number in NUMBERS]
    assert len(chosen) == 4
    assert [told(item) for item in chosen] == wanted
    assert [told(chosen[i]) for i in range(4)] == wanted
    assert [told(chosen[np.int64(i)]) for i in range(-4, 0)] == wanted
    assert [told(item) for item in chosen[1:3]] == wanted[1:3]
    assert [told(item) for item in chosen.at([3, 0])] == [wanted[3], wanted[0]]
    assert [told(item) for item in chosen[:1] + chosen[2:]] == [wanted[0], *wanted[2:]]
    with pytest.raises(IndexError):
        chosen[4]


def test_it_chooses_from_lists_too():
    digits = load_items(Data(source="digits")).items
    chosen = Chosen(digits, NUMBERS)
    assert list(chosen) == chosen.at([0, 1, 2, 3]) == [digits[number] for number in NUMBERS]


def test_many_are_gone_through_in_order():
    numbers = np.random.default_rng(0).permutation(10_000)
    assert [item.number for item in Chosen(sharded(10_000), numbers)] == numbers.tolist()


def test_fastcore_keeps_it_as_it_is():
    chosen = Chosen(sharded(10), NUMBERS)
    kept = L(chosen, use_list=None)
    assert kept.items is chosen
    assert told(kept[2]) == expected(9)
    assert [told(item) for item in kept[[0, 3]]] == [expected(5), expected(7)]
    assert isinstance(kept[1:].items, Chosen)


def test_numbers_of_all_kinds_of_items():
    items = sharded(10)
    assert numbers_of(items).tolist() == list(range(10))
    assert numbers_of(Chosen(items, NUMBERS)).tolist() == NUMBERS.tolist()
    assert numbers_of(list(Chosen(items, NUMBERS))).tolist() == NUMBERS.tolist()
