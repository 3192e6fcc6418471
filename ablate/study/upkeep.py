"""Keep a stage store sound and small: read everything again, and remove what is not wanted any more."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ablate.errors import AblateError
from ablate.study.store import Store
from ablate.study.stored import (
    TRASH,
    Aside,
    Contents,
    Reference,
    StoredStage,
    contents,
    count,
    linked_bytes,
    references,
)

_SECONDS = {"h": 3600.0, "d": 86400.0, "w": 604800.0}


@dataclass(frozen=True)
class Checked:
    """What reading one stage in full has found: the files that are damaged, and whether it was set aside."""

    folder: Path | str
    label: str
    damaged: tuple[str, ...]
    set_aside: bool = False


def verify(store: Store) -> Iterator[Checked]:
    """Read every file of every finished stage; set damaged ones aside if the store can be written."""
    stages = [item for study in references(store) for item in (study.stages or {}).items()]
    planned = {key: stage["label"] for key, stage in stages}
    keys = store.keys()
    for key in keys:
        yield _check(store, key, planned.get(key, ""))


def _check(store: Store, key: str, planned: str) -> Checked:
    place = store.address(key)
    label = str((store.seal(key) or {}).get("label") or planned)
    damaged = tuple(store.damaged_files(key))
    if not damaged:
        return Checked(place, label, ())
    try:
        first = store.set_aside(key)
    except AblateError:
        return Checked(place, label, damaged)
    # if this process was not the first, the stage has been mended or removed meanwhile
    return Checked(place, label, damaged if first else (), first)


@dataclass(frozen=True)
class Criteria:
    """What to remove: that for which everything that is set holds.

    Args:
        study: The folder or the name of a study; what no other study uses.
        older_than: Seconds since a stage was finished or, if it is not, since something was written.
        unreferenced: What no study uses, and what was set aside.
    """

    study: str | None = None
    older_than: float | None = None
    unreferenced: bool = False

    def __post_init__(self) -> None:
        if self.study is None and self.older_than is None and not self.unreferenced:
            raise AblateError("ablate store prune needs --study, --older-than or --unreferenced.")
        if self.study is not None and self.unreferenced:
            raise AblateError(
                "--study and --unreferenced exclude each other: what a study uses is referenced; "
                "prune by one after the other."
            )


@dataclass(frozen=True)
class Pruning:
    """What is to be removed, and then: what has been.

    Args:
        stages: Stages, finished or not.
        aside: What was set aside.
        kept: Stages that stay although the criteria hold, because a run is using them.
        forgotten: The folder of the study that does not count as a user of the store any more.
        linked: The bytes of the stages' files that stay, since they stand in studies' folders too.
    """

    stages: list[StoredStage]
    aside: list[Aside]
    kept: int = 0
    forgotten: str | None = None
    linked: int = 0

    @property
    def bytes(self) -> int:
        """Of everything."""
        return count(self.stages)[1] + count(self.aside)[1]


def parse_age(text: str) -> float:
    """The seconds of an age like `12h`, `30d` or `2w`.

    Raises:
        AblateError: It is none.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([hdw])", text.strip())
    if match is None:
        raise AblateError(f"--older-than {text}: is no age; give hours, days or weeks as in 12h, 30d or 2w.")
    return float(match[1]) * _SECONDS[match[2]]


def prune(store: Store, criteria: Criteria, *, dry_run: bool = False) -> Pruning:
    """Remove stages, each at once and whole: a kill leaves nothing that could be taken for a stage.

    Args:
        store: The store.
        criteria: What to remove.
        dry_run: Only tell what that would be.

    Returns:
        What has been removed, or would be.

    Raises:
        AblateError: There is no such study, it cannot be told what is used, or the store cannot be written.
    """
    found = contents(store)
    study = _named(found, criteria.study) if criteria.study is not None else None
    if study is not None or criteria.unreferenced:
        _refuse_unknown(found)
    busy = {folder for stage in found.stages if stage.running for folder in stage.studies}
    wanted = [stage for stage in found.stages if _is_meant(stage, criteria, study)]
    stages = [stage for stage in wanted if not stage.running and not busy & {*stage.studies}]
    aside = [one for one in found.aside if criteria.unreferenced and _is_old(one, criteria)]
    linked = {stage.key: linked_bytes(store.root / stage.key) for stage in stages}
    if not dry_run:
        store.make_writable()
        stages = [stage for stage in stages if _remove_stage(store, stage.key)]
        for one in aside:
            _remove(store, one.path)
        _empty_trash(store)
    forgotten = study is not None and not _left(found, study, stages)
    if study is not None and forgotten and not dry_run:
        store.forget(study.file.name)
    return Pruning(
        stages,
        aside,
        kept=len(wanted) - len(stages),
        forgotten=study.folder if study and forgotten else None,
        linked=sum(linked[stage.key] for stage in stages),
    )


def _left(found: Contents, study: Reference, removed: list[StoredStage]) -> set[str]:
    """The stages that only a study uses and that are still there."""
    own = {stage.key for stage in found.stages if stage.studies == (study.folder,)}
    return own - {stage.key for stage in removed}


def _named(found: Contents, study: str) -> Reference:
    """The study of a name or in a folder."""
    of_folder = [one for one in found.studies if Path(one.folder).resolve() == Path(study).resolve()]
    named = of_folder or [one for one in found.studies if Path(one.folder).name == study]
    if len(named) > 1:
        folders = " and ".join(one.folder for one in named)
        raise AblateError(f"--study {study}: is the name of {folders}; give the folder.")
    if not named:
        names = ", ".join(sorted(Path(one.folder).name for one in found.studies)) or "none"
        raise AblateError(
            f"--study {study}: no such study uses this store (those that do: {names}); what a study has left "
            "whose folder is gone, --unreferenced removes."
        )
    return named[0]


def _refuse_unknown(found: Contents) -> None:
    if found.unreadable:
        raise AblateError(
            f"{found.unreadable[0]}: cannot be read, so it cannot be told which stages its study uses; "
            "run that study again, or delete its folder if it is not wanted any more."
        )


def _is_meant(stage: StoredStage, criteria: Criteria, study: Reference | None) -> bool:
    """Whether every criterion holds for a stage."""
    if study is not None and stage.studies != (study.folder,):
        return False
    return _is_old(stage, criteria) and not (criteria.unreferenced and stage.studies)


def _is_old(one: StoredStage | Aside, criteria: Criteria) -> bool:
    return criteria.older_than is None or one.age >= criteria.older_than


def _remove_stage(store: Store, key: str) -> bool:
    """Remove a stage with its workplace and its lock; false if a process has begun to compute it."""
    with store.lock(key) as ours:
        if ours:
            store.withdraw(key)
            for path in (store.root / key, store.root / ".work" / key):
                _remove(store, path)
            (store.root / ".locks" / key).unlink(missing_ok=True)
    return ours


def _remove(store: Store, path: Path) -> None:
    """Remove a folder: under another name, since emptying it takes a while."""
    trash = store.root / TRASH / f"{path.name.partition('.')[0]}.{time.time_ns()}"
    trash.parent.mkdir(exist_ok=True)
    try:
        os.rename(path, trash)
    except FileNotFoundError:
        return
    except OSError as error:
        raise AblateError(f"{path}: cannot be removed ({error.strerror}).") from None
    shutil.rmtree(trash, ignore_errors=True)


def _empty_trash(store: Store) -> None:
    """Remove what a kill has left of an earlier removal."""
    for path in (store.root / TRASH).glob("*"):
        shutil.rmtree(path, ignore_errors=True)
