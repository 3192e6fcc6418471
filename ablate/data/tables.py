"""Items from a CSV table with a row per image. Without pandas, to keep planning quick."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ablate.data.csv_table import UNREADABLE, read_csv
from ablate.data.items import Item, Items, existing_folder, label_order, truth
from ablate.data.tabular import read_cells
from ablate.errors import AblateError
from ablate.recipe.data_schema import Data, Extra, TestSplit


class _Row(dict[str, str]):
    """A row of a table, which knows the file and line that it stands on."""

    def __init__(self, cells: dict[str, str], place: str):
        super().__init__(cells)
        self.place = place


def from_table(data: Data) -> Items:
    """A row per image: image, label, and optionally split, group and test columns.

    Raises:
        AblateError: The folder, the table or a column is missing, cells are empty, or ids repeat.
    """
    root = existing_folder(data.root) if data.root else Path()
    rows = _read_rows(_table_path(data, data.table), data)
    test_rows, test_folder = _further(data, data.test)
    extra_rows, extra_folder = _further(data, data.extra)
    part = np.repeat([0, 1, 2], [len(rows), len(test_rows), len(extra_rows)])
    folders = [root / folder for folder in (data.image.folder, test_folder, extra_folder)]
    classes = sorted({row[data.label.column] for row in rows + test_rows}, key=label_order)
    _check_known(extra_rows, data.label.column, classes)
    number_of = {label: i for i, label in enumerate(classes)}
    items = [
        Item(
            i,
            row[data.image.column],
            folders[part[i]] / (row[data.image.column] + data.image.suffix),
            number_of[row[data.label.column]],
            row[data.split.group] if data.split.group else "",
            read_cells(row, data.tabular, row.place) if data.tabular else (),
        )
        for i, row in enumerate(rows + test_rows + extra_rows)
    ]
    _check_ids(rows + test_rows + extra_rows, data.image.column)
    held_out = tested = None
    if data.split.column:
        held_out = np.zeros(len(items), dtype=bool)
        held_out[part == 0] = _booleans(rows, data.split.column)
    if test_rows:
        tested = part == 1
    elif data.test and data.test.column:
        tested = np.zeros(len(items), dtype=bool)
        tested[part == 0] = _booleans(rows, data.test.column)
    return Items(items, classes, held_out, tested, extra=part == 2 if extra_rows else None)


def _further(data: Data, given: TestSplit | Extra | None) -> tuple[list[_Row], str]:
    """The rows of a further table, and the folder of its images."""
    if given is None or not given.table:
        return [], ""
    field = "data.extra.table" if isinstance(given, Extra) else "data.test.table"
    return _read_rows(_table_path(data, given.table), data, field), given.folder or data.image.folder


def _table_path(data: Data, table: str | None) -> Path:
    return Path(data.root or "", table or "")


def _read_rows(path: Path, data: Data, field: str = "data.table") -> list[_Row]:
    try:
        columns, numbered = read_csv(path)
    except FileNotFoundError:
        raise AblateError(f"{field}: there is no file {path}.") from None
    except UNREADABLE as error:
        raise AblateError(f"{field}: {path} cannot be read as CSV in UTF-8 ({error}).") from None
    rows = [_Row(row, f"{path}:{line}") for line, row in numbered]
    needed: list[tuple[str, str | None]] = [
        ("data.image.column", data.image.column),
        ("data.label.column", data.label.column),
    ]
    needed += [("data.split.group", data.split.group)]
    if data.tabular:
        needed += [("data.tabular.numeric", name) for name in data.tabular.numeric]
        needed += [("data.tabular.categorical", name) for name in data.tabular.categorical]
    if field == "data.table":
        needed += [("data.split.column", data.split.column)]
        needed += [("data.test.column", data.test.column if data.test else None)]
    _check_columns(path, field, columns, needed)
    if not rows:
        raise AblateError(f"{field}: {path} has no rows.")
    _check_filled(rows, "label", data.label.column)
    _check_filled(rows, "image", data.image.column)
    if data.split.group:
        _check_filled(rows, "group", data.split.group)
    return rows


def _check_columns(
    path: Path, field: str, columns: list[str], needed: Sequence[tuple[str, str | None]]
) -> None:
    if not columns:
        raise AblateError(f"{field}: {path} is empty; it needs a line with the columns' names.")
    for name, column in needed:
        if column is not None and column not in columns:
            other = next((mark for mark in (";", "\t", "|") if mark in columns[0]), None)
            if len(columns) == 1 and other:
                raise AblateError(
                    f"{field}: the columns of {path} are separated by {other!r}; save it with commas."
                )
            raise AblateError(f"{name}: {path} has no column {column!r}; it has {', '.join(columns)}.")


def _check_filled(rows: list[_Row], what: str, column: str) -> None:
    missing = [row for row in rows if not row[column]]
    if missing:
        raise AblateError(
            f"{missing[0].place}: {len(missing)} of {len(rows)} rows have no {what}; fill column {column!r} "
            "or drop the rows."
        )


def _check_known(rows: list[_Row], column: str, classes: Sequence[str]) -> None:
    known = set(classes)
    for row in rows:
        if row[column] not in known:
            raise AblateError(
                f"{row.place}: the class {row[column]!r} is in the extra data alone, so nothing could be "
                "validated on it; correct the label or drop the class's rows."
            )


def _check_ids(rows: list[_Row], column: str) -> None:
    first: dict[str, str] = {}
    for row in rows:
        before = first.setdefault(row[column], row.place)
        if before is not row.place:
            path, line = before.rsplit(":", 1)
            there = f"line {line}" if row.place.startswith(f"{path}:") else before
            raise AblateError(
                f"{row.place}: the image {row[column]!r} stands on {there} too; every image may stand once."
            )


def _booleans(rows: list[_Row], column: str) -> np.ndarray:
    values = [truth(row[column]) for row in rows]
    for row, value in zip(rows, values, strict=True):
        if value is None:
            raise AblateError(
                f"{row.place}: column {column!r} has {row[column]!r}, which is neither true nor false."
            )
    return np.array(values, dtype=bool)
