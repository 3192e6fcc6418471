"""Sealed folders at a URL: whole or not at all, on any file system that fsspec can write.

<folder>/<checksum>/<name>   a file; what two writers write under one name is the same
<folder>/DONE.json           its seal, the same as beside the files on a disk, written last

An object store has no rename, and two machines may write one folder at the same time. As a file's place has
its checksum, neither spoils what the other has written, and whichever seal stands is that of a whole folder.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from ablate import sealed
from ablate.data.remote import NO_ROOM, filesystem, reaching
from ablate.errors import AblateError, Damaged

T = TypeVar("T")
PAUSES = (1.0, 4.0, 15.0)
"""Seconds to wait before trying again what failed."""
_LASTING = (
    AblateError,
    FileNotFoundError,
    FileExistsError,
    PermissionError,
    ImportError,
    NotImplementedError,
)
"""What waiting does not mend."""


class Entry(NamedTuple):
    """An object as a listing tells of it: its bytes, and when it was written, in seconds, if that is told."""

    bytes: int
    written: float | None


class RemoteFolders:
    """The sealed folders below a URL. Every method raises AblateError where the URL cannot be used.

    Args:
        url: The URL of a folder, or of a bucket and a prefix.
    """

    def __init__(self, url: str):
        self.url = url
        self._answered = False

    def check(self) -> None:
        """Write and remove a small object."""
        self._try(lambda fs, root: self._write(fs, f"{root}/.writable", b"ablate"))
        self._try(lambda fs, root: fs.rm_file(f"{root}/.writable"))

    def entries(self, under: str = "") -> dict[str, Entry]:
        """Every object below the URL, or below a folder there, by its path from the URL; in one listing."""

        def find(fs: Any, root: str) -> dict[str, Entry]:
            fs.invalidate_cache()
            found = fs.find(f"{root}/{under}".rstrip("/"), detail=True)
            return {path.removeprefix(f"{root}/"): _entry(info) for path, info in found.items()}

        return self._try(find)

    def read(self, name: str) -> bytes | None:
        """An object's bytes; None if there is none."""

        def cat(fs: Any, root: str) -> bytes | None:
            with suppress(FileNotFoundError):
                return bytes(fs.cat_file(f"{root}/{name}"))
            return None

        return self._try(cat)

    def write(self, name: str, data: bytes) -> None:
        """Write a small object."""
        self._try(lambda fs, root: self._write(fs, f"{root}/{name}", data))

    def remove(self, name: str) -> None:
        """Remove an object, or all below a folder; what is not there is no error."""

        def rm(fs: Any, root: str) -> None:
            fs.invalidate_cache()
            with suppress(FileNotFoundError):
                fs.rm(f"{root}/{name}", recursive=True)

        self._try(rm)

    def seal(self, folder: str) -> dict[str, Any] | None:
        """What the `DONE.json` of a folder says; None if there is no whole one.

        Raises:
            AblateError: It was written by a newer ablate.
        """
        data = self.read(f"{folder}/{sealed.SEAL}")
        return None if data is None else sealed.parse_seal(data, f"{self.url}/{folder}")

    def unseal(self, folder: str) -> None:
        """Have a folder count as not there."""
        self.remove(f"{folder}/{sealed.SEAL}")

    def put(self, source: Path, folder: str) -> dict[str, Any] | None:
        """Copy a sealed folder here, its seal last, unless one is here already: the first writer wins.

        Returns:
            What the seal says that is here now.
        """
        data = (source / sealed.SEAL).read_bytes()
        ours = sealed.parse_seal(data, source)
        assert ours is not None, source
        if there := self.seal(folder):
            return there
        for name, digest in ours["files"].items():
            self._put_file(source / name, f"{folder}/{digest}/{name}")
        self._put_seal(folder, data)
        return self.seal(folder)

    def get(self, folder: str, to: Path) -> bool:
        """Copy a folder from here into a new one on the disk, comparing every checksum; its seal comes last.

        Returns:
            Whether there was one.

        Raises:
            Damaged: Its files are not what was sealed.
        """
        data = self.read(f"{folder}/{sealed.SEAL}")
        seal = None if data is None else sealed.parse_seal(data, f"{self.url}/{folder}")
        if data is None or seal is None:
            return False
        to.mkdir(parents=True)
        for name, digest in seal["files"].items():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            if not any(self._get_file(f"{folder}/{digest}/{name}", to / name, digest) for _ in range(2)):
                raise Damaged(to)
            _set_time(to / name, seal.get("stamps", {}).get(name))
            sealed.sync(to / name)
        (to / sealed.SEAL).write_bytes(data)
        sealed.sync(to / sealed.SEAL)
        return True

    def damaged_files(self, folder: str) -> Iterator[str]:
        """The sealed files of a folder that are not what was sealed, each of them read in full."""
        for name, digest in (self.seal(folder) or {"files": {sealed.SEAL: ""}})["files"].items():
            data = self.read(f"{folder}/{digest}/{name}")
            if data is None or sealed.checksum(data) != digest:
                yield name

    def _put_file(self, source: Path, name: str) -> None:
        def put(fs: Any, root: str) -> None:
            path = f"{root}/{name}"
            _with_folders(fs, path, lambda: fs.put_file(str(source), path))

        self._try(put)

    def _put_seal(self, folder: str, data: bytes) -> None:
        """Write a seal where there is none, in one step where the file system can."""

        def put(fs: Any, root: str) -> None:
            path = f"{root}/{folder}/{sealed.SEAL}"
            try:
                fs.pipe_file(path, data, mode="create")
            except FileExistsError:
                if self.seal(folder) is None:  # one that was not written to its end
                    self._write(fs, path, data)
            except Exception:  # whatever a file system says that does not know "create"
                self._write(fs, path, data)

        self._try(put)

    def _get_file(self, name: str, to: Path, digest: str) -> bool:
        """Copy one file; false if it is not there or not what was sealed."""

        def get(fs: Any, root: str) -> bool:
            with suppress(FileNotFoundError):
                fs.get_file(f"{root}/{name}", str(to))
                return sealed.checksum(to.read_bytes()) == digest
            return False

        return self._try(get)

    @staticmethod
    def _write(fs: Any, path: str, data: bytes) -> None:
        _with_folders(fs, path, lambda: fs.pipe_file(path, data))

    @cached_property
    def _place(self) -> tuple[Any, str]:
        fs, root = filesystem(self.url)
        return fs, root.rstrip("/")

    def _try(self, work: Callable[[Any, str], T]) -> T:
        """Do some work at the URL; again, after a pause, if it fails for what may pass.

        What has not answered yet is tried once only: its address is more likely wrong than its network slow.

        Args:
            work: Gets the file system and the root's path in it.
        """
        with _told(self.url):
            fs, root = self._place
            for pause in PAUSES if self._answered else ():
                try:
                    return work(fs, root)
                except Exception as error:
                    if isinstance(error, _LASTING) or _is_full(error) or _is_refused(error):
                        raise
                    time.sleep(pause)
            done = work(fs, root)
            self._answered = True
            return done


def _with_folders(fs: Any, path: str, write: Callable[[], None]) -> None:
    """Write a file, and make its folder where a file system does not do that by itself.

    An object store has no folders, nor a root; it would make a bucket.
    """
    try:
        write()
    except FileNotFoundError:
        if not fs.root_marker:
            raise
        fs.makedirs(path.rpartition("/")[0], exist_ok=True)
        write()


def _entry(information: dict[str, Any]) -> Entry:
    """What file systems tell each under a name of their own."""
    times = (information.get(name) for name in ("LastModified", "last_modified", "mtime", "created"))
    time = next((one for one in times if one is not None), None)
    seconds = time.timestamp() if isinstance(time, datetime) else time if isinstance(time, float) else None
    return Entry(int(information.get("size") or 0), seconds)


def _set_time(path: Path, stamp: list[int] | None) -> None:
    """Give a file the time that was sealed, so that it need not be read again to be known as the same."""
    if stamp:
        os.utime(path, ns=(stamp[1], stamp[1]))


def _is_full(error: Exception) -> bool:
    return isinstance(error, OSError) and error.errno in NO_ROOM


def _is_refused(error: Exception) -> bool:
    """Whether credentials are missing or not good enough; each service has errors of its own for that."""
    return isinstance(error, PermissionError) or "credential" in f"{type(error).__name__} {error}".lower()


@contextmanager
def _told(url: str) -> Iterator[None]:
    """Tell in one sentence what went wrong with a store's URL."""
    with reaching(url):
        try:
            yield
        except FileNotFoundError as error:
            raise AblateError(
                f"{url}: there is no such place ({error}); make its bucket or folder, or correct "
                "ABLATE_STORE."
            ) from None
        except NotImplementedError:
            raise AblateError(
                f"{url}: the stage store cannot be written, since {url.partition('://')[0]} can only be "
                "read; set ABLATE_STORE to a folder or a URL that can."
            ) from None
        except Exception as error:
            if not _is_refused(error):
                raise
            raise AblateError(
                f"{url}: the stage store cannot be used ({str(error) or type(error).__name__}); give this "
                "machine credentials that may read, list, write and delete there, or correct ABLATE_STORE."
            ) from None
