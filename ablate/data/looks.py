"""What is known of images, in columns, since there may be millions of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar, overload

import numpy as np

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Seen:
    """What one image is.

    Args:
        hash: Of the file's bytes, or of the pixels where there is no file: 32 hexadecimal digits.
        width: In pixels, as stored, upright.
        height: Likewise.
        mean: Mean of each channel, of pixels in [0, 1]; of a large image, of every so many rows of it.
        square: Mean square of each channel, likewise.
        error: Why the image cannot be used; empty if it can.
    """

    hash: str
    width: int = 0
    height: int = 0
    mean: Triple = (0.0, 0.0, 0.0)
    square: Triple = (0.0, 0.0, 0.0)
    error: str = ""


_ROW = np.dtype(
    [
        ("known", "?"),
        ("content", "V16"),
        ("width", "<i4"),
        ("height", "<i4"),
        ("mean", "<f8", (3,)),
        ("square", "<f8", (3,)),
    ]
)
_BLOCK = 4096

S = TypeVar("S", bound="Seen | None", covariant=True)


class Looks(Sequence[S], Generic[S]):
    """A `Seen` for each of some items, or None for those that nothing is known of: 73 bytes each.

    Args:
        count: How many; nothing is known of any yet.
    """

    def __init__(self, count: int):
        self.rows = np.zeros(count, _ROW)
        self.errors: dict[int, str] = {}
        """Why images cannot be used, by position."""

    @classmethod
    def of(cls, seen: Iterable[S]) -> Looks[S]:
        """Some looks, in columns."""
        given = list(seen)
        looks = cls(len(given))
        for position, one in enumerate(given):
            if one is not None:
                looks.put(position, one)
        return looks

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> S: ...
    @overload
    def __getitem__(self, index: slice) -> list[S]: ...
    def __getitem__(self, index: int | slice) -> S | list[S]:
        position = range(len(self))[index]  # an IndexError past the end, from the end if negative
        if not isinstance(position, int):
            return [self[one] for one in position]
        known, content, width, height, mean, square = self.rows[position].tolist()
        if not known:
            return None  # type: ignore[return-value]
        a, b, c = mean
        d, e, f = square
        error = self.errors.get(position, "")
        return Seen(content.hex(), width, height, (a, b, c), (d, e, f), error)  # type: ignore[return-value]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    def put(self, position: int, seen: Seen) -> None:
        """Say what an image is."""
        content = np.void(bytes.fromhex(seen.hash))
        self.rows[position] = (True, content, seen.width, seen.height, seen.mean, seen.square)
        self.errors.pop(position, None)
        if seen.error:
            self.errors[position] = seen.error

    def put_many(
        self,
        positions: Sequence[int],
        hashes: Sequence[str],
        sizes: Sequence[tuple[int, int]],
        means: np.ndarray,
        squares: np.ndarray,
        errors: Mapping[int, str],
    ) -> None:
        """Say what several images are, as `put` does, with moments of shape (n, 3) and errors by position."""
        rows = np.zeros(len(positions), _ROW)
        rows["known"] = True
        rows["content"] = np.frombuffer(bytes.fromhex("".join(hashes)), "V16")
        rows["width"], rows["height"] = np.array(sizes, dtype=np.int32).reshape(-1, 2).T
        rows["mean"], rows["square"] = means, squares
        self.rows[np.array(positions, dtype=np.int64)] = rows
        self.errors |= errors

    @property
    def known(self) -> np.ndarray:
        """Of which images anything is known, bool of shape (n,)."""
        return self.rows["known"]

    @property
    def usable(self) -> np.ndarray:
        """Which images are known to be whole, bool of shape (n,)."""
        usable = self.known.copy()
        usable[list(self.errors)] = False
        return usable

    @property
    def contents(self) -> np.ndarray:
        """The hashes of the images' files, V16 of shape (n,); zeros where nothing is known."""
        return self.rows["content"]

    def hashes(self) -> Iterator[str]:
        """The same in hexadecimal digits."""
        for begin in range(0, len(self), _BLOCK):
            yield from map(bytes.hex, self.contents[begin : begin + _BLOCK].tolist())

    def sizes(self) -> tuple[list[tuple[int, int]], np.ndarray]:
        """Every width and height that usable images have, and how many have it."""
        rows = self.rows[self.usable]
        pairs = rows["width"].astype(np.int64) << 32 | rows["height"]
        each, counts = np.unique(pairs, return_counts=True)
        return [(pair >> 32, pair & 0xFFFFFFFF) for pair in each.tolist()], counts

    def take(self, positions: np.ndarray) -> Looks[S]:
        """Those at some positions, in that order."""
        taken: Looks[S] = Looks(0)
        taken.rows = self.rows[positions]
        if self.errors:
            reasons = ((i, self.errors.get(position)) for i, position in enumerate(positions.tolist()))
            taken.errors = {i: reason for i, reason in reasons if reason}
        return taken
