"""Folders that are there whole or not at all: files with checksums, and a seal that is written last.

A folder is written under another name, sealed, and renamed; so whatever happens meanwhile, a folder under its
own name is complete. What is read later is compared with its checksum on the way in.
"""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Any

from ablate.errors import AblateError, Damaged

SEAL, SCHEMA = "DONE.json", 1
_UNSEALED = f".{SEAL}"


def seal(folder: Path, **notes: Any) -> None:
    """Write the checksums of a folder's files, and notes, to its `DONE.json`, once everything is on the disk.

    Args:
        folder: Its files are final.
        notes: What else the seal says, as JSON values.
    """
    names = [str(path.relative_to(folder)) for path in sorted(folder.rglob("*")) if path.is_file()]
    # a seal that was interrupted may have left either
    files = {name: checksum((folder / name).read_bytes()) for name in names if name not in (SEAL, _UNSEALED)}
    for name in files:
        sync(folder / name)
    stamps = {name: _stamp(folder / name) for name in files}
    content = {"schema": SCHEMA, "files": files, "stamps": stamps, "finished": time.time(), **notes}
    temporary = folder / _UNSEALED
    temporary.write_text(json.dumps(content | {"seal": _own_checksum(content)}, indent=1))
    sync(temporary)
    temporary.rename(folder / SEAL)
    sync(folder)


def read_seal(folder: Path) -> dict[str, Any] | None:
    """A folder's `DONE.json`; None if it has none that can be read.

    Raises:
        AblateError: It was written by a newer ablate.
    """
    try:
        return parse_seal((folder / SEAL).read_bytes(), folder)
    except OSError:
        return None


def parse_seal(data: bytes, where: Path | str) -> dict[str, Any] | None:
    """What the bytes of a `DONE.json` say; None if they are not those of a whole one.

    Args:
        data: The bytes.
        where: The folder or URL that they are from, to name it in errors.

    Raises:
        AblateError: It was written by a newer ablate.
    """
    try:
        content = json.loads(data)
    except ValueError:
        return None
    if not isinstance(content, dict) or not isinstance(content.get("schema"), int):
        return None
    if content["schema"] > SCHEMA:
        raise AblateError(
            f"{where}: was written by a newer ablate; upgrade ablate, or set ABLATE_STORE to another folder."
        )
    return content if content.pop("seal", None) == _own_checksum(content) else None


def whole_seal(folder: Path) -> dict[str, Any] | None:
    """A folder's `DONE.json` if its files are those that were sealed, else None.

    Files whose size and time are as they were are taken to be the same; others are read.
    """
    content = read_seal(folder)
    if content is None:
        return None
    stamps = content.get("stamps", {})
    whole = all(
        stamps.get(name) == _stamp(folder / name) or _matches(folder / name, digest)
        for name, digest in content["files"].items()
    )
    return content if whole else None


def is_whole(folder: Path) -> bool:
    """Whether a folder is sealed and its files look like those that were sealed; see `whole_seal`."""
    return whole_seal(folder) is not None


def damaged_files(folder: Path) -> Iterator[str]:
    """The sealed files of a folder whose contents have changed, each of them read in full."""
    content = read_seal(folder)
    for name, digest in (content or {"files": {SEAL: ""}})["files"].items():
        if not _matches(folder / name, digest):
            yield name


def read(folder: Path, name: str) -> bytes:
    """The contents of one file of a sealed folder.

    Raises:
        Damaged: They are not what was sealed.
    """
    content = read_seal(folder)
    try:
        data = (folder / name).read_bytes()
    except OSError:
        raise Damaged(folder) from None
    if content is None or content["files"].get(name) != checksum(data):
        raise Damaged(folder)
    return data


def checksum(data: bytes) -> str:
    """A content hash."""
    return blake2b(data, digest_size=16).hexdigest()


def sync(path: Path) -> None:
    """Have a file's or a folder's contents on the disk; a file system without one has nothing to do."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def _own_checksum(content: dict[str, Any]) -> str:
    return checksum(json.dumps(content, sort_keys=True).encode())


def _matches(path: Path, digest: str) -> bool:
    try:
        return checksum(path.read_bytes()) == digest
    except OSError:
        return False


def _stamp(path: Path) -> list[int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return [status.st_size, status.st_mtime_ns]
