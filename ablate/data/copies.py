"""Local copies of remote shards: fetched whole and once, the least recently used ones make room.

They lie in `shards` under `ABLATE_CACHE`, named by URL and stamp, so a shard that changes has another copy.
All processes of a machine share them.
"""

from __future__ import annotations

import os
import shutil
import time
from hashlib import blake2b
from pathlib import Path

from filelock import FileLock

from ablate.data.remembered import cache_folder
from ablate.data.remote import NO_ROOM, filesystem, reaching, remote_stamp
from ablate.data.shards import Shard, changed
from ablate.errors import AblateError
from ablate.files import sweep

LIMIT = "ABLATE_SHARDS_GB"
"""The environment variable with how many gigabytes the copies may take; default: half of the room."""
_LEASE = 60.0
"""How often a copy that is in use is marked as such, in seconds."""


def folder() -> Path:
    """Where the copies lie."""
    return cache_folder() / "shards"


def local_copy(shard: Shard) -> Path:
    """The local copy of a remote shard; fetched first if it is not there.

    Raises:
        AblateError: It cannot be fetched, it has changed, or there is no room.
    """
    path = folder() / _name(shard)
    if _mark_used(path):
        return path
    try:
        (folder() / ".locks").mkdir(parents=True, exist_ok=True)
        with FileLock(folder() / ".locks" / path.name):
            if not path.exists():
                _make_room(shard.size, shard)
                _fetch(shard, path)
    except OSError as error:
        reason = "the disk is full" if error.errno in NO_ROOM else error.strerror
        raise AblateError(
            f"{folder()}: {shard.place} cannot be kept there ({reason}); set ABLATE_CACHE to a folder "
            "with room."
        ) from None
    return path


def limit() -> int:
    """How many bytes the copies may take.

    Raises:
        AblateError: The environment variable is no number.
    """
    given = os.environ.get(LIMIT)
    if given:
        try:
            return int(float(given) * 1e9)
        except ValueError:
            raise AblateError(f"{LIMIT}: {given!r} is no number of gigabytes, such as 200.") from None
    there = folder()
    there.mkdir(parents=True, exist_ok=True)
    return (shutil.disk_usage(there).free + sum(size for _, size, _ in _copies())) // 2


def _name(shard: Shard) -> str:
    digest = blake2b(f"{shard.place}\x1f{shard.stamp}".encode(), digest_size=12).hexdigest()
    return f"{digest}-{os.path.basename(shard.place.partition('?')[0])[-80:]}"


def _mark_used(path: Path) -> bool:
    """Whether a copy is there; the time of its change tells when it was last used."""
    try:
        used, now = path.stat().st_mtime, time.time()
        if now - used > _LEASE:
            os.utime(path)
    except FileNotFoundError:
        return False
    except OSError:  # somebody else's cache, which can be read
        return True
    return True


def _copies() -> list[tuple[float, int, Path]]:
    """When each copy was last used, its size and its file; unfinished ones too."""
    found = []
    for path in folder().iterdir():
        try:
            status = path.stat()
        except FileNotFoundError:
            continue
        if path.is_file():
            found.append((status.st_mtime, status.st_size, path))
    return sorted(found)


def _make_room(needed: int, shard: Shard) -> None:
    """Remove the least recently used copies until there is room for one more.

    Who has one of them open keeps it, who needs it again fetches it again.
    """
    with FileLock(folder() / ".locks" / "room"):
        sweep(folder())
        most = limit()
        if needed > most:
            raise AblateError(
                f"{shard.place}: has {needed / 1e9:.1f} GB, but local copies may take {most / 1e9:.1f} GB; "
                f"raise {LIMIT}, or set ABLATE_CACHE to a larger disk."
            )
        copies = [copy for copy in _copies() if not copy[2].name.startswith(".")]
        total = sum(size for _, size, _ in copies)
        for _, size, path in copies:
            if total + needed <= most:
                break
            path.unlink(missing_ok=True)
            total -= size


def _fetch(shard: Shard, path: Path) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    system, remote = filesystem(shard.place)
    try:
        with reaching(shard.place):
            before = remote_stamp(system.info(remote))
            if before == shard.stamp:
                system.get_file(remote, str(temporary))
        if before != shard.stamp:
            raise changed(shard)
        if temporary.stat().st_size != shard.size:
            raise AblateError(
                f"{shard.place}: {temporary.stat().st_size} of {shard.size} bytes arrived; run the same "
                "command again."
            )
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
