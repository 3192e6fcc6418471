"""Files of many images one after the other, found by their content: what the cache of images is made of.

A pack is written once, under another name, synced and renamed; its index, a table of `ROW`s, is written last
in the same way. A pack without an index is not there. Packs are read through memory maps, so all processes of
a machine share the pages.
"""

from __future__ import annotations

import contextlib
import struct
import warnings
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

import numpy as np
from crc32c import crc32c

from ablate import sealed
from ablate.data.presize import Presize

ROW = np.dtype(
    [
        ("content", "V16"),
        ("pack", "<u4"),
        ("height", "<u4"),
        ("width", "<u4"),
        ("length", "<u4"),
        ("offset", "<u8"),
        ("checksum", "<u4"),
    ]
)
"""One image of a pack: the hash of its file, its place, its size, and its checksum."""

PACK_BYTES = 1 << 28
_NUMBER = "[0-9]*"  # not `*` alone, which would take the unfinished files too


def checksum(packed: np.ndarray, content: bytes, height: int, width: int) -> int:
    """The CRC-32C of an image's bytes, content and shape, so that none is taken for another.

    Args:
        packed: The bytes, uint8 of shape (n,).
        content: The hash of the image's file.
        height: In pixels.
        width: In pixels.
    """
    return crc32c(packed.data, crc32c(content + struct.pack("<II", height, width)))


def pack_path(folder: Path, number: int) -> Path:
    """The file of a pack; numbers begin at 1."""
    return folder / f"{number:08d}.pack"


def index_path(folder: Path, number: int) -> Path:
    """The index of a pack."""
    return folder / f"{number:08d}.index"


class PackWriter:
    """Adds images to new packs of a folder; the caller holds the folder's lock.

    A pack is sealed in a thread, while the next one is written.

    Args:
        folder: Exists.
        limit: How many bytes a pack holds before the next one is begun.
    """

    def __init__(self, folder: Path, limit: int = PACK_BYTES):
        self.folder, self.limit = folder, limit
        self.number = max((int(path.stem) for path in folder.glob(f"{_NUMBER}.pack")), default=0)
        self.rows: list[tuple[object, ...]] = []
        self.length = 0
        self.file: BinaryIO | None = None
        self.sealer = ThreadPoolExecutor(1)
        self.sealing: list[Future[None]] = []

    def add(self, content: str, packed: np.ndarray, height: int, width: int, crc: int) -> None:
        """Write one image.

        Args:
            content: The hash of its file, in hexadecimal digits.
            packed: Its bytes, uint8 of shape (n,).
            height: In pixels.
            width: In pixels.
            crc: The checksum of the bytes.
        """
        if self.file is None:
            self.number += 1
            self.file = _unfinished(pack_path(self.folder, self.number)).open("wb")
        self.file.write(packed.data)
        key = np.void(bytes.fromhex(content))
        self.rows.append((key, self.number, height, width, len(packed), self.length, crc))
        self.length += len(packed)
        if self.length >= self.limit:
            self._close()

    def finish(self) -> None:
        """Have everything that was added on the disk."""
        self._close()
        for pack in self.sealing:
            pack.result()

    def abandon(self) -> None:
        """Leave nothing of what is not sealed; what is stays."""
        if self.file is not None:
            with contextlib.suppress(OSError):  # a full disk, once more
                self.file.close()
        self.sealer.shutdown()
        sweep(self.folder)

    def _close(self) -> None:
        if self.file is None:
            return
        self.file.close()
        rows = np.array(self.rows, ROW)
        self.sealing.append(self.sealer.submit(_seal, self.folder, self.number, rows))
        self.file, self.rows, self.length = None, [], 0


def _seal(folder: Path, number: int, rows: np.ndarray) -> None:
    pack, index = pack_path(folder, number), index_path(folder, number)
    _unfinished(index).write_bytes(rows.tobytes())  # tofile's errors do not say why
    for path in (pack, index):
        sealed.sync(_unfinished(path))
        _unfinished(path).rename(path)


def _unfinished(path: Path) -> Path:
    return path.with_name(f".{path.name}")


def sweep(folder: Path) -> None:
    """Remove what a writer that was killed has left; the caller holds the folder's lock."""
    for path in folder.glob(".*.pack"):
        path.unlink(missing_ok=True)
    for path in folder.glob(".*.index"):
        path.unlink(missing_ok=True)
    for path in folder.glob(f"{_NUMBER}.pack"):
        if not path.with_suffix(".index").exists():
            path.unlink(missing_ok=True)


def read_rows(folder: Path) -> np.ndarray:
    """The rows of all packs of a folder, sorted by content; a pack that is not as long as it was has none."""
    found = []
    for path in sorted(folder.glob(f"{_NUMBER}.index")):
        try:
            content, length = path.read_bytes(), path.with_suffix(".pack").stat().st_size
        except OSError:  # removed meanwhile
            continue
        if len(content) % ROW.itemsize:
            continue
        rows = np.frombuffer(content, ROW)
        if len(rows) and int(rows["offset"][-1]) + int(rows["length"][-1]) == length:
            found.append(rows)
    rows = np.concatenate(found) if found else np.empty(0, ROW)
    return _taken(rows, np.argsort(leading(rows["content"]), kind="stable"))


def lookup(
    rows: np.ndarray, contents: Sequence[str | None] | np.ndarray, beginnings: np.ndarray | None = None
) -> np.ndarray:
    """The rows of some images by the hashes of their files; one that is not there has pack 0.

    Args:
        rows: Sorted, as `read_rows` gives them.
        contents: Hashes in hexadecimal digits, None for an image that nothing is known of; or all at once,
            V16 of shape (n,).
        beginnings: `leading` of the rows' contents, for who asks again and again.

    Returns:
        `ROW`s of shape (n,).
    """
    if isinstance(contents, np.ndarray):
        wanted = np.ascontiguousarray(contents)
    else:
        wanted = np.frombuffer(b"".join(bytes.fromhex(one) if one else bytes(16) for one in contents), "V16")
    if not len(rows):
        return np.zeros(len(wanted), ROW)
    if beginnings is None:
        beginnings = leading(rows["content"])
    first = leading(wanted)
    order = np.argsort(first)  # what is looked up in order is found ten times as fast
    places = np.empty(len(wanted), np.int64)
    places[order] = np.searchsorted(beginnings, first[order])
    result = _taken(rows, np.minimum(places, len(rows) - 1))
    result[result["content"] != wanted] = np.zeros((), ROW)
    return result


def _taken(rows: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Some rows, copied as plain numbers, which is many times faster than field by field."""
    return np.ascontiguousarray(rows).view("<u4").reshape(-1, ROW.itemsize // 4)[places].view(ROW).reshape(-1)


def leading(contents: np.ndarray) -> np.ndarray:
    """The first eight bytes of hashes as numbers, which sort and compare many times faster."""
    return np.ascontiguousarray(contents).view("<u8").reshape(-1, 2)[:, 0]


class Presized:
    """The presized images of one study, by item number, read-only. Pickles and opens at once.

    Args:
        folder: The folder of the packs.
        presize: What made them.
        path: A file of `ROW`s by item number, such as `lookup` gives.
    """

    def __init__(self, folder: Path, presize: Presize, path: Path):
        self.folder, self.presize, self.path = folder, presize, path
        self._open()

    def __getstate__(self) -> tuple[Path, Presize, Path]:
        return self.folder, self.presize, self.path

    def __setstate__(self, state: tuple[Path, Presize, Path]) -> None:
        self.folder, self.presize, self.path = state
        self._open()

    def _open(self) -> None:
        try:
            self.rows: np.ndarray = np.memmap(self.path, ROW, "r")
        except (OSError, ValueError):  # the cache has been deleted since
            self.rows = np.zeros(0, ROW)
        self.checked = np.zeros(len(self.rows), bool)
        self.packs: dict[int, np.ndarray] = {}

    def __len__(self) -> int:
        """How many images there are."""
        return int((self.rows["pack"] > 0).sum())

    def __getitem__(self, number: int) -> np.ndarray | None:
        """The pixels of an item, uint8 of shape (h, w, 3); None if they are not there or not whole.

        An image's checksum is compared when this process first reads it.
        """
        if number >= len(self.rows) or not (row := self.rows[number])["pack"]:
            return None
        pack = self._pack(int(row["pack"]))
        offset, length = int(row["offset"]), int(row["length"])
        packed = pack[offset : offset + length]
        if not self.checked[number]:
            shape = int(row["height"]), int(row["width"])
            if len(packed) != length or checksum(packed, bytes(row["content"]), *shape) != row["checksum"]:
                self._forget(int(row["pack"]))
                return None
            self.checked[number] = True
        return self.presize.load(packed, int(row["height"]), int(row["width"]))

    def _forget(self, pack: int) -> None:
        """Have the images of a pack that is not whole written anew when the cache is next filled."""
        warnings.warn(
            f"{pack_path(self.folder, pack)}: is damaged; its images are decoded from their files instead.",
            stacklevel=3,
        )
        with contextlib.suppress(OSError):
            index_path(self.folder, pack).unlink()

    def _pack(self, number: int) -> np.ndarray:
        if number not in self.packs:
            try:
                self.packs[number] = np.memmap(pack_path(self.folder, number), np.uint8, "r")
            except (OSError, ValueError):  # removed since, or emptied
                self.packs[number] = np.empty(0, np.uint8)
        return self.packs[number]
