"""A stage store at a URL, with a mirror on this machine: machines that share no disk share their stages.

The mirror, in the cache folder, is a store of its own: stages are locked and computed there. What is finished
is copied to the URL, and counts once its seal is there; what others have finished is copied to the mirror
when its files are asked for. Checkpoints are at the URL too, under `.work/<key>/epoch-<n>`, until their stage
is finished.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ablate import sealed
from ablate.data.remembered import cache_folder
from ablate.data.remote import is_url
from ablate.errors import AblateError, Damaged
from ablate.study.remote_checkpoints import WORK, RemoteCheckpoints, epoch_of, whole_checkpoints
from ablate.study.remote_folders import Entry, RemoteFolders
from ablate.study.store import CHECKPOINT, OUT, Store

_FRESH = 5.0
"""Seconds for which a listing of the URL is taken to be right."""
_LITTLE = 0.05
"""The part of the time that listings may take, where they are slow."""
_DAY = 86400.0


def store_at(place: str | Path) -> Store:
    """The store in a folder or at an fsspec URL; makes nothing and asks nothing yet."""
    return RemoteStore(str(place)) if is_url(str(place)) else Store(Path(place))


@dataclass(frozen=True)
class Listing:
    """What was found at a store's URL.

    Args:
        entries: Every object, by its path there.
    """

    entries: dict[str, Entry]

    @cached_property
    def finished(self) -> set[str]:
        """The stages with a seal."""
        parts = (name.split("/") for name in self.entries if name.endswith(f"/{sealed.SEAL}"))
        return {part[0] for part in parts if len(part) == 2}

    @cached_property
    def epochs(self) -> dict[str, set[int]]:
        """The epochs of the checkpoints of unfinished stages."""
        found = defaultdict(set)
        for name in self.entries:
            match name.split("/"):
                case [".work", key, checkpoint, sealed.SEAL]:
                    found[key].add(epoch_of(Path(checkpoint)))
        return dict(found)


class RemoteStore(Store):
    """Finished stages at a URL.

    Args:
        url: Any that fsspec can write, such as `s3://bucket/stages`.
    """

    def __init__(self, url: str):
        url = url.rstrip("/")
        super().__init__(cache_folder() / "stores" / sealed.checksum(url.encode()))
        self.place, self.remote = url, RemoteFolders(url)
        self._remote_seals: dict[str, dict[str, Any]] = {}
        self._listed, self._expires = Listing({}), 0.0
        self.checkpoints = RemoteCheckpoints(self.remote, self._passing)

    @property
    def exists(self) -> bool:
        return any(name.startswith(".studies/") for name in self.listing().entries)

    def make_writable(self) -> None:
        try:
            super().make_writable()
        except AblateError:
            raise AblateError(
                f"{self.root}: cannot be written, and is for copies of what is at {self.place}; set "
                "ABLATE_CACHE to a folder that can."
            ) from None
        self.remote.check()

    def listing(self) -> Listing:
        """What is at the URL, or was some seconds ago."""
        began = time.monotonic()
        if began >= self._expires:
            self._listed = Listing(self.remote.entries())
            now = time.monotonic()
            self._expires = now + max(_FRESH, (now - began) / _LITTLE)
        return self._listed

    def seal(self, key: str) -> dict[str, Any] | None:
        return super().seal(key) or self._remote_seal(key)

    def has(self, key: str) -> bool:
        """Whether a stage is finished, here or at the URL; see `folder` for whether that one is whole."""
        return super().has(key) or self._remote_seal(key) is not None

    def is_damaged(self, key: str) -> bool:
        """False: a damaged copy in the mirror does not count, and `folder` replaces it."""
        return False

    def result(self, key: str) -> dict[str, Any]:
        seal = self._seals[key] if super().has(key) else self._remote_seal(key)
        assert seal is not None, key
        return seal

    def status(self, key: str) -> str | None:
        return str(self.result(key)["status"]) if self.has(key) else None

    def keys(self) -> list[str]:
        return sorted({*super().keys(), *self.listing().finished})

    def folder(self, key: str) -> Path:
        """The folder of a finished stage in the mirror; copied there from the URL if need be.

        Raises:
            Damaged: At the URL it is not whole.
        """
        if not super().has(key) and self._remote_seal(key):
            super().set_aside(key)
            self._fetch(key, self.root / key)
        return self.root / key

    def damaged_files(self, key: str) -> Iterator[str]:
        if key in self.listing().finished:
            return self.remote.damaged_files(key)
        return super().damaged_files(key)

    def epochs_done(self, key: str) -> int:
        theirs = self.listing().epochs.get(key, ())
        return max(super().epochs_done(key), *(epoch + 1 for epoch in theirs), 0)

    def workplace(self, key: str) -> Path:
        """The folder of an unfinished stage, with the last whole checkpoint of any machine."""
        folder = super().workplace(key)
        theirs = Listing(self.remote.entries(f"{WORK}/{key}")).epochs.get(key, set())
        if theirs:
            self.checkpoints.found(key, theirs)
        ours = max(map(epoch_of, whole_checkpoints(folder)), default=-1)
        for epoch in sorted((epoch for epoch in theirs if epoch > ours), reverse=True):
            name, to = f"{WORK}/{key}/{CHECKPOINT}{epoch}", folder / f"{CHECKPOINT}{epoch}"
            shutil.rmtree(to, ignore_errors=True)
            try:
                self._fetch(name, to)
                break
            except Damaged:  # then the one before it
                self.remote.unseal(name)
        return folder

    def keep(self, key: str) -> str | None:
        """Copy the last checkpoint of an unfinished stage to the URL, in the background; returns at once."""
        self.checkpoints.send(self.root / WORK / key)
        return self.checkpoints.problem()

    def publish(self, key: str) -> bool:
        """Make the sealed `out` of a stage's workplace the finished stage, at the URL and in the mirror.

        If the URL has the stage from another machine, that one counts and ours is dropped.

        Returns:
            Whether the stage is there now; false if its `out` is not sealed yet.

        Raises:
            AblateError: The URL or the mirror cannot be written; the sealed `out` stays for a later call.
        """
        work = self.root / WORK / key
        ours = None
        if super().has(key):
            seal = self.remote.put(self.root / key, key)  # the URL may have been pruned
        elif ours := sealed.whole_seal(work / OUT):
            seal = self.remote.put(work / OUT, key)
        else:
            seal = self.remote.seal(key)
        if seal is None:
            return False
        if seal == ours:
            super().set_aside(key)  # what is damaged in the mirror
            self._take(work / OUT, key)
        self._remote_seals[key] = seal
        shutil.rmtree(work, ignore_errors=True)
        self.checkpoints.remove(key)
        return True

    def set_aside(self, key: str) -> bool:
        """Have a damaged stage fetched again or, if it is damaged at the URL too, computed again."""
        ours = super().set_aside(key)
        theirs = self.remote.seal(key) is not None and any(self.remote.damaged_files(key))
        if theirs:
            self.remote.unseal(key)
        self._remote_seals.pop(key, None)
        self._expires = 0.0
        return ours or theirs

    def sweep(self) -> None:
        """Remove what a kill has left of stages that are finished, here and at the URL."""
        super().sweep()
        for path in (self.root / ".passing").glob("*"):
            with contextlib.suppress(OSError):
                if time.time() - path.stat().st_mtime > _DAY:
                    shutil.rmtree(path, ignore_errors=True)
        listed = self.listing()
        for key in listed.finished & listed.epochs.keys():
            self.checkpoints.found(key, listed.epochs[key])
            self.checkpoints.remove(key)

    def refer(self, study: Path) -> None:
        """Remember that a study's folder on this machine uses the stages of its `plan.json`."""
        super().refer(study)
        machine, plan = socket.gethostname(), json.loads((study / "plan.json").read_text())
        stages = {key: _description(stage) for key, stage in plan["stages"].items()}
        claim = {"folder": str(study), "machine": machine, "stages": stages}
        name = sealed.checksum(f"{machine}:{study}".encode())
        self.remote.write(f".studies/{name}", json.dumps(claim).encode())
        self._expires = 0.0

    def claims(self) -> dict[str, bytes]:
        names = [name for name in self.listing().entries if name.startswith(".studies/")]
        return {name.removeprefix(".studies/"): self.remote.read(name) or b"" for name in names}

    def forget(self, claim: str) -> None:
        self.remote.remove(f".studies/{claim}")

    @property
    def disk(self) -> None:
        """None: how much room is left at a URL cannot be asked."""

    def address(self, key: str) -> str:
        return f"{self.place}/{key}"

    def withdraw(self, key: str) -> None:
        """Remove a stage from the URL, finished or not; its seal goes first."""
        self.remote.unseal(key)
        for folder in (key, f"{WORK}/{key}"):
            self.remote.remove(folder)
        self._remote_seals.pop(key, None)
        self._expires = 0.0

    def _remote_seal(self, key: str) -> dict[str, Any] | None:
        """What the URL's `DONE.json` of a stage says, read once."""
        if key in self._remote_seals or key not in self.listing().finished:
            return self._remote_seals.get(key)
        if seal := self.remote.seal(key):
            self._remote_seals[key] = seal
        return seal

    def _passing(self) -> Path:
        """The name of a new folder on the mirror's disk, for what is on its way."""
        folder = self.root / ".passing"
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{os.getpid()}.{threading.get_ident()}.{time.time_ns()}"

    def _fetch(self, name: str, to: Path) -> None:
        """Copy a sealed folder from the URL, under another name until it is whole.

        Raises:
            Damaged: It is not, or has just gone.
        """
        passing = self._passing()
        try:
            if not self.remote.get(name, passing):
                raise Damaged(to)
            sealed.sync(passing)
            passing.rename(to)
        except Damaged:
            raise Damaged(to) from None
        except OSError:
            if not sealed.is_whole(to):  # another process was quicker
                raise
        finally:
            shutil.rmtree(passing, ignore_errors=True)


def _description(stage: dict[str, Any]) -> dict[str, Any]:
    """What of a planned stage lists of stages show."""
    settings = stage["settings"]
    shown = {"kind": settings["kind"], "phase": {"epochs": settings["phase"]["epochs"]}}
    return {"label": stage["label"], "settings": shown}
