"""The weights that predict, in the study's own folder: `weights/<stage>/`, so that it can be copied anywhere.

They are hard links to the files of the store, which take no room beside those, and stay when the store is
pruned; on a file system that has none, or another one than the store's, they are copies. A folder there has
the seal of its stage, so whoever reads a file of it compares the checksum.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from ablate import sealed
from ablate.files import replace_file
from ablate.study.graph import Plan
from ablate.study.store import Store
from ablate.training.inputs import INPUTS

FOLDER = "weights"
SPARE = 1 << 30
"""Bytes that copies leave free on the disk."""
_NO_LINKS = (errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EACCES)


def keep_weights(folder: Path, plan: Plan, store: Store) -> int:
    """Put the weights of all finished trials into a study's folder, as far as they are not there.

    Args:
        folder: The study's.
        plan: Its plan.
        store: Has the stages.

    Returns:
        How many networks have to stay in the store alone: there is no room for copies.

    Raises:
        AblateError: The folder cannot be written.
        Damaged: A stage is.
    """
    wanted = {
        (trial.fits[-1], plan.stages[trial.predict].settings["keep"])
        for trial in plan.trials
        if store.status(trial.predict) == "ok" and store.status(trial.fits[-1]) == "ok"
        if INPUTS in store.result(trial.fits[-1])["files"]  # which stages of before do not have
    }
    return sum(not _keep(store.folder(key), keep, folder / FOLDER / key) for key, keep in sorted(wanted))


def _keep(stage: Path, keep: str, to: Path) -> bool:
    """Have the files of one stage that predict in a folder too; false where there is no room."""
    sources = [stage / name for name in (*files(stage, keep), sealed.SEAL)]
    missing = [source for source in sources if not _same(source, to / source.name)]
    if missing and not (_can_link(stage, to) or _has_room(missing, to)):
        shutil.rmtree(to)
        return False
    for source in missing:
        replace_file(to / source.name, partial(_link_or_copy, source))
    return True


def files(stage: Path, keep: str) -> Iterator[str]:
    """The names of a finished stage's files that prediction with its last or best epoch takes."""
    yield INPUTS
    if keep == "last":
        yield "weights.safetensors"
    else:
        yield "best.json"
        yield json.loads(sealed.read(stage, "best.json"))["all"]


def _same(source: Path, copy: Path) -> bool:
    """Whether one file is the other, or a copy of it with its time."""
    try:
        ours, theirs = copy.stat(), source.stat()
    except OSError:
        return False
    if os.path.samestat(ours, theirs):
        return True
    return (ours.st_size, ours.st_mtime_ns) == (theirs.st_size, theirs.st_mtime_ns)


def _can_link(stage: Path, to: Path) -> bool:
    """Try it, since no name of a file system tells."""
    to.mkdir(parents=True, exist_ok=True)
    probe = to / f".probe.{os.getpid()}"
    try:
        os.link(stage / sealed.SEAL, probe)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        return False
    probe.unlink()
    return True


def _has_room(sources: Sequence[Path], to: Path) -> bool:
    return shutil.disk_usage(to).free >= sum(source.stat().st_size for source in sources) + SPARE


def _link_or_copy(source: Path, to: Path) -> None:
    to.unlink(missing_ok=True)  # of a process that was killed and had our number
    try:
        os.link(source, to)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        shutil.copy2(source, to)
