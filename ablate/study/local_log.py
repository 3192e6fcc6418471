"""The local log: a file per fit stage in the study's folder, so that the folder alone tells how all trained.

`history/<stage key>.jsonl` has a line per epoch, appended while the stage trains:

    {"epoch": {row as in history.csv}, "steps": {"step": [...], "loss": [...], "lr": [...], ...}}

Once the stage is finished, the file is written anew from the stage's own tables and ends with a line

    {"finished": {"status": "ok", "seconds": 12.3}}

Steps count from 0 within a stage. A number that is not finite is null, since JSON has no such. Where lines
are of the same epoch, after an interruption, the last one counts. `history/<stage key>.jpg` shows some of the
images that the stage trained on.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from ablate import sealed
from ablate.errors import AblateError, Damaged
from ablate.files import replace_file

FOLDER = "history"
SAMPLES = "samples.jpg"
"""In a stage's folder: some of the images that it trained on."""
_TYPES: dict[str, Callable[[str], Any]] = {"phase": str, "epoch": int, "step": int}
"""Of the columns that are not of floats."""


@dataclass(frozen=True)
class Logged:
    """What the log says of a stage.

    Args:
        epochs: A `{"epoch": row, "steps": columns}` for each epoch, in order; nan for what is not finite. An
            epoch in which training diverged has a row with its number alone.
        finished: `{"status": "ok" or "diverged", "seconds": …}`; None while the stage trains.
    """

    epochs: list[dict[str, Any]]
    finished: dict[str, Any] | None


class LocalLog:
    """The logs of a study's fit stages.

    Args:
        folder: The study's.
    """

    def __init__(self, folder: Path):
        self.folder = folder / FOLDER

    def append(self, key: str, message: dict[str, Any]) -> None:
        """Add an epoch to a stage's log.

        Args:
            key: The stage's.
            message: `{"epoch": row, "steps": columns}`, as a fit stage reports it.

        Raises:
            AblateError: The file cannot be written.
        """
        path = self._path(key)
        line = _line(_each(message, _or_null))
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            torn = path.exists() and not _tail(path).endswith(b"\n")
            whole = b"\n" * torn + line
            with path.open("ab", buffering=len(whole) + 1) as file:  # room for all: written with one call
                file.write(whole)
        except OSError as error:
            raise AblateError(
                f"{path}: cannot be written ({error.strerror}); free the place or use another --out."
            ) from None

    def complete(self, key: str, stage_folder: Path) -> None:
        """Write a finished fit stage's log whole, and its samples; nothing if they are there.

        Args:
            key: The stage's.
            stage_folder: Its folder in the store.

        Raises:
            AblateError: The files cannot be written.
            Damaged: The stage's are not what was written.
        """
        if self._is_whole(key):
            return
        seal = sealed.read_seal(stage_folder)
        if seal is None:
            raise Damaged(stage_folder)
        rows = {row["epoch"]: row for row in _table(stage_folder, "history.csv")}
        lines = []
        for epoch, group in groupby(_table(stage_folder, "steps.csv"), lambda step: step.pop("epoch")):
            steps = list(group)
            columns = {name: [step[name] for step in steps] for name in steps[0]}
            lines.append(_each({"epoch": rows.get(epoch, {"epoch": epoch}), "steps": columns}, _or_null))
        finished = {name: seal[name] for name in ("status", "seconds")}
        content = b"".join(map(_line, [*lines, {"finished": finished}]))
        if SAMPLES in seal["files"]:  # first, so that a whole log has it
            samples = sealed.read(stage_folder, SAMPLES)
            replace_file(self.folder / f"{key}.jpg", lambda path: path.write_bytes(samples))
        replace_file(self._path(key), lambda path: path.write_bytes(content))

    def read(self, key: str) -> Logged:
        """What the log says of a stage; nothing where there is none yet.

        A line that was torn, by a kill or because it is just being written, is as if it were not there.
        """
        try:
            content = self._path(key).read_bytes()
        except FileNotFoundError:
            return Logged([], None)
        epochs: dict[int, dict[str, Any]] = {}
        line: dict[str, Any] = {}
        for text in content.splitlines():
            line = _parsed(text)
            if "epoch" in line:
                epochs[line["epoch"]["epoch"]] = _each(line, _or_nan)
        return Logged([epochs[number] for number in sorted(epochs)], line.get("finished"))

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.jsonl"

    def _is_whole(self, key: str) -> bool:
        path = self._path(key)
        return path.exists() and "finished" in _parsed(_tail(path).rstrip().rpartition(b"\n")[2])


def _each(message: dict[str, Any], change: Callable[[Any], Any]) -> dict[str, Any]:
    """A line of an epoch with every value of it changed."""
    row = {name: change(value) for name, value in message["epoch"].items()}
    steps = {name: [change(value) for value in values] for name, values in message["steps"].items()}
    return {"epoch": row, "steps": steps}


def _or_null(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _or_nan(value: Any) -> Any:
    return math.nan if value is None else value


def _line(content: dict[str, Any]) -> bytes:
    return json.dumps(content, allow_nan=False).encode() + b"\n"


def _parsed(line: bytes) -> dict[str, Any]:
    """A line's content; empty if the line is torn."""
    try:
        content = json.loads(line)
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def _tail(path: Path) -> bytes:
    """The end of a file, long enough for its last line where that is not an epoch's."""
    with path.open("rb") as file:
        file.seek(max(file.seek(0, os.SEEK_END) - 256, 0))
        return file.read()


def _table(folder: Path, name: str) -> Iterator[dict[str, Any]]:
    """The rows of a finished stage's `history.csv` or `steps.csv`, with the types that they had."""
    for row in csv.DictReader(io.StringIO(sealed.read(folder, name).decode(), newline="")):
        yield {column: _TYPES.get(column, float)(value) for column, value in row.items()}
