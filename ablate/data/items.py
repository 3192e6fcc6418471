"""The items of a study: which images there are, with which labels. Without pandas, so that planning stays quick."""

from __future__ import annotations

import csv
from collections import Counter
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
        return np.array([item.group for item in self.items]) if any(item.group for item in self.items) else None


def load_items(data: Data) -> Items:
    """The items of a recipe's data.

    Raises:
        AblateError: A folder, table or column is missing, labels are missing, ids repeat, or there is one class.
    """
    items = {"table": _from_table, "folders": _from_folders, "digits": _from_digits}[data.kind](data)
    counts = Counter(item.target for item in items.items)
    if len(counts) < 2:
        only = f"the class {items.classes[0]!r}" if items.classes else "no class at all"
        raise AblateError(f"{_where(data)}: all {len(items.items)} items have {only}; a classifier needs two.")
    return items


def _where(data: Data) -> str:
    return str(_table_path(data, data.table)) if data.table else data.root or "digits"


def _from_digits(data: Data) -> Items:
    """scikit-learn's 1,797 handwritten digits, 8 × 8 in 17 greys, read without importing scikit-learn."""
    for given, name in ((data.split.column, "split.column"), (data.split.group, "split.group")):
        if given is not None:
            raise AblateError(f"data.{name}: the digits have no columns; use split: {{random: 0.2}}.")
    spec = find_spec("sklearn")
    assert spec is not None and spec.submodule_search_locations
    path = Path(spec.submodule_search_locations[0]) / "datasets" / "data" / "digits.csv.gz"
    table = np.loadtxt(path, delimiter=",")
    pixels = np.rint(table[:, :-1] * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8)
    items = [Item(i, f"{i:04d}", pixels[i], int(row[-1])) for i, row in enumerate(table)]
    return Items(items, [str(digit) for digit in range(10)])


def _from_folders(data: Data) -> Items:
    """One folder per class, images at any depth below it."""
    root = _folder(data.root)
    for given, name in ((data.split.column, "split.column"), (data.split.group, "split.group")):
        if given is not None:
            raise AblateError(f"data.{name}: folders of images have no columns; give a table, or split at random.")
    classes = sorted(folder.name for folder in root.iterdir() if folder.is_dir() and not folder.name.startswith("."))
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
        Item(i, path.relative_to(root).as_posix(), path, renumbered[target]) for i, (path, target) in enumerate(found)
    ]
    return Items(items, [classes[target] for target in used])


def _from_table(data: Data) -> Items:
    """A row per image: image, label, and optionally split, group and test columns."""
    root = _folder(data.root) if data.root else Path()
    rows = _read_rows(_table_path(data, data.table), data)
    test_rows: list[dict[str, str]] = []
    if data.test and data.test.table:
        test_rows = _read_rows(_table_path(data, data.test.table), data, splits=False)
    folder = root / data.image.folder
    test_folder = root / (data.test.folder if data.test and data.test.folder else data.image.folder)
    labels = [row[data.label.column] for row in rows + test_rows]
    classes = sorted(set(labels), key=_label_order)
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
    _check_ids(items, _table_path(data, data.table))
    held_out = _booleans(rows, test_rows, data.split.column, _where(data)) if data.split.column else None
    tested = None
    if test_rows:
        tested = np.array([False] * len(rows) + [True] * len(test_rows))
    elif data.test and data.test.column:
        tested = _booleans(rows, [], data.test.column, _where(data))
    return Items(items, classes, held_out, tested)


def _table_path(data: Data, table: str | None) -> Path:
    return Path(data.root or "", table or "")


def _folder(root: str | None) -> Path:
    path = Path(root or "")
    if not path.is_dir():
        raise AblateError(f"data.root: there is no folder {path}; set it to the folder that holds the images.")
    return path


def _read_rows(path: Path, data: Data, splits: bool = True) -> list[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            columns = list(reader.fieldnames or [])
            rows = [{key: (value or "").strip() for key, value in row.items() if key} for row in reader]
    except FileNotFoundError:
        raise AblateError(f"data.table: there is no file {path}.") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise AblateError(f"data.table: {path} cannot be read as CSV in UTF-8 ({error}).") from None
    needed = [("data.image.column", data.image.column), ("data.label.column", data.label.column)]
    if splits:
        needed += [("data.split.column", data.split.column), ("data.split.group", data.split.group)]
        needed += [("data.test.column", data.test.column if data.test else None)]
    elif data.split.group:
        needed += [("data.split.group", data.split.group)]
    for name, column in needed:
        if column is not None and column not in columns:
            raise AblateError(f"{name}: {path} has no column {column!r}; it has {', '.join(columns) or 'none'}.")
    if not rows:
        raise AblateError(f"data.table: {path} has no rows.")
    for what, column in (("label", data.label.column), ("image", data.image.column)):
        missing = [line for line, row in enumerate(rows, 2) if not row[column]]
        if missing:
            raise AblateError(
                f"{path}:{missing[0]}: {len(missing)} of {len(rows)} rows have no {what}; fill column {column!r} "
                "or drop the rows."
            )
    return rows


def _label_order(label: str) -> tuple[int, float, str]:
    """Numbers in numeric order, then text."""
    try:
        return 0, float(label), label
    except ValueError:
        return 1, 0.0, label


def _check_ids(items: list[Item], path: Path) -> None:
    first: dict[str, int] = {}
    for item in items:
        if item.id in first:
            raise AblateError(
                f"{path}:{item.number + 2}: the image {item.id!r} stands on line {first[item.id] + 2} too; "
                "every image may stand once."
            )
        first[item.id] = item.number


def _booleans(
    rows: list[dict[str, str]], test_rows: list[dict[str, str]], column: str, where: str
) -> np.ndarray:
    values = [row[column].lower() for row in rows]
    for line, value in enumerate(values, 2):
        if value not in _TRUE | _FALSE:
            raise AblateError(f"{where}:{line}: column {column!r} has {value!r}, which is neither true nor false.")
    return np.array([value in _TRUE for value in values] + [False] * len(test_rows))
