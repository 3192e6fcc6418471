"""What stands where in shards: each is read through once, in full, and what was found is remembered.

It is kept in `indexed` under `ABLATE_CACHE`, a file per shard, which holds while the shard's stamp does.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b
from io import BufferedReader
from pathlib import Path
from typing import Any

import pyarrow as pa

from ablate.data.ahead import in_order
from ablate.data.items import Progress
from ablate.data.remembered import cache_folder
from ablate.data.shards import Fields, Shard
from ablate.data.tars import tar_rows
from ablate.data.tfrecords import tfrecord_rows
from ablate.files import replace_file

_VERSION = "1"
"""Raised when what is remembered of a shard changes."""
_THREADS = 4
_BUFFER = 1 << 18
_ROWS = {"webdataset": tar_rows, "tfrecord": tfrecord_rows}


def tables_of(
    shards: Sequence[Shard], kind: str, fields: Fields, progress: Progress | None = None
) -> list[Any]:
    """What is in each shard; those that are new or have changed are read through, and remembered.

    Args:
        shards: The shards.
        kind: `webdataset` or `tfrecord`.
        fields: What to read of each image.
        progress: Told how many of the shards to read are done, and how many there are.

    Returns:
        Arrow tables with a row per image: id, hash (of the id), offset, length, label, and `field:<name>` for
        each other field.

    Raises:
        AblateError: A shard is damaged, out of reach, or lacks what is asked for.
    """
    tables = [_recall(shard, kind, fields) for shard in shards]
    new = [i for i, table in enumerate(tables) if table is None]
    if not new:
        return tables

    def read(i: int) -> Any:
        table = _read(shards[i], kind, fields)
        _remember(table, shards[i], kind, fields)
        return table

    with ThreadPoolExecutor(_THREADS) as pool:
        for done, (i, table) in enumerate(zip(new, in_order(pool, read, new, 2 * _THREADS), strict=True), 1):
            tables[i] = table
            if progress:
                progress(done, len(new))
    return tables


def _read(shard: Shard, kind: str, fields: Fields) -> Any:
    with shard.opened() as file:
        rows = list(_ROWS[kind](BufferedReader(file, _BUFFER), shard.place, fields))
    columns: dict[str, Any] = {
        "id": pa.array([row.id for row in rows], pa.large_string()),
        "hash": pa.array([_hash(row.id) for row in rows], pa.int64()),
        "offset": pa.array([row.offset for row in rows], pa.int64()),
        "length": pa.array([row.length for row in rows], pa.int64()),
        "label": pa.array([row.label for row in rows], pa.large_string()),
    }
    for position, name in enumerate(fields.others):
        columns[f"field:{name}"] = pa.array([row.others[position] for row in rows], pa.large_string())
    return pa.table(columns)


def _index_path(shard: Shard, kind: str, fields: Fields) -> Path:
    name = blake2b("\x1f".join([_VERSION, kind, shard.place, repr(tuple(fields))]).encode(), digest_size=16)
    return cache_folder() / "indexed" / f"{name.hexdigest()}.arrow"


def _recall(shard: Shard, kind: str, fields: Fields) -> Any:
    """What is remembered of a shard, or None if nothing is or it has changed."""
    try:
        with pa.OSFile(str(_index_path(shard, kind, fields))) as file:
            reader = pa.ipc.open_file(file)
            known = reader.schema.metadata or {}
            return reader.read_all() if known.get(b"stamp") == shard.stamp.encode() else None
    except (OSError, pa.ArrowInvalid):
        return None


def _remember(table: Any, shard: Shard, kind: str, fields: Fields) -> None:
    table = table.replace_schema_metadata({"stamp": shard.stamp})

    def write(path: Path) -> None:
        with pa.ipc.new_file(path, table.schema) as writer:
            writer.write_table(table)

    replace_file(_index_path(shard, kind, fields), write, "ABLATE_CACHE")


def _hash(id_: str) -> int:
    return int.from_bytes(blake2b(id_.encode(), digest_size=8).digest(), "little", signed=True)
