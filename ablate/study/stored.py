"""What lies in a stage store, and which studies use it; `ablate.study.upkeep` changes it."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ablate import sealed
from ablate.errors import AblateError
from ablate.study.store import Store

TRASH = ".trash"
"""The folder of a store that holds what is just being removed."""


@dataclass(frozen=True)
class StoredStage:
    """One stage of a store, finished or not.

    Args:
        key: Its key.
        label: What people call it; empty where nothing says.
        kind: `fit`, `lr_find` or `predict`; empty where nothing says.
        status: `ok`, `diverged`, `unfinished` or, for a folder without a seal that can be read, `damaged`.
        bytes: Of all its files.
        age: Seconds since it was finished or, if it is not, since something was written.
        studies: The folders of the studies that use it.
        epoch: The finished epochs of its last checkpoint.
        epochs: All its epochs; None where nothing says.
        running: Whether a process is computing it.
    """

    key: str
    label: str
    kind: str
    status: str
    bytes: int
    age: float
    studies: tuple[str, ...] = ()
    epoch: int | None = None
    epochs: int | None = None
    running: bool = False


@dataclass(frozen=True)
class Reference:
    """A study that uses a store.

    Args:
        file: What says so, in the store.
        plan: The study's `plan.json`; `file` itself if that does not say which study it is.
        stages: The plan's stages by key; None if they cannot be read.
    """

    file: Path
    plan: Path
    stages: dict[str, Any] | None

    @property
    def folder(self) -> str:
        """The study's folder."""
        return str(self.plan.parent)


@dataclass(frozen=True)
class Aside:
    """A damaged stage that has been set aside, or what an interrupted removal has left."""

    path: Path
    bytes: int
    age: float


@dataclass(frozen=True)
class Contents:
    """A store as it was found."""

    stages: list[StoredStage]
    studies: list[Reference]
    aside: list[Aside]

    @property
    def unreadable(self) -> list[Path]:
        """What should say which stages a study uses, and cannot be read."""
        return [study.plan for study in self.studies if study.stages is None]


@dataclass(frozen=True)
class Share:
    """What one study uses: how many stages and bytes, by itself and together with others."""

    folder: str
    own: tuple[int, int]
    shared: tuple[int, int]


def out_folder(out: str | Path | None = None) -> Path:
    """The folder that studies are in: `out`, else `ABLATE_OUT`, else `runs`."""
    return Path(out or os.environ.get("ABLATE_OUT") or "runs").absolute()


def store_root(out: str | Path | None = None) -> Path:
    """Where the store of the studies in `out` is: `ABLATE_STORE`, else `.stages` beside them."""
    return Path(os.environ.get("ABLATE_STORE") or out_folder(out) / ".stages").absolute()


def open_store(path: str | Path | None = None) -> Store:
    """A store that is there.

    Args:
        path: Its folder; default that of `store_root`.

    Raises:
        AblateError: There is none. A folder of another kind is never taken for one, since all in it would be
            taken for damaged stages.
    """
    root = Path(path).absolute() if path else store_root()
    if not (root / ".studies").is_dir():
        raise AblateError(f"{root}: is no stage store; `ablate run` makes one, or name another with --store.")
    return Store(root)


def contents(store: Store) -> Contents:
    """Look at a store without reading what the stages hold."""
    studies = references(store)
    users: defaultdict[str, list[str]] = defaultdict(list)
    planned: dict[str, Any] = {}
    for study in studies:
        planned |= study.stages or {}
        for key in study.stages or ():
            users[key].append(study.folder)
    keys = sorted({*store.keys(), *(path.name for path in _folders(store.root / ".work"))})
    stages = [_stage(store, key, planned.get(key, {}), tuple(users.get(key, ()))) for key in keys]
    return Contents(stages, studies, _aside(store))


def references(store: Store) -> list[Reference]:
    """The studies that use a store and whose folders are still there."""
    files = [path for path in (store.root / ".studies").glob("*") if not path.name.startswith(".")]
    found = (_reference(file) for file in files)
    there = [reference for reference in found if reference.plan.parent.is_dir()]
    return sorted(there, key=lambda reference: reference.folder)


def _reference(file: Path) -> Reference:
    try:
        plan = Path(json.loads(file.read_text())["folder"]) / "plan.json"
    except (OSError, ValueError, KeyError, TypeError):
        return Reference(file, file, None)
    try:
        return Reference(file, plan, dict(json.loads(plan.read_text())["stages"]))
    except (OSError, ValueError, KeyError, TypeError):
        return Reference(file, plan, None)


def _stage(store: Store, key: str, planned: dict[str, Any], studies: tuple[str, ...]) -> StoredStage:
    folder, work = store.folder(key), store.root / ".work" / key
    published, done = folder.is_dir(), sealed.read_seal(folder) or {}
    settings = planned.get("settings") or _settings(folder)
    status = str(done.get("status", "ok")) if done else "damaged" if published else "unfinished"
    finished = done.get("finished") or _last_change(folder if published else work)
    return StoredStage(
        key=key,
        label=str(done.get("label") or planned.get("label") or ""),
        kind=str(settings.get("kind", "")),
        status=status,
        bytes=folder_bytes(folder) + folder_bytes(work),
        age=max(time.time() - finished, 0.0),
        studies=studies,
        epoch=(store.epochs_done(key) or None) if status == "unfinished" else None,
        epochs=int(settings["phase"]["epochs"]) if settings.get("kind") == "fit" else None,
        running=store.is_locked(key),
    )


def _settings(folder: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((folder / "settings.json").read_text()))
    except (OSError, ValueError, TypeError):
        return {}


def _aside(store: Store) -> list[Aside]:
    paths = [*_folders(store.root / ".damaged"), *_folders(store.root / TRASH)]
    return [Aside(path, folder_bytes(path), max(time.time() - _moved(path), 0.0)) for path in paths]


def _moved(path: Path) -> float:
    """When a folder was set aside: its name ends with the nanoseconds."""
    number = path.name.rpartition(".")[2]
    return int(number) / 1e9 if number.isdigit() else _last_change(path)


def _folders(parent: Path) -> list[Path]:
    return [path for path in parent.glob("*") if path.is_dir() and not path.name.startswith(".")]


def _last_change(folder: Path) -> float:
    """When anything was last written directly in a folder; now, if it has gone meanwhile."""
    with contextlib.suppress(OSError):
        return max(path.stat().st_mtime for path in (folder, *folder.iterdir()))
    return time.time()


def folder_bytes(folder: Path) -> int:
    """The bytes of all files below a folder; 0 if it is not there."""
    total = 0
    for where, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):  # another process has just removed it
                total += os.lstat(os.path.join(where, name)).st_size
    return total


def linked_bytes(folder: Path) -> int:
    """The bytes of files directly in a folder that stand in a study's folder too: weights that predict."""
    total = 0
    with contextlib.suppress(OSError):
        for entry in os.scandir(folder):
            status = entry.stat(follow_symlinks=False)
            total += status.st_size * (entry.is_file(follow_symlinks=False) and status.st_nlink > 1)
    return total


def shares(found: Contents) -> list[Share]:
    """What each study uses by itself, and what together with others."""
    return [
        Share(
            study.folder,
            count([stage for stage in found.stages if stage.studies == (study.folder,)]),
            count([s for s in found.stages if study.folder in s.studies and len(s.studies) > 1]),
        )
        for study in found.studies
        if study.stages is not None
    ]


def count(stages: Sequence[StoredStage] | Sequence[Aside]) -> tuple[int, int]:
    """How many, and their bytes."""
    return len(stages), sum(stage.bytes for stage in stages)
