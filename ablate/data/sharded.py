"""Items from shards, kept in columns, since there may be millions of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, overload

import numpy as np
import pyarrow as pa

from ablate.data import copies
from ablate.data.items import Columns, Item, Items, Progress, label_order, truth
from ablate.data.shard_index import tables_of
from ablate.data.shards import Fields, Member, Shard, find_shards, matching
from ablate.errors import AblateError
from ablate.recipe.data_schema import Data, Split, TestSplit

_BLOCK = 4096


def from_shards(data: Data, progress: Progress | None = None) -> Items:
    """The items of WebDataset tars or TFRecords.

    Raises:
        AblateError: A shard is missing, damaged or out of reach, an image lacks its label or what else is
            asked for, or ids repeat.
    """
    assert data.shards
    shards = find_shards(data.root, data.shards)
    _require_room(shards, data.stream.shards if data.stream else None)
    others = (data.split.group, data.split.column, data.test.column if data.test else None)
    fields = Fields(
        data.image.column,
        data.label.column,
        data.id.column if data.id else None,
        tuple(dict.fromkeys(filter(None, others))),
    )
    items = _items(data, shards, tables_of(shards, data.kind, fields, progress))
    pa.default_memory_pool().release_unused()  # Arrow would keep as much again for later
    return items


def _items(data: Data, shards: Sequence[Shard], tables: list[Any]) -> Items:
    number = np.repeat(np.arange(len(shards), dtype=np.int32), [len(table) for table in tables])
    if not len(number):
        raise AblateError(f"data.shards: there are no images in {shards[0].place} and its like.")
    columns = _Columns(pa.concat_tables(tables))
    _check_ids(columns, number, shards)
    labels = columns["label"].dictionary_encode()
    written = labels.dictionary.to_pylist()
    classes = sorted(written, key=label_order)
    place = {label: i for i, label in enumerate(classes)}
    targets = np.array([place[label] for label in written], dtype=np.int64)
    items = ShardItems(
        shards,
        number,
        columns["id"],
        np.from_dlpack(columns["offset"]),
        np.from_dlpack(columns["length"]),
        targets[np.from_dlpack(labels.indices)],
        columns[f"field:{data.split.group}"] if data.split.group else None,
    )
    held_out = _side(data.split, "data.split", columns, number, shards)
    tested = _side(data.test, "data.test", columns, number, shards) if data.test else None
    return Items(items, classes, held_out, tested, number)


def _side(
    split: Split | TestSplit, where: str, columns: _Columns, number: np.ndarray, shards: Sequence[Shard]
) -> np.ndarray | None:
    """Who is held out by a column or by shards."""
    if split.column:
        return _booleans(columns, split.column, number, shards)
    if split.shards:
        return np.array(matching(shards, split.shards, f"{where}.shards"))[number]
    return None


class ShardItems(Columns):
    """Items that lie in shards: 28 bytes and an id each.

    Args:
        shards: The shards.
        number: Which shard each item lies in, int32 of shape (n,).
        ids: Arrow strings.
        offsets: In the shard, int64 of shape (n,).
        lengths: In bytes, likewise.
        targets: Likewise.
        names: The groups as Arrow strings, if any.
    """

    def __init__(
        self,
        shards: Sequence[Shard],
        number: np.ndarray,
        ids: Any,
        offsets: np.ndarray,
        lengths: np.ndarray,
        targets: np.ndarray,
        names: Any = None,
    ):
        self.shards, self.number, self.ids, self.names = shards, number, ids, names
        self.offsets, self.lengths, self.targets = offsets, lengths, targets
        self.groups = None if names is None else np.array(names.to_pylist())

    def __len__(self) -> int:
        return len(self.number)

    @overload
    def __getitem__(self, index: int) -> Item: ...
    @overload
    def __getitem__(self, index: slice) -> list[Item]: ...
    def __getitem__(self, index: int | slice) -> Item | list[Item]:
        numbers = range(len(self))[index]  # an IndexError past the end, from the end if negative
        if not isinstance(numbers, int):
            return [self[number] for number in numbers]
        i = numbers
        image = Member(self.shards[self.number[i]], int(self.offsets[i]), int(self.lengths[i]))
        group = "" if self.names is None else self.names[i].as_py()
        return Item(i, self.ids[i].as_py(), image, int(self.targets[i]), group)

    def __iter__(self) -> Iterator[Item]:
        for begin in range(0, len(self), _BLOCK):
            yield from self.at(np.arange(begin, min(begin + _BLOCK, len(self))))

    def at(self, numbers: np.ndarray) -> Iterator[Item]:
        columns = (self.number, self.offsets, self.lengths, self.targets)
        shard, offset, length, target = (column[numbers].tolist() for column in columns)
        ids = self.ids.take(pa.array(numbers)).to_pylist()
        names = [""] * len(ids) if self.names is None else self.names.take(pa.array(numbers)).to_pylist()
        images = map(Member, map(self.shards.__getitem__, shard), offset, length)
        return map(Item, numbers.tolist(), ids, images, target, names)


class _Columns(dict[str, Any]):
    """The columns of a table, each an Arrow array of one piece."""

    def __init__(self, table: Any):
        super().__init__({name: table[name].combine_chunks() for name in table.column_names})


def _require_room(shards: Sequence[Shard], window: int | None) -> None:
    """Refuse remote shards whose local copies would push each other out while they are needed.

    Args:
        shards: All shards.
        window: How many are read at a time, while as many more are fetched; None for all.
    """
    sizes = sorted((shard.size for shard in shards if shard.is_remote), reverse=True)
    needed = sum(sizes if window is None else sizes[: 2 * window])
    if needed and needed > (most := copies.limit()):
        less = "read a few at a time, with data.stream" if window is None else "lower data.stream.shards"
        raise AblateError(
            f"data.shards: local copies need {needed / 1e9:.1f} GB and may take {most / 1e9:.1f} GB; "
            f"{less}, or set {copies.LIMIT} or ABLATE_CACHE."
        )


def _check_ids(columns: _Columns, number: np.ndarray, shards: Sequence[Shard]) -> None:
    hashes = np.sort(np.from_dlpack(columns["hash"]))
    if not (hashes[1:] == hashes[:-1]).any():  # a second instead of several, for millions
        return
    first: dict[str, int] = {}
    for i, id_ in enumerate(columns["id"].to_pylist()):
        before = first.setdefault(id_, i)
        if before != i:
            here, there = shards[number[i]].place, shards[number[before]].place
            where = "twice in this shard" if here == there else f"in {there} too"
            raise AblateError(
                f"{here}: the image {id_!r} stands {where}; every image needs a name of its own (data.id)."
            )


def _booleans(columns: _Columns, column: str, number: np.ndarray, shards: Sequence[Shard]) -> np.ndarray:
    cells = columns[f"field:{column}"].dictionary_encode()
    values, positions = [truth(text) for text in cells.dictionary.to_pylist()], np.from_dlpack(cells.indices)
    if None in values:
        i = np.flatnonzero(positions == values.index(None))[0]
        raise AblateError(
            f"{shards[number[i]].place}: {columns['id'][i].as_py()} has {cells[i].as_py()!r} for {column!r}, "
            "which is neither true nor false."
        )
    return np.array(values, dtype=bool)[positions]
