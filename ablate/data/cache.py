"""The cache of presized images: every image decoded once for all studies and processes of a machine.

A pure memo of one function, decode and presize: whether it is used changes no result. It lies in a folder of
its own under `ABLATE_CACHE`, one subfolder per presize and format, and is keyed by the content of the images'
files, so an image that changes, comes or goes concerns itself alone.
"""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from io import BytesIO
from pathlib import Path
from typing import Any, cast

import numpy as np
from PIL import Image
from rich.filesize import decimal

from ablate.data import place
from ablate.data.chosen import numbers_of
from ablate.data.images import BadImage
from ablate.data.inspect import Visit, Visits, inspect, recall
from ablate.data.items import Item, Progress
from ablate.data.looks import Looks, Seen
from ablate.data.packs import PackWriter, Presized, checksum, leading, lookup, read_rows, sweep
from ablate.data.presize import Presize
from ablate.data.shards import Member
from ablate.errors import AblateError
from ablate.files import replace_file

SAMPLE = 64
"""How many images tell about how large all are, where little depends on it."""
HEADERS = 4096
"""The same where it decides whether there is room: more would take minutes."""
_START = 1 << 18
"""Where an image's size stands, after whatever a camera writes before it."""
SPARE = 1 << 30
"""Bytes of the disk that a cache leaves free."""
JPEG_SHARE = 0.3
"""The most that a JPEG takes of the bytes of its pixels, on the safe side."""

Note = Callable[[str], None]


def packed_bytes(presize: Presize, width: int, height: int) -> int:
    """About how many bytes an image of some size takes when it is presized; 0 for one that cannot be."""
    try:
        wide, high = presize.size(width, height)
    except BadImage:
        return 0
    return round(wide * high * 3 * (1.0 if presize.quality is None else JPEG_SHARE))


@dataclass
class Filling:
    """A visit of images (see `inspect`) that presizes those that the cache lacks, and writes them to it.

    Args:
        folders: The folder of each presize.
    """

    folders: dict[Presize, Path]

    def __post_init__(self) -> None:
        self.rows = {presize: read_rows(folder) for presize, folder in self.folders.items()}
        self.beginnings = {presize: leading(rows["content"]) for presize, rows in self.rows.items()}
        self.added: set[tuple[Presize, str]] = set()
        self.writers: dict[Presize, PackWriter] = {}

    def wants(self, looks: Looks[Seen | None]) -> np.ndarray:
        lacking = [lookup(rows, looks.contents)["pack"] == 0 for rows in self.rows.values()]
        return looks.usable & np.logical_or.reduce(lacking)

    def make(self, seen: Seen, pixels: np.ndarray) -> Any:
        made = []
        for presize, rows in self.rows.items():
            if lookup(rows, [seen.hash], self.beginnings[presize])["pack"][0]:
                continue
            try:
                small = presize.small(pixels)
            except BadImage:  # told by whoever wants to train on it
                continue
            packed, (height, width) = presize.pack(small), small.shape[:2]
            crc = checksum(packed, bytes.fromhex(seen.hash), height, width)
            made.append((presize, packed, height, width, crc))
        return seen.hash, made

    def take(self, made: Any) -> None:
        content, images = made
        for presize, *image in images:
            if (presize, content) in self.added:  # the same picture under two names
                continue
            if presize not in self.writers:
                self.writers[presize] = PackWriter(self.folders[presize])
            self.writers[presize].add(content, *image)
            self.added.add((presize, content))

    def finish(self) -> None:
        """Seal what has been written."""
        for writer in self.writers.values():
            writer.finish()

    def abandon(self) -> None:
        """Leave no half of a pack; what was sealed before stays."""
        for writer in self.writers.values():
            writer.abandon()


def look_and_keep(
    items: Sequence[Item],
    presizes: Sequence[Presize],
    *,
    required: bool = False,
    visit: Visit | None = None,
    progress: Progress | None = None,
    note: Note = lambda text: None,
) -> tuple[Looks[Seen], dict[int, Presized]]:
    """Look at images as `inspect` does, and have them presized in the cache, in one decode of each.

    Args:
        items: The items.
        presizes: How; none for no cache.
        required: Whether a disk without room is an error; else there is no cache then, and a note.
        visit: What else to do with the images, as of `inspect`.
        progress: Told how many of the images to decode are done, and how many there are.
        note: Told what else a person wants to know.

    Returns:
        What each image is, and the presized images by presize.

    Raises:
        AblateError: The cache cannot be written, or there is no room and it is required.
    """
    if not presizes or any(isinstance(item.image, np.ndarray) for item in items[:1]):
        return inspect(items, progress, visit), {}
    folders = {presize: place.folder(presize.name) for presize in presizes}
    looks, filling = recall(items), Filling(folders)
    visits = Visits(filling, visit) if visit else filling
    if not looks.usable.all() or visits.wants(looks).any():
        with place.alone(note):
            for folder in folders.values():
                sweep(folder)
            looks, filling = recall(items), Filling(folders)  # another process may have filled it meanwhile
            if not _has_room(_needed(items, looks, filling), required, note):
                return inspect(items, progress, visit, looks), {}
            looks, filling = _fill(items, looks, filling, visit, progress), Filling(folders)
    numbers, known = numbers_of(items), cast("Looks[Seen]", looks)
    return known, {
        presize.shorter: _view(rows, numbers, known, presize, folders[presize])
        for presize, rows in filling.rows.items()
    }


def cache_bytes(items: Sequence[Item], looks: Looks[Seen | None], presizes: Sequence[Presize]) -> int | None:
    """About how many bytes some images take presized, there already or not.

    Images that have never been looked at are taken to be like the others, or like a sample of them, of which
    only the first bytes are read. None for images that are not cached, 0 where nothing can be known.
    """
    if not presizes or any(isinstance(item.image, np.ndarray) for item in items[:1]):
        return None
    if not looks.usable.any():
        sample = [items[i] for i in range(0, len(items), max(len(items) // SAMPLE, 1))]
        sizes = [_header(item) for item in sample if not _is_remote(item)]
        return round(_packed(presizes, sizes) * len(items) / max(len(sizes), 1))
    return round(_packed(presizes, *looks.sizes()) * len(items) / int(looks.usable.sum()))


def _fill(
    items: Sequence[Item],
    looks: Looks[Seen | None],
    filling: Filling,
    visit: Visit | None,
    progress: Progress | None,
) -> Looks[Seen]:
    try:
        seen = inspect(items, progress, Visits(filling, visit) if visit else filling, looks)
        filling.finish()
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise place.unwritable(place.root(), error) from None
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise AblateError(
            f"{place.root()}: the disk is full; free some of it, set ABLATE_CACHE to a folder on another "
            "disk, or set data.cache to off. What is finished of the cache stays."
        ) from None
    finally:
        filling.abandon()
    return seen


def _needed(items: Sequence[Item], looks: Looks[Seen | None], filling: Filling) -> int:
    """The bytes of the images that are to be added."""
    presizes = list(filling.folders)
    wanted = looks.take(np.flatnonzero(filling.wants(looks)))
    unknown = np.flatnonzero(~looks.known)
    sample = unknown[:: max(len(unknown) // HEADERS, 1)].tolist()
    each = _packed(presizes, [_header(items[position]) for position in sample]) / max(len(sample), 1)
    return _packed(presizes, *wanted.sizes()) + round(each * len(unknown))


def _packed(
    presizes: Sequence[Presize], sizes: Sequence[tuple[int, int]], counts: Sequence[int] | np.ndarray = ()
) -> int:
    """About how many bytes images of some sizes take in all presizes, each size so many times, or once."""
    times = np.asarray(counts).tolist() or [1] * len(sizes)
    pairs = [(size, count) for size, count in zip(sizes, times, strict=True) if all(size)]
    return sum(count * packed_bytes(presize, *size) for presize in presizes for size, count in pairs)


def _header(item: Item) -> tuple[int, int]:
    """Width and height as the file's first bytes tell; zeros for what is no image."""
    try:
        source: Any = item.image
        if isinstance(source, Member):  # which may be much longer than what tells its size
            source = BytesIO(replace(source, length=min(source.length, _START)).read())
        with Image.open(source) as image:
            return image.size
    except Exception:  # it is told what is wrong with the image when it is decoded
        return 0, 0


def _is_remote(item: Item) -> bool:
    return isinstance(item.image, Member) and item.image.shard.is_remote


def _has_room(needed: int, required: bool, note: Note) -> bool:
    free = shutil.disk_usage(place.root()).free
    if needed + SPARE <= free:
        return True
    story = f"the presized images need {decimal(needed)} in {place.root()}, where {decimal(free)} are free"
    remedy = "set ABLATE_CACHE to a folder on a larger disk, or data.cache to {format: jpeg}"
    if required:
        raise AblateError(f"data.cache: {story}; {remedy} or to off.")
    note(f"{story}: images are decoded again in every epoch; {remedy} to train faster")
    return False


def _view(
    rows: np.ndarray, numbers: np.ndarray, looks: Looks[Seen], presize: Presize, folder: Path
) -> Presized:
    """The images of some items by number, as a file that the stages' processes open at once."""
    whole = np.zeros(int(numbers.max()) + 1, rows.dtype)
    whole[numbers] = lookup(rows, looks.contents)
    content = whole.view(np.uint8).data
    path = folder / "views" / f"{blake2b(content, digest_size=16).hexdigest()}.rows"
    if not path.exists() or path.read_bytes() != content:
        replace_file(path, lambda to: to.write_bytes(content), "ABLATE_CACHE")
    return Presized(folder, presize, path)
