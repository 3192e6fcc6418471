"""The items of a study: which images there are, with which labels. Without pandas, to keep planning quick."""

from __future__ import annotations

import csv
import gzip
import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from ablate.data.images import SUFFIXES
from ablate.errors import AblateError
from ablate.recipe.schema import Data

_TRUE, _FALSE = frozenset({"true", "1", "yes", "t"}), frozenset({"false", "0", "no", "f"})


@dataclass(frozen=True, eq=False)
class Item:
    """One labelled image.

    Args:
        number: Its row, the index of its random draws.
        id: A unique name.
        image: The file, or the pixels themselves.
        target: The class, as a position in `Items.classes`.
        group: The patient, lesion or the like; empty without one.
    """

    number: int
    id: str
    image: Path | np.ndarray
    target: int
    group: str = ""


@dataclass(frozen=True)
class Items:
    """All items of a study, and what its columns say about the split."""

    items: list[Item]
    classes: list[str]
    held_out: np.ndarray | None = None
    """Per item, whether the split's column puts it into validation."""
    tested: np.ndarray | None = None
    """Per item, whether it is only for the final test."""

    @property
    def targets(self) -> np.ndarray:
        """The classes of all items, int64 of shape (n,)."""
        return np.array([item.target for item in self.items], dtype=np.int64)

    @property
    def groups(self) -> np.ndarray | None:
        """The groups of all items, or None where there are none."""
        groups = [item.group for item in self.items]
        return np.array(groups) if any(groups) else None


def load_items(data: Data) -> Items:
    """The items of a recipe's data.

    Raises:
        AblateError: A folder, table or column is missing, cells are empty, ids repeat, or there is one class.
    """
    items = {"table": _from_table, "folders": _from_folders, "digits": _from_digits}[data.kind](data)
    if len(items.classes) < 2:
        where = _table_path(data, data.table) if data.table else data.root
        raise AblateError(
            f"{where}: all {len(items.items)} images have the class {items.classes[0]!r}; "
            "a classifier needs two."
        )
    return items


def _from_digits(data: Data) -> Items:
    """scikit-learn's 1,797 handwritten digits, 8 × 8 in 17 greys, read without importing scikit-learn."""
    for given, name in ((data.split.column, "split.column"), (data.split.group, "split.group")):
        if given is not None:
            raise AblateError(f"data.{name}: the digits have no columns; use split: {{random: 0.2}}.")
    spec = find_spec("sklearn")
    assert spec is not None
    assert spec.submodule_search_locations
    path = Path(spec.submodule_search_locations[0]) / "datasets" / "data" / "digits.csv.gz"
    with gzip.open(path, "rt") as file:
        table = np.array([line.split(",") for line in file], dtype=np.float64)
    pixels = np.rint(table[:, :-1] * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8)
    items = [Item(i, f"{i:04d}", pixels[i], int(row[-1])) for i, row in enumerate(table)]
    return Items(items, [str(digit) for digit in range(10)])


def _from_folders(data: Data) -> Items:
    """One folder per class, images at any depth below it."""
    root = _folder(data.root)
    for given, name in ((data.split.column, "split.column"), (data.split.group, "split.group")):
        if given is not None:
            raise AblateError(
                f"data.{name}: folders of images have no columns; give a table, or split at random."
            )
    folders = [
        folder.name for folder in root.iterdir() if folder.is_dir() and not folder.name.startswith(".")
    ]
    classes = sorted(folders, key=_label_order)
    found = [
        (path, target)
        for target, name in enumerate(classes)
        for path in sorted((root / name).rglob("*"))
        if path.suffix.lower() in SUFFIXES and path.is_file()
    ]
    if not found:
        raise AblateError(f"{root}: there are no images in folders named by class, such as {root}/cat/1.jpg.")
    used = sorted({target for _, target in found})
    renumbered = {target: i for i, target in enumerate(used)}
    items = [
        Item(i, path.relative_to(root).as_posix(), path, renumbered[target])
        for i, (path, target) in enumerate(found)
    ]
    return Items(items, [classes[target] for target in used])


class _Row(dict[str, str]):
    """A row of a table, which knows the file and line that it stands on."""

    def __init__(self, cells: dict[str, str], place: str):
        super().__init__(cells)
        self.place = place


def _from_table(data: Data) -> Items:
    """A row per image: image, label, and optionally split, group and test columns."""
    root = _folder(data.root) if data.root else Path()
    rows = _read_rows(_table_path(data, data.table), data)
    test_rows: list[_Row] = []
    if data.test and data.test.table:
        test_rows = _read_rows(_table_path(data, data.test.table), data, splits=False)
    folder = root / data.image.folder
    test_folder = root / (data.test.folder if data.test and data.test.folder else data.image.folder)
    classes = sorted({row[data.label.column] for row in rows + test_rows}, key=_label_order)
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


def _folder(root: str | None) -> Path:
    path = Path(root or "")
    if not path.is_dir():
        raise AblateError(
            f"data.root: there is no folder {path}; set it to the folder that holds the images."
        )
    return path


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


def _label_order(label: str) -> tuple[int, float, str]:
    """Numbers in numeric order, then text."""
    try:
        number = float(label)
    except ValueError:
        number = math.nan
    return (1, 0.0, label) if math.isnan(number) else (0, number, label)


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
    values = [row[column].lower() for row in rows]
    for row, value in zip(rows, values, strict=True):
        if value not in _TRUE | _FALSE:
            raise AblateError(
                f"{row.place}: column {column!r} has {row[column]!r}, which is neither true nor false."
            )
    return np.array([value in _TRUE for value in values])
