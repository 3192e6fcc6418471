"""What was seen of images, remembered for all projects of a machine: `images.sqlite` under `ABLATE_CACHE`.

What an image is stands by its place, what it looks like by its content.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from platformdirs import user_cache_path

from ablate.data.looks import Seen
from ablate.data.shards import Member, local_stamp
from ablate.errors import AblateError

_TABLES = {
    "seen3": "path TEXT PRIMARY KEY, stamp TEXT, hash TEXT, width INT, height INT, mean TEXT, square TEXT, "
    "error TEXT",
    "likeness1": "hash TEXT PRIMARY KEY, phash BLOB",
}


def cache_folder() -> Path:
    """`ABLATE_CACHE`, or a folder under the user's cache."""
    given = os.environ.get("ABLATE_CACHE")
    return Path(given) if given else user_cache_path("ablate")


def key_of(image: Path | Member) -> str:
    """What an image is known by, whatever study it is part of."""
    return str(image) if isinstance(image, Member) else os.path.abspath(image)


def stamp_of(image: Path | Member | np.ndarray) -> str:
    """What changes when a file does; of one in a shard, when the shard does."""
    if isinstance(image, Member):
        return image.shard.stamp
    if isinstance(image, np.ndarray):
        return ""
    try:
        return local_stamp(image.stat())
    except OSError:
        return "missing"


@contextmanager
def _database(table: str) -> Iterator[sqlite3.Connection]:
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(folder / "images.sqlite", timeout=60)) as connection, connection:
            connection.execute(f"CREATE TABLE IF NOT EXISTS {table} ({_TABLES[table]})")
            yield connection
    except (OSError, sqlite3.Error) as error:
        raise AblateError(
            f"{folder}: cannot be written ({error}); set ABLATE_CACHE to a folder that can."
        ) from None


class Kept(NamedTuple):
    """What is kept of one image: where it was, when, and its `Seen`, with the moments as text."""

    path: str
    stamp: str
    hash: str
    width: int
    height: int
    mean: str
    square: str
    error: str


def kept(keys: Sequence[str]) -> dict[str, Kept]:
    """What is kept of some images, by their keys, as far as anything is.

    Raises:
        AblateError: The cache cannot be used.
    """
    return {row[0]: Kept._make(row) for row in _rows("seen3", "path", keys)}


def kept_likenesses(contents: Sequence[str]) -> dict[str, bytes]:
    """The perceptual hashes that are kept of some contents, by the hash of the content.

    Raises:
        AblateError: The cache cannot be used.
    """
    return dict(_rows("likeness1", "hash", contents))


def _rows(table: str, column: str, keys: Sequence[str]) -> list[Any]:
    rows: list[Any] = []
    if not keys:
        return rows
    with _database(table) as database:
        for start in range(0, len(keys), 500):  # SQLite bounds the number of parameters
            some = keys[start : start + 500]
            marks = ",".join("?" * len(some))
            rows += database.execute(f"SELECT * FROM {table} WHERE {column} IN ({marks})", some)
    return rows


def remember(looks: Iterable[tuple[Path | Member, str, Seen]]) -> None:
    """Keep what was seen of some images, with their stamps from before.

    Raises:
        AblateError: The cache cannot be used.
    """
    rows = [
        (key_of(path), stamp, one.hash, one.width, one.height, repr(one.mean), repr(one.square), one.error)
        for path, stamp, one in looks
    ]
    if rows:
        with _database("seen3") as database:
            database.executemany(f"INSERT OR REPLACE INTO seen3 VALUES ({','.join('?' * 8)})", rows)


def remember_likenesses(hashes: Mapping[str, bytes]) -> None:
    """Keep the perceptual hashes of some contents.

    Raises:
        AblateError: The cache cannot be used.
    """
    if hashes:
        with _database("likeness1") as database:
            database.executemany("INSERT OR REPLACE INTO likeness1 VALUES (?, ?)", hashes.items())


def threes(texts: Iterable[str]) -> np.ndarray:
    """Triples of numbers that are kept as text, float64 of shape (n, 3)."""
    return np.fromstring(",".join(text[1:-1] for text in texts), sep=",").reshape(-1, 3)
