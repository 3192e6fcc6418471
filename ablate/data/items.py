"""The items of a study: which images there are, with which labels. Without pandas, to keep planning quick."""

from __future__ import annotations

import gzip
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from ablate.data.images import SUFFIXES
from ablate.data.shards import Member
from ablate.errors import AblateError
from ablate.recipe.data_schema import Data

Progress = Callable[[int, int], None]
Cells = tuple[float | str | None, ...]
"""What a row has in the columns that the network sees: numbers, then categories; None is missing."""
_TRUE, _FALSE = frozenset({"true", "1", "yes", "t"}), frozenset({"false", "0", "no", "f"})


@dataclass(frozen=True, eq=False, slots=True)
class Item:
    """One labelled image.

    Args:
        number: Its row, the index of its random draws.
        id: A unique name.
        image: The file, where it lies in a shard, or the pixels themselves.
        target: The class, as a position in `Items.classes`.
        group: The patient, lesion or the like; empty without one.
        cells: What the network sees beside the image; empty without `data.tabular`.
    """

    number: int
    id: str
    image: Path | Member | np.ndarray
    target: int
    group: str = ""
    cells: Cells = ()


@dataclass(frozen=True)
class Items:
    """All items of a study, and what its columns say about the split."""

    items: Sequence[Item]
    classes: list[str]
    held_out: np.ndarray | None = None
    """Per item, whether the split's column puts it into validation."""
    tested: np.ndarray | None = None
    """Per item, whether it is only for the final test."""
    shards: np.ndarray | None = None
    """Per item, the position of its shard, where there are shards."""
    extra: np.ndarray | None = None
    """Per item, whether it is only for training, where there is extra data."""

    @property
    def targets(self) -> np.ndarray:
        """The classes of all items, int64 of shape (n,)."""
        if isinstance(self.items, Columns):
            return self.items.targets
        return np.array([item.target for item in self.items], dtype=np.int64)

    @property
    def groups(self) -> np.ndarray | None:
        """The groups of all items, or None where there are none."""
        if isinstance(self.items, Columns):
            return self.items.groups
        groups = [item.group for item in self.items]
        return np.array(groups) if any(groups) else None


class Columns(Sequence[Item]):
    """Items that are kept in columns and made when they are asked for, since there may be millions."""

    targets: np.ndarray
    """The classes, int64 of shape (n,)."""
    groups: np.ndarray | None = None
    """The groups, if any."""

    def at(self, numbers: np.ndarray) -> Iterator[Item]:
        """Some items by number, for less than one by one."""
        return map(self.__getitem__, numbers.tolist())


def load_items(data: Data, progress: Progress | None = None) -> Items:
    """The items of a recipe's data.

    Args:
        data: The recipe's data section.
        progress: Told how many of the shards not seen before have been read, and how many there are.

    Raises:
        AblateError: A folder, table, shard or column is missing or damaged, cells are empty, ids repeat, or
            there is one class.
    """
    if data.kind in ("webdataset", "tfrecord"):
        from ablate.data.sharded import from_shards

        items = from_shards(data, progress)
    elif data.kind == "table":
        from ablate.data.tables import from_table

        items = from_table(data)
    else:
        items = {"folders": _from_folders, "digits": _from_digits}[data.kind](data)
    if len(items.classes) < 2:
        table = Path(data.root or "", data.table) if data.table else None
        where = "data.shards" if data.shards else table or data.root
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
    root = existing_folder(data.root)
    for given, name in ((data.split.column, "split.column"), (data.split.group, "split.group")):
        if given is not None:
            raise AblateError(
                f"data.{name}: folders of images have no columns; give a table, or split at random."
            )
    folders = [
        folder.name
        for folder in root.iterdir()
        # a folder that studies are written to, such as runs/, has pictures for their reports
        if folder.is_dir() and not folder.name.startswith(".") and not any(folder.glob("*/plan.json"))
    ]
    classes = sorted(folders, key=label_order)
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


def existing_folder(root: str | None) -> Path:
    """The recipe's root.

    Raises:
        AblateError: There is no such folder.
    """
    path = Path(root or "")
    if not path.is_dir():
        raise AblateError(
            f"data.root: there is no folder {path}; set it to the folder that holds the images."
        )
    return path


def label_order(label: str) -> tuple[int, float, str]:
    """What classes are sorted by: numbers in numeric order, then text."""
    try:
        number = float(label)
    except ValueError:
        number = math.nan
    return (1, 0.0, label) if math.isnan(number) else (0, number, label)


def truth(text: str) -> bool | None:
    """A boolean as people write it, or None."""
    text = text.lower()
    return True if text in _TRUE else False if text in _FALSE else None
