"""Items from a CSV table with a row per image. Without pandas, to keep planning quick."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ablate.data.items import Item, Items, existing_folder, label_order, truth
from ablate.errors import AblateError
from ablate.recipe.schema import Data


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
    test_rows: list[_Row] = []
    if data.test and data.test.table:
        test_rows = _read_rows(_table_path(data, data.test.table), data, splits=False)
    folder = root / data.image.folder
    test_folder = root / (data.test.folder if data.test and data.test.folder else data.image.folder)
    classes = sorted({row[data.label.column] for row in rows + test_rows}, key=label_order)
    number_of = {label: i for i, label in enumerate(classes)}
    items = [
        Item(
            i,
            row[data.image.column],
            (folder if i < len(rows) else test_folder) / (row[data.image.column] + data.image.suffix),
            number_of[row[data.label.column]],
            row[data.split.group] if data.split.group else "",
        )
        for i, row in enumerate(rows + test_rows)
    ]
    _check_ids(rows + test_rows, data.image.column)
    others = np.zeros(len(test_rows), dtype=bool)
    held_out = tested = None
    if data.split.column:
        held_out = np.concatenate([_booleans(rows, data.split.column), others])
    if test_rows:
        tested = np.concatenate([np.zeros(len(rows), dtype=bool), ~others])
    elif data.test and data.test.column:
        tested = _booleans(rows, data.test.column)
    return Items(items, classes, held_out, tested)


def _table_path(data: Data, table: str | None) -> Path:
    return Path(data.root or "", table or "")


def _read_rows(path: Path, data: Data, splits: bool = True) -> list[_Row]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            columns = [name.strip() for name in reader.fieldnames or []]
            reader.fieldnames = columns
            rows = [
                _Row(
                    {key: (value or "").strip() for key, value in row.items() if key},
                    f"{path}:{reader.line_num}",
                )
                for row in reader
            ]
    except FileNotFoundError:
        raise AblateError(f"data.table: there is no file {path}.") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise AblateError(f"data.table: {path} cannot be read as CSV in UTF-8 ({error}).") from None
    needed: list[tuple[str, str | None]] = [
        ("data.image.column", data.image.column),
        ("data.label.column", data.label.column),
    ]
    needed += [("data.split.group", data.split.group)]
    if splits:
        needed += [("data.split.column", data.split.column)]
        needed += [("data.test.column", data.test.column if data.test else None)]
    _check_columns(path, columns, needed)
    if not rows:
        raise AblateError(f"data.table: {path} has no rows.")
    _check_filled(rows, "label", data.label.column)
    _check_filled(rows, "image", data.image.column)
    if data.split.group:
        _check_filled(rows, "group", data.split.group)
    return rows


def _check_columns(path: Path, columns: list[str], needed: Sequence[tuple[str, str | None]]) -> None:
    if not columns:
        raise AblateError(f"data.table: {path} is empty; it needs a line with the columns' names.")
    for name, column in needed:
        if column is not None and column not in columns:
            other = next((mark for mark in (";", "\t", "|") if mark in columns[0]), None)
            if len(columns) == 1 and other:
                raise AblateError(
                    f"data.table: the columns of {path} are separated by {other!r}; save it with commas."
                )
            raise AblateError(f"{name}: {path} has no column {column!r}; it has {', '.join(columns)}.")


def _check_filled(rows: list[_Row], what: str, column: str) -> None:
    missing = [row for row in rows if not row[column]]
    if missing:
        raise AblateError(
            f"{missing[0].place}: {len(missing)} of {len(rows)} rows have no {what}; fill column {column!r} "
            "or drop the rows."
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
