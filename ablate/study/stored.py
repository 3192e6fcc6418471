"""What lies in a stage store, and which studies use it; `ablate.study.upkeep` changes it."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ablate.data.remote import is_url
from ablate.errors import AblateError
from ablate.study.remote_store import RemoteStore, store_at
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
class Held:
    """What a store holds of one stage.

    Args:
        published: Whether it has been finished; it may be damaged.
        bytes: Of all its files.
        written: When something of it was last written, in seconds since 1970.
        settings: Reads what it was made with, as far as that can be told.
    """

    published: bool
    bytes: int
    written: float
    settings: Callable[[], dict[str, Any]]


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


def store_place(out: str | Path | None = None) -> str | Path:
    """Where the store of the studies in `out` is: `ABLATE_STORE`, maybe a URL, else `.stages` beside them."""
    given = os.environ.get("ABLATE_STORE")
    return given if given and is_url(given) else Path(given or out_folder(out) / ".stages").absolute()


def open_store(path: str | Path | None = None) -> Store:
    """A store that is there.

    Args:
        path: Its folder or URL; default that of `store_place`.

    Raises:
        AblateError: There is none. A folder of another kind is never taken for one, since all in it would be
            taken for damaged stages.
    """
    store = store_at(path or store_place())
    if not store.exists:
        raise AblateError(
            f"{store.place}: is no stage store; `ablate run` makes one, or name another with --store."
        )
    return store


def contents(store: Store) -> Contents:
    """Look at a store without reading what the stages hold.

    At a URL, what is being computed on other machines cannot be told from what was interrupted there, since
    locks are local, and nothing is set aside.
    """
    studies = references(store)
    users: defaultdict[str, list[str]] = defaultdict(list)
    planned: dict[str, Any] = {}
    for study in studies:
        planned |= study.stages or {}
        for key in study.stages or ():
            users[key].append(study.folder)
    if isinstance(store, RemoteStore):
        from ablate.study.remote_contents import remote_held

        held, aside = remote_held(store), []
    else:
        held, aside = _held(store), _aside(store)
    stages = [
        _stage(store, key, one, planned.get(key, {}), tuple(users.get(key, ())))
        for key, one in sorted(held.items())
    ]
    return Contents(stages, studies, aside)


def references(store: Store) -> list[Reference]:
    """The studies that use a store and, as far as that can be seen from here, are still there."""
    found = [_reference(store.root / ".studies" / name, text) for name, text in store.claims().items()]
    there = [one for one in found if one.stages is not None or one.plan.parent.is_dir()]
    return sorted(there, key=lambda reference: reference.folder)


def _reference(file: Path, text: bytes) -> Reference:
    try:
        claim = json.loads(text)
        plan = Path(claim["folder"]) / "plan.json"
        if "stages" in claim:  # at a URL, where the folder may be another machine's
            return Reference(file, Path(f"{claim['machine']}:{plan}"), dict(claim["stages"]))
    except (ValueError, KeyError, TypeError):
        return Reference(file, file, None)
    try:
        return Reference(file, plan, dict(json.loads(plan.read_text())["stages"]))
    except (OSError, ValueError, KeyError, TypeError):
        return Reference(file, plan, None)


def _stage(
    store: Store, key: str, held: Held, planned: dict[str, Any], studies: tuple[str, ...]
) -> StoredStage:
    done = (store.seal(key) if held.published else None) or {}
    settings = planned.get("settings") or held.settings()
    status = str(done.get("status", "ok")) if done else "damaged" if held.published else "unfinished"
    return StoredStage(
        key=key,
        label=str(done.get("label") or planned.get("label") or ""),
        kind=str(settings.get("kind", "")),
        status=status,
        bytes=held.bytes,
        age=max(time.time() - (done.get("finished") or held.written), 0.0),
        studies=studies,
        epoch=(store.epochs_done(key) or None) if status == "unfinished" else None,
        epochs=int(settings["phase"]["epochs"]) if settings.get("kind") == "fit" else None,
        running=store.is_locked(key),
    )


def _held(store: Store) -> dict[str, Held]:
    """What a store in a folder holds of each stage."""
    keys = {*store.keys(), *(path.name for path in _folders(store.root / ".work"))}
    return {key: _held_of(store.folder(key), store.root / ".work" / key) for key in keys}


def _held_of(folder: Path, work: Path) -> Held:
    published = folder.is_dir()
    return Held(
        published=published,
        bytes=folder_bytes(folder) + folder_bytes(work),
        written=_last_change(folder if published else work),
        settings=partial(_settings, folder),
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
