"""A trial's history as W&B takes it: a row per training step, counted through all phases."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ablate.study.local_log import LocalLog, Logged

Row = dict[str, Any]
_STEP = ("loss", "lr", "lr_body", "mom")


class Histories:
    """The histories of a study's trials, read from its local log as far as that has changed.

    Args:
        folder: The study's.
    """

    def __init__(self, folder: Path):
        self._log = LocalLog(folder)
        self._folder = self._log.folder
        self._read: dict[str, tuple[tuple[int, int], Logged]] = {}

    def of(self, fits: Sequence[str]) -> list[Row]:
        """The rows of a trial that is made of these fit stages, so far; the place of a row is its step."""
        rows: list[Row] = []
        epochs = 0
        for key in fits:
            logged = self._logged(key)
            for epoch in logged.epochs:
                epochs += 1
                rows += epoch_rows(epoch, epochs)
            if logged.finished is None or logged.finished["status"] != "ok":
                break
        return rows

    def are_finished(self, fits: Sequence[str]) -> bool:
        """Whether these fit stages have ended."""
        return all(self._logged(key).finished is not None for key in fits)

    def stamp(self, fits: Sequence[str]) -> tuple[tuple[int, int] | None, ...]:
        """What changes whenever the log of these fit stages does."""
        return tuple(self._stamp(key) for key in fits)

    def samples(self, key: str) -> Path | None:
        """The picture of some training images of a fit stage, where there is one."""
        path = self._folder / f"{key}.jpg"
        return path if path.is_file() else None

    def _logged(self, key: str) -> Logged:
        stamp = self._stamp(key)
        if stamp is None:
            return Logged([], None)
        if key not in self._read or self._read[key][0] != stamp:
            self._read[key] = (stamp, self._log.read(key))
        return self._read[key][1]

    def _stamp(self, key: str) -> tuple[int, int] | None:
        try:
            state = (self._folder / f"{key}.jsonl").stat()
        except OSError:
            return None
        return state.st_size, state.st_mtime_ns


def epoch_rows(epoch: dict[str, Any], passed: int) -> list[Row]:
    """The rows of one epoch: its steps; the last has what the epoch came to as well.

    Args:
        epoch: A line of the local log: `{"epoch": row, "steps": columns}`.
        passed: The epochs that are finished with it, in all phases.
    """
    columns = {name: values for name, values in epoch["steps"].items() if name in _STEP}
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    if rows:
        measured = {name: value for name, value in epoch["epoch"].items() if name not in ("epoch", "seconds")}
        rows[-1] |= measured | {"epoch": passed}
        if "seconds" in epoch["epoch"]:
            rows[-1]["epoch_seconds"] = epoch["epoch"]["seconds"]
    return rows
