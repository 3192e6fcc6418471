"""Where presized images lie on this machine: the folders, their version, the lock of whoever writes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from ablate.data.remembered import cache_folder
from ablate.errors import AblateError
from ablate.files import replace_file

VERSION = 2
"""Raised when the pixels of decode and presize, or the format of the files, change."""


def root() -> Path:
    """The folder of all presized images."""
    return cache_folder() / "presized"


def folder(name: str) -> Path:
    """The folder of one presize and format, made if need be.

    Raises:
        AblateError: It cannot be made, or a newer ablate has written the cache.
    """
    path = root() / name
    try:
        path.mkdir(parents=True, exist_ok=True)
        _claim(root() / "VERSION.json")
    except OSError as error:
        raise unwritable(path, error) from None
    return path


def unwritable(path: Path, error: OSError) -> AblateError:
    """What to tell when the cache cannot be written to."""
    return AblateError(
        f"{path}: cannot be written ({error.strerror}); set ABLATE_CACHE to a folder that can, or "
        "data.cache to off."
    )


def _claim(path: Path) -> None:
    """Refuse a cache of a newer ablate, and empty one of an older ablate."""
    version = _version(path)
    if version > VERSION:
        raise AblateError(
            f"{path.parent}: was written by a newer ablate; upgrade ablate, or set ABLATE_CACHE to another "
            "folder."
        )
    if version == VERSION:
        return
    with alone(lambda text: None):
        if _version(path) < VERSION:  # another process may have been quicker
            _begin_anew(path)


def _begin_anew(path: Path) -> None:
    for old in path.parent.glob("*/*.index"):  # a pack without an index is not there
        old.unlink(missing_ok=True)
    for old in path.parent.glob("*/*.pack"):
        old.unlink(missing_ok=True)
    replace_file(path, lambda to: to.write_text(json.dumps({"version": VERSION})), "ABLATE_CACHE")


def _version(path: Path) -> int:
    """The version that a cache says it has; 0 if it says none."""
    try:
        return int(json.loads(path.read_text())["version"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0


@contextmanager
def alone(note: Callable[[str], None]) -> Iterator[None]:
    """Be the only one who writes to the cache, once it is our turn; the lock dies with its process."""
    lock = FileLock(root() / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        note("waiting for another process that presizes images")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
