"""The stage store: a folder with one subfolder per finished stage, named after its key.

<key>/          a finished stage: DONE.json, settings.json and what the stage wrote; never changes
.work/<key>/    an unfinished one: out/ is what becomes <key>/, epoch-<n>/ a checkpoint
.locks/         one file per stage that a process is computing; a lock dies with its process
.studies/       which study folders use the store
.damaged/       what was set aside
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ablate import sealed
from ablate.errors import AblateError

OUT = "out"
"""The folder of a workplace that is published."""
CHECKPOINT = "epoch-"
"""How the folder of a checkpoint begins, before the number of its epoch, from 0."""


class Store:
    """Finished stages by key, and room for unfinished ones. Reading needs no right to write.

    Args:
        root: The folder.
    """

    def __init__(self, root: Path):
        self.root = root.absolute()
        self.place = str(self.root)
        """What names it to people and in `plan.json`."""
        self._seals: dict[str, dict[str, Any]] = {}
        """Of the stages that have been found whole, so that each is looked at once."""

    @property
    def exists(self) -> bool:
        """Whether there is a store."""
        return (self.root / ".studies").is_dir()

    def make_writable(self) -> None:
        """Make the store's folders.

        Raises:
            AblateError: It cannot be written.
        """
        try:
            for name in (".work", ".locks", ".studies"):
                (self.root / name).mkdir(parents=True, exist_ok=True)
            probe = self.root / ".work" / ".writable"  # one name, so that a kill leaves no more than one
            probe.write_text("")
            probe.unlink(missing_ok=True)
        except OSError as error:
            raise AblateError(
                f"{self.root}: the stage store cannot be written ({error.strerror}); set ABLATE_STORE or "
                "--out to a folder that can."
            ) from None

    def has(self, key: str) -> bool:
        """Whether a stage is finished and its files look as they were written; see `sealed.is_whole`."""
        if key not in self._seals and (seal := sealed.whole_seal(self.root / key)):
            self._seals[key] = seal
        return key in self._seals

    def seal(self, key: str) -> dict[str, Any] | None:
        """What a finished stage says of itself, whether or not its files are whole; None for any other."""
        return sealed.read_seal(self.root / key)

    def is_damaged(self, key: str) -> bool:
        """Whether a stage was finished and is not whole any more."""
        return (self.root / key).is_dir() and not self.has(key)

    def folder(self, key: str) -> Path:
        """The folder of a finished stage."""
        return self.root / key

    def damaged_files(self, key: str) -> Iterator[str]:
        """The files of a finished stage that are not as they were written, each of them read in full."""
        return sealed.damaged_files(self.root / key)

    def result(self, key: str) -> dict[str, Any]:
        """What a finished stage says of itself: `status`, `seconds`, `label`, `finished`."""
        assert self.has(key), key
        return self._seals[key]

    def status(self, key: str) -> str | None:
        """`ok` or `diverged`; None for a stage that is not finished."""
        return str(self._seals[key]["status"]) if self.has(key) else None

    def keys(self) -> list[str]:
        """All stages that have been published, whole or not."""
        names = (
            (entry.name for entry in os.scandir(self.root) if entry.is_dir()) if self.root.is_dir() else ()
        )
        return sorted(name for name in names if not name.startswith("."))

    @contextlib.contextmanager
    def lock(self, key: str) -> Iterator[bool]:
        """Try to be the only one who computes a stage; gives whether that is so."""
        lock = FileLock(self.root / ".locks" / key, timeout=0)
        try:
            lock.acquire()
        except Timeout:
            yield False
            return
        try:
            yield True
            if sealed.read_seal(self.root / key):
                (self.root / ".locks" / key).unlink(missing_ok=True)
        finally:
            lock.release()

    def is_locked(self, key: str) -> bool:
        """Whether some process is computing a stage; can be asked without the right to write."""
        try:
            descriptor = os.open(self.root / ".locks" / key, os.O_RDONLY)
        except OSError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return False
        except OSError:
            return True
        finally:
            os.close(descriptor)

    def epochs_done(self, key: str) -> int:
        """How many epochs of an unfinished stage are in its last checkpoint."""
        names = (path.name for path in (self.root / ".work" / key).glob(f"{CHECKPOINT}*"))
        numbers = (name.removeprefix(CHECKPOINT) for name in names)
        return max((int(number) + 1 for number in numbers if number.isdigit()), default=0)

    def workplace(self, key: str) -> Path:
        """The folder of an unfinished stage, which may have checkpoints; `out` in it is empty."""
        folder = self.root / ".work" / key
        shutil.rmtree(folder / OUT, ignore_errors=True)
        (folder / OUT).mkdir(parents=True)
        return folder

    def keep(self, key: str) -> str | None:
        """Have the last checkpoint of an unfinished stage where it outlives this machine, if the store is.

        Returns:
            What went wrong with an earlier one, told once.
        """

    def withdraw(self, key: str) -> None:
        """Remove a stage, finished or not, from where it outlives this machine, if the store is there."""

    def publish(self, key: str) -> bool:
        """Make the sealed `out` of a stage's workplace the finished stage; the first writer wins.

        Returns:
            Whether the stage is there now; false if its `out` is not sealed yet.

        Raises:
            AblateError: The disk is not writable.
        """
        work = self.root / ".work" / key
        if not self.has(key):
            if not sealed.is_whole(work / OUT):
                return False
            self._take(work / OUT, key)
        shutil.rmtree(work, ignore_errors=True)
        return self.has(key)

    def _take(self, folder: Path, key: str) -> None:
        """Make a sealed folder on the same disk the finished stage."""
        try:
            folder.rename(self.root / key)
            sealed.sync(self.root)
        except OSError as error:
            raise AblateError(
                f"{self.root}: a finished stage cannot be stored ({error.strerror}); "
                "the same command goes on from here."
            ) from None

    def set_aside(self, key: str) -> bool:
        """Move a damaged stage out of the way, so that it is computed again.

        Returns:
            Whether it was there and is damaged; another process may have been first.

        Raises:
            AblateError: The disk is not writable.
        """
        self._seals.pop(key, None)
        aside = self.root / ".damaged"
        if not any(sealed.damaged_files(self.root / key)):
            return False
        try:
            aside.mkdir(exist_ok=True)
            (self.root / key).rename(aside / f"{key}.{time.time_ns()}")
            return True
        except FileNotFoundError:
            return False
        except OSError as error:
            raise AblateError(
                f"{self.root / key}: is damaged and cannot be set aside ({error.strerror})."
            ) from None

    @property
    def disk(self) -> Path | None:
        """A folder on the disk that stages fill, if it is a disk."""
        return self.root

    def address(self, key: str) -> Path | str:
        """Where a stage is, to tell people."""
        return self.root / key

    def sweep(self) -> None:
        """Remove what a kill has left of stages that are finished."""
        for work in (self.root / ".work").iterdir():
            if self.seal(work.name):
                shutil.rmtree(work, ignore_errors=True)
        for lock in (self.root / ".locks").iterdir():
            if self.seal(lock.name):
                lock.unlink(missing_ok=True)

    def refer(self, study: Path) -> None:
        """Remember that a study's folder uses this store; its `plan.json` says which stages."""
        name = sealed.checksum(str(study).encode())
        (self.root / ".studies" / name).write_text(json.dumps({"folder": str(study)}))

    def claims(self) -> dict[str, bytes]:
        """What was remembered of studies, by a name for each."""
        files = [path for path in (self.root / ".studies").glob("*") if not path.name.startswith(".")]
        return {path.name: _bytes(path) for path in files}

    def forget(self, claim: str) -> None:
        """Have a study no longer count as a user of the store."""
        (self.root / ".studies" / claim).unlink(missing_ok=True)


def _bytes(file: Path) -> bytes:
    """A file's; none where it cannot be read."""
    try:
        return file.read_bytes()
    except OSError:
        return b""
