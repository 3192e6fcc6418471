"""Look at every image once, fully: its content hash, its size, its mean colour, or why it cannot be used.

What was seen is remembered by path, size and time of change, so a second look costs one `stat` per file.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np

from ablate.data.ahead import in_order
from ablate.data.images import BadImage, Source, decode, read_bytes
from ablate.data.items import Item, Progress
from ablate.data.looks import Looks, Seen
from ablate.data.remembered import kept, key_of, remember, stamp_of, threes
from ablate.data.shards import Member
from ablate.errors import AblateError

_BLOCK = 4096
REMEMBERED = 1000
"""After how many looks they are written down, so that one that is killed need not begin again."""
ROWS = 64
"""How many rows of an image are enough for its mean colour: more would cost a third of decoding it."""


class Visit(Protocol):
    """What else is to be done with the pixels of images while they are decoded to be looked at."""

    def wants(self, looks: Looks[Seen | None]) -> np.ndarray:
        """Which images that are known are to be decoded again for this visit, bool of shape (n,)."""
        ...

    def make(self, seen: Seen, pixels: np.ndarray) -> Any:
        """Do it, in a thread: pixels are uint8 of shape (h, w, 3)."""
        ...

    def take(self, made: Any) -> None:
        """Take what `make` gave, in the items' order, in the caller's thread."""
        ...


class Visits:
    """Several visits in one decode of each image."""

    def __init__(self, *visits: Visit):
        self.visits = visits

    def wants(self, looks: Looks[Seen | None]) -> np.ndarray:
        return np.logical_or.reduce([visit.wants(looks) for visit in self.visits])

    def make(self, seen: Seen, pixels: np.ndarray) -> Any:
        return [visit.make(seen, pixels) for visit in self.visits]

    def take(self, made: Any) -> None:
        for visit, one in zip(self.visits, made, strict=True):
            visit.take(one)


def look(image: Source, name: str) -> tuple[Seen, np.ndarray | None]:
    """Read and decode one image in full; gives its pixels too, if it can be used."""
    content = b""
    try:
        content = (
            image.tobytes() + repr(image.shape).encode()
            if isinstance(image, np.ndarray)
            else read_bytes(image)
        )
        digest = blake2b(content, digest_size=16).hexdigest()
        pixels = decode(image if isinstance(image, np.ndarray) else content, name)
    except BadImage as bad:
        return Seen(hash=blake2b(content, digest_size=16).hexdigest(), error=str(bad)), None
    height, width = pixels.shape[:2]
    return Seen(digest, width, height, *_moments(pixels[:: max(height // ROWS, 1)])), pixels


def _moments(pixels: np.ndarray) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    import cv2  # here, since planning looks at nothing new

    counts = np.stack(
        [cv2.calcHist([pixels], [channel], None, [256], [0, 256]).ravel() for channel in range(3)]
    )
    counts = counts.astype(np.float64) / (pixels.shape[0] * pixels.shape[1])
    levels = np.arange(256) / 255
    first, second = counts @ levels, counts @ levels**2
    return _triple(first), _triple(second)


def _triple(values: np.ndarray) -> tuple[float, float, float]:
    red, green, blue = values.tolist()
    return red, green, blue


def inspect(
    items: Sequence[Item],
    progress: Progress | None = None,
    visit: Visit | None = None,
    known: Looks[Seen | None] | None = None,
) -> Looks[Seen]:
    """What each item's image is, in order, looking only at those that have changed or are new.

    Args:
        items: The items.
        progress: Called with how many of the images to look at are done, and how many there are.
        visit: What else to do with them, and which others to decode for it.
        known: What `recall` says of them, where that has been asked already; it is filled in.
    """
    results = recall(items) if known is None else known
    # a bad one is looked at again, since it may be mended
    new = np.flatnonzero(~results.usable | visit.wants(results) if visit else ~results.usable).tolist()

    def work(i: int) -> tuple[Source, str, Seen, Any]:
        image = items[i].image
        stamp = stamp_of(image)  # before the look, so that a file that changes meanwhile is looked at again
        seen, pixels = look(image, items[i].id)
        return image, stamp, seen, visit.make(seen, pixels) if visit and pixels is not None else None

    fresh: list[tuple[Path | Member, str, Seen]] = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        looked = in_order(pool, work, new, 4 * (os.cpu_count() or 1))
        for done, (i, (image, stamp, seen, made)) in enumerate(zip(new, looked, strict=True), 1):
            results.put(i, seen)
            if isinstance(image, Path | Member):
                fresh.append((image, stamp, seen))
            if visit and made is not None:
                visit.take(made)
            if progress:
                progress(done, len(new))
            if done % REMEMBERED == 0 or done == len(new):
                remember(fresh)
                fresh.clear()
    return cast("Looks[Seen]", results)


def recall(items: Sequence[Item]) -> Looks[Seen | None]:
    """What is known of each item's image, without reading any file; pixels in memory are looked at."""
    looks: Looks[Seen | None] = Looks(len(items))
    numbered = enumerate(items)
    while block := list(islice(numbered, _BLOCK)):
        keyed = [
            (i, image, key_of(image)) for i, item in block if not isinstance(image := item.image, np.ndarray)
        ]
        if len(keyed) < len(block):
            for i, item in block:
                looks.put(i, look(item.image, item.id)[0])
            continue
        known = kept([key for _, _, key in keyed])
        rows = ((i, image, known.get(key)) for i, image, key in keyed)
        found = [(i, row) for i, image, row in rows if row is not None and row.stamp == stamp_of(image)]
        looks.put_many(
            [i for i, _ in found],
            [row.hash for _, row in found],
            [(row.width, row.height) for _, row in found],
            threes(row.mean for _, row in found),
            threes(row.square for _, row in found),
            {i: row.error for i, row in found if row.error},
        )
    return looks


def fingerprint(
    items: Iterable[Item], classes: Sequence[str], looks: Looks[Seen] | Looks[Seen | None]
) -> str | None:
    """The identity of some items: numbers, ids, contents, labels, groups and rows in order.

    Args:
        items: The items, such as those of one side of a split.
        classes: The names of all classes.
        looks: What is known of each item's image, in the same order.

    Returns:
        A hash, or None while an image is unknown or cannot be used.
    """
    state = blake2b("\x1f".join(classes).encode(), digest_size=16)
    if not looks.usable.all():
        return None
    each = (
        f"{item.number}\x1f{item.id}\x1f{content}\x1f{item.target}\x1f{item.group}{_row(item)}\x1e"
        for item, content in zip(items, looks.hashes(), strict=True)
    )
    while block := "".join(islice(each, _BLOCK)):
        state.update(block.encode())
    return state.hexdigest()


def _row(item: Item) -> str:
    return f"\x1f{item.cells}" if item.cells else ""  # without tabular data, the identity of ever


def statistics(
    looks: Looks[Seen] | Looks[Seen | None],
) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Mean and standard deviation of each channel over some images, each image weighing the same."""
    mean = np.ascontiguousarray(looks.rows["mean"]).mean(axis=0)
    square = np.ascontiguousarray(looks.rows["square"]).mean(axis=0)
    return _triple(mean), _triple(np.sqrt(np.maximum(square - mean**2, 1e-12)))


def file_hash(path: Path) -> str:
    """The content hash of one file, such as a network's weights; remembered like the images'.

    Raises:
        AblateError: The file cannot be read.
    """
    known, stamp = kept([key_of(path)]).get(key_of(path)), stamp_of(path)
    try:
        if known and known.stamp == stamp:
            return known.hash
        state = blake2b(digest_size=16)
        with path.open("rb") as file:
            while block := file.read(1 << 22):
                state.update(block)
    except OSError as error:
        raise AblateError(f"{path}: cannot be read ({error.strerror}).") from None
    remember([(path, stamp, Seen(state.hexdigest()))])
    return state.hexdigest()
