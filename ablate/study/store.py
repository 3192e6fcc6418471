"""The stage store: a folder with one subfolder per finished stage, named after its key.

A stage exists when its `DONE.json` does. It is written last, holds the checksums of all other files, and the
first writer wins; a stage's folder never changes afterwards.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from hashlib import blake2b
from pathlib import Path
from typing import Any

from ablate.errors import AblateError

DONE, SCHEMA = "DONE.json", 1


class Store:
    """Finished stages by key, and room for unfinished ones.

    Args:
        root: The folder; made if it is not there.

    Raises:
        AblateError: The folder cannot be written, or was written by a newer ablate.
    """

    def __init__(self, root: Path):
        self.root = root.absolute()
        self._checked: set[str] = set()
        try:
            (self.root / ".work").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise AblateError(
                f"{self.root}: the stage store cannot be written ({error.strerror}); set ABLATE_STORE or "
                "--out to a folder that can."
            ) from None
        if not os.access(self.root / ".work", os.W_OK):
            raise AblateError(f"{self.root}: the stage store cannot be written; set ABLATE_STORE or --out.")

    def has(self, key: str) -> bool:
        """Whether a stage is finished and its files are what was written.

        A stage whose files are damaged is set aside, so that it is computed again.
        """
        if key in self._checked:
            return True
        folder = self.root / key
        done = _read_json(folder / DONE)
        if done is None:
            return False
        if done.get("schema", 0) > SCHEMA:
            raise AblateError(
                f"{self.root}: was written by a newer ablate; upgrade, or use another ABLATE_STORE."
            )
        if any(_checksum(folder / name) != digest for name, digest in done["files"].items()):
            self._set_aside(folder)
            return False
        self._checked.add(key)
        return True

    def folder(self, key: str) -> Path:
        """The folder of a finished stage."""
        return self.root / key

    def result(self, key: str) -> dict[str, Any]:
        """What a finished stage says of itself: `status`, `seconds`."""
        return json.loads((self.root / key / "result.json").read_text())

    def workplace(self, key: str) -> Path:
        """A fresh, empty folder for a stage that is about to run."""
        folder = self.root / ".work" / f"{key}.{os.getpid()}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder

    def publish(self, key: str, work: Path, settings: dict[str, Any]) -> None:
        """Make the files of a workplace a finished stage; if another process was first, its files stay.

        Raises:
            AblateError: The disk is full or not writable; nothing is published then.
        """
        try:
            (work / "settings.json").write_text(json.dumps(settings, indent=1))
            files = {str(p.relative_to(work)): _checksum(p) for p in sorted(work.rglob("*")) if p.is_file()}
            for name in files:
                _sync(work / name)
            done = {"schema": SCHEMA, "files": files, "finished": time.time()}
            (work / DONE).write_text(json.dumps(done, indent=1))
            _sync(work / DONE)
            work.rename(self.root / key)
            _sync(self.root)
        except OSError as error:
            if self.has(key):
                shutil.rmtree(work, ignore_errors=True)
                return
            raise AblateError(f"{self.root}: a finished stage cannot be stored ({error.strerror}).") from None

    def discard(self, work: Path) -> None:
        """Remove a workplace whose stage did not finish."""
        shutil.rmtree(work, ignore_errors=True)

    def _set_aside(self, folder: Path) -> None:
        folder.rename(self.root / ".work" / f"{folder.name}.damaged.{time.time_ns()}")


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None


def _checksum(path: Path) -> str:
    try:
        return blake2b(path.read_bytes(), digest_size=16).hexdigest()
    except OSError:
        return "missing"


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
