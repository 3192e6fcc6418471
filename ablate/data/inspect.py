"""Look at every image once, fully: its content hash, its size, its mean colour, or why it cannot be used.

What was seen is remembered by path, size and time of change, so a second look costs one `stat` per file.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import numpy as np
from PIL import Image
from platformdirs import user_cache_path

from ablate.data.images import BadImage, decode, read_bytes
from ablate.data.items import Item
from ablate.errors import AblateError

Progress = Callable[[int, int], None]
_COLUMNS = (
    "path TEXT PRIMARY KEY, stamp TEXT, hash TEXT, width INT, height INT, mean TEXT, square TEXT, error TEXT"
)


@dataclass(frozen=True)
class Seen:
    """What one image is.

    Args:
        hash: Of the file's bytes, or of the pixels where there is no file.
        width: In pixels, as stored, upright.
        height: Likewise.
        mean: Mean of each channel, of pixels in [0, 1].
        square: Mean square of each channel.
        error: Why the image cannot be used; empty if it can.
    """

    hash: str
    width: int = 0
    height: int = 0
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    square: tuple[float, float, float] = (0.0, 0.0, 0.0)
    error: str = ""


def cache_folder() -> Path:
    """`ABLATE_CACHE`, or a folder under the user's cache."""
    given = os.environ.get("ABLATE_CACHE")
    return Path(given) if given else user_cache_path("ablate")


def look(image: Path | np.ndarray, name: str) -> Seen:
    """Read and decode one image in full."""
    content = image.tobytes() + repr(image.shape).encode() if isinstance(image, np.ndarray) else b""
    try:
        content = content or read_bytes(Path(str(image)))
        digest = blake2b(content, digest_size=16).hexdigest()
        decoded = decode(image if isinstance(image, np.ndarray) else content, name)
    except BadImage as bad:
        return Seen(hash=blake2b(content, digest_size=16).hexdigest(), error=str(bad))
    return Seen(digest, *decoded.size, *_moments(decoded))


def _moments(image: Image.Image) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    counts = np.array(image.histogram(), dtype=np.float64).reshape(3, 256) / (image.width * image.height)
    levels = np.arange(256) / 255
    first, second = counts @ levels, counts @ levels**2
    return _triple(first), _triple(second)


def _triple(values: np.ndarray) -> tuple[float, float, float]:
    red, green, blue = values.tolist()
    return red, green, blue


def inspect(items: Sequence[Item], progress: Progress | None = None) -> list[Seen]:
    """What each item's image is, in order, looking only at those that have changed or are new.

    Args:
        items: The items.
        progress: Called with how many of the new images are done, and how many there are.
    """
    results = recall(items)
    new = [i for i, seen in enumerate(results) if seen is None]
    # before the look, so that a file that changes meanwhile is looked at again
    stamps = [_stamp(Path(str(items[i].image))) for i in new]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        looked = pool.map(lambda i: look(items[i].image, items[i].id), new)
        for done, (i, fresh) in enumerate(zip(new, looked, strict=True), 1):
            results[i] = fresh
            if progress:
                progress(done, len(new))
    _remember(
        (Path(str(items[i].image)), stamp, seen)
        for i, stamp in zip(new, stamps, strict=True)
        if (seen := results[i]) is not None
    )
    return [seen for seen in results if seen is not None]


def recall(items: Sequence[Item]) -> list[Seen | None]:
    """What is known of each item's image, without reading any file; pixels in memory are looked at."""
    known = _known([item.image for item in items if isinstance(item.image, Path)])
    results: list[Seen | None] = []
    for item in items:
        if isinstance(item.image, Path):
            stamp, seen = known.get(_key(item.image), ("", None))
            results.append(seen if seen is not None and stamp == _stamp(item.image) else None)
        else:
            results.append(look(item.image, item.id))
    return results


def fingerprint(items: Sequence[Item], classes: Sequence[str], seen: Mapping[int, Seen | None]) -> str | None:
    """The identity of some items: numbers, ids, contents, labels and groups in order.

    Args:
        items: The items, such as those of one side of a split.
        classes: The names of all classes.
        seen: What is known of each item's image, by the item's number.

    Returns:
        A hash, or None while an image is unknown.
    """
    state = blake2b("\x1f".join(classes).encode(), digest_size=16)
    for item in items:
        look_ = seen.get(item.number)
        if look_ is None:
            return None
        state.update(
            f"{item.number}\x1f{item.id}\x1f{look_.hash}\x1f{item.target}\x1f{item.group}\x1e".encode()
        )
    return state.hexdigest()


def statistics(seen: Sequence[Seen]) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Mean and standard deviation of each channel over some images, each image weighing the same."""
    mean = np.mean([look_.mean for look_ in seen], axis=0)
    std = np.sqrt(np.maximum(np.mean([look_.square for look_ in seen], axis=0) - mean**2, 1e-12))
    return _triple(mean), _triple(std)


def file_hash(path: Path) -> str:
    """The content hash of one file, such as a network's weights; remembered like the images'.

    Raises:
        AblateError: The file cannot be read.
    """
    known, stamp = _known([path]).get(_key(path)), _stamp(path)
    try:
        if known and known[0] == stamp:
            return known[1].hash
        state = blake2b(digest_size=16)
        with path.open("rb") as file:
            while block := file.read(1 << 22):
                state.update(block)
    except OSError as error:
        raise AblateError(f"{path}: cannot be read ({error.strerror}).") from None
    _remember([(path, stamp, Seen(state.hexdigest()))])
    return state.hexdigest()


def _key(path: Path) -> str:
    return os.path.abspath(path)  # the cache is shared by all projects


def _stamp(path: Path) -> str:
    try:
        status = path.stat()
    except OSError:
        return "missing"
    return f"{status.st_size}:{status.st_mtime_ns}"


@contextmanager
def _database() -> Iterator[sqlite3.Connection]:
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(folder / "images.sqlite", timeout=60)) as connection, connection:
            connection.execute(f"CREATE TABLE IF NOT EXISTS seen2 ({_COLUMNS})")
            yield connection
    except (OSError, sqlite3.Error) as error:
        raise AblateError(
            f"{folder}: cannot be written ({error}); set ABLATE_CACHE to a folder that can."
        ) from None


def _known(paths: Sequence[Path]) -> dict[str, tuple[str, Seen]]:
    known: dict[str, tuple[str, Seen]] = {}
    if not paths:
        return known
    keys = [_key(path) for path in paths]
    with _database() as database:
        for start in range(0, len(keys), 500):  # SQLite bounds the number of parameters
            some = keys[start : start + 500]
            marks = ",".join("?" * len(some))
            for row in database.execute(f"SELECT * FROM seen2 WHERE path IN ({marks})", some):
                known[row[0]] = (row[1], Seen(row[2], row[3], row[4], _three(row[5]), _three(row[6]), row[7]))
    return known


def _remember(looks: Iterable[tuple[Path, str, Seen]]) -> None:
    """Keep what was seen of usable files; a bad one is looked at again, since it is likely to be mended."""
    rows = [
        (_key(path), stamp, seen.hash, seen.width, seen.height, repr(seen.mean), repr(seen.square), "")
        for path, stamp, seen in looks
        if not seen.error
    ]
    if rows:
        with _database() as database:
            database.executemany(f"INSERT OR REPLACE INTO seen2 VALUES ({','.join('?' * 8)})", rows)


def _three(text: str) -> tuple[float, float, float]:
    a, b, c = (float(part) for part in text.strip("()").split(","))
    return a, b, c
