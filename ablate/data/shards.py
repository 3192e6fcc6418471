"""Shards: files of many images each, here or at a URL, and where in them an image lies."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from glob import glob
from io import FileIO
from pathlib import Path
from typing import NamedTuple

from ablate.data.remote import filesystem, is_url, reaching, remote_stamp
from ablate.errors import AblateError

_CONNECTIONS = 16


@dataclass(frozen=True)
class Shard:
    """One file of many images, as it was when it was found.

    Args:
        place: Its absolute path or its URL.
        stamp: What changes when its content does: size and time of change, or what the server tells.
        size: In bytes.
    """

    place: str
    stamp: str
    size: int

    @property
    def is_remote(self) -> bool:
        """Whether it must be fetched before it can be read."""
        return is_url(self.place)

    def path(self) -> Path:
        """The file to read: itself, or a local copy, which is fetched if it is not there.

        Raises:
            AblateError: It is gone, it has changed, or it cannot be fetched.
        """
        if not self.is_remote:
            return Path(self.place)
        from ablate.data.copies import local_copy

        return local_copy(self)

    @contextmanager
    def opened(self) -> Iterator[FileIO]:
        """The very file that was found.

        Raises:
            AblateError: It is gone, or it has changed since.
        """
        try:
            file = _open(self)
        except OSError as error:
            raise AblateError(f"{self.place}: the shard cannot be read ({error.strerror}).") from None
        with file:
            if not self.is_remote and local_stamp(os.fstat(file.fileno())) != self.stamp:
                raise changed(self)
            yield file


@dataclass(frozen=True, slots=True)
class Member:
    """An image's file within a shard, which is read alone.

    Args:
        shard: The shard.
        offset: Of its first byte.
        length: In bytes.
    """

    shard: Shard
    offset: int
    length: int

    def __str__(self) -> str:
        return f"{self.shard.place}#{self.offset}"

    def read(self) -> bytes:
        """Its bytes.

        Raises:
            AblateError: The shard is gone or has changed.
        """
        with self.shard.opened() as file:
            content = os.pread(file.fileno(), self.length, self.offset)
        if len(content) != self.length:
            raise AblateError(f"{self}: the shard ends within this image; restore it.")
        return content


class Fields(NamedTuple):
    """What to read of each image in a shard, by the names that a recipe gives."""

    image: str
    label: str
    id: str | None
    others: tuple[str, ...]


class Row(NamedTuple):
    """What stands in a shard about one image."""

    id: str
    offset: int
    length: int
    label: str
    others: tuple[str, ...] = ()


def changed(shard: Shard) -> AblateError:
    """What to say when a shard is not what was found."""
    return AblateError(
        f"{shard.place}: the shard has changed since it was looked for; run the same command again."
    )


def patterns_of(shards: str | Sequence[str] | None) -> list[str]:
    """What a recipe names, as a list, with ranges in braces written out, which bash does the same way."""
    from braceexpand import braceexpand

    given = [shards] if isinstance(shards, str) else list(shards or ())
    try:
        return [pattern for one in given for pattern in braceexpand(one)]
    except ValueError:  # UnbalancedBracesError
        raise AblateError(f"data.shards: {', '.join(given)} has braces that do not close.") from None


def find_shards(root: str | None, shards: str | Sequence[str]) -> list[Shard]:
    """The shards that a recipe names: each once, those of a pattern in the order of their names.

    Args:
        root: What relative paths are under: a folder or a URL.
        shards: Paths, URLs, glob patterns, ranges in braces.

    Raises:
        AblateError: A name or pattern matches nothing, or a URL cannot be reached.
    """
    places: dict[str, None] = {}
    for pattern in patterns_of(shards):
        whole = pattern if is_url(pattern) else _join(root, pattern)
        found = _matches(whole)
        if not found:
            raise AblateError(f"data.shards: no shard matches {whole}; correct the path or the pattern.")
        places |= dict.fromkeys(found)
    with ThreadPoolExecutor(_CONNECTIONS) as pool:
        return list(pool.map(_shard, places))


def matching(shards: Sequence[Shard], patterns: str | Sequence[str], field: str) -> list[bool]:
    """Which shards a side of a split names, by the whole end of their places.

    Raises:
        AblateError: A pattern matches none.
    """
    chosen = [False] * len(shards)
    for pattern in patterns_of(patterns):
        ends = pattern if is_url(pattern) or os.path.isabs(pattern) else f"*/{pattern}"
        matches = [fnmatchcase(shard.place, ends) for shard in shards]
        if not any(matches):
            raise AblateError(
                f"{field}: none of the {len(shards)} shards matches {pattern}, such as {shards[0].place}."
            )
        chosen = [a or b for a, b in zip(chosen, matches, strict=True)]
    return chosen


def local_stamp(status: os.stat_result) -> str:
    """What changes when a local file does."""
    return f"{status.st_size}:{status.st_mtime_ns}"


def _join(root: str | None, pattern: str) -> str:
    pattern = os.path.expanduser(pattern)
    if root and is_url(root):
        return f"{root.rstrip('/')}/{pattern}"
    return os.path.abspath(os.path.join(os.path.expanduser(root or ""), pattern))


def _matches(whole: str) -> list[str]:
    if not is_url(whole):
        return [whole] if os.path.isfile(whole) else sorted(filter(os.path.isfile, glob(whole)))
    if "*" not in whole and "[" not in whole:  # a question mark begins a query
        return [whole]
    system, path = filesystem(whole)
    with reaching(whole):
        return [system.unstrip_protocol(name) for name in sorted(system.glob(path))]


def _shard(place: str) -> Shard:
    if not is_url(place):
        try:
            status = os.stat(place)
        except OSError as error:
            raise AblateError(f"{place}: the shard cannot be read ({error.strerror}).") from None
        return Shard(place, local_stamp(status), status.st_size)
    system, path = filesystem(place)
    with reaching(place):
        information = system.info(path)
    if not information.get("size"):
        raise AblateError(f"{place}: the server does not tell how large this shard is; fetch it by hand.")
    return Shard(place, remote_stamp(information), information["size"])


def _open(shard: Shard) -> FileIO:
    try:
        return FileIO(shard.path())
    except FileNotFoundError:
        if not shard.is_remote:
            raise
        return FileIO(shard.path())  # another process has just removed the copy to make room
