"""The images that somebody asks about: a folder of them, or a CSV table with a row for each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ablate.data.csv_table import UNREADABLE, read_csv
from ablate.data.images import SUFFIXES
from ablate.data.items import Cells, Item
from ablate.data.tabular import read_cells
from ablate.errors import AblateError
from ablate.recipe.data_schema import Data


@dataclass(frozen=True)
class Images:
    """Images to predict.

    Args:
        items: Numbered from 0, the draws of augmented views go by that; their targets say nothing.
        labels: Their classes' names, where a table tells them.
    """

    items: Sequence[Item]
    labels: Sequence[str] | None = None


def find_images(
    source: str | Path, data: Data, root: str | Path | None = None, option: str = "--images"
) -> Images:
    """The images in a folder or a CSV table.

    Args:
        source: The folder, or the table.
        data: The recipe's data section: the table's columns.
        root: The folder of a table's images; default the recipe's, or the same beside the table.
        option: What `source` is called in errors.

    Raises:
        AblateError: There is no such folder or table, it has no images, a column or a cell is missing or no
            number, or ids repeat.
    """
    source = Path(source)
    if source.is_dir():
        if root is not None:
            raise AblateError(f"{option} {source}: is a folder of images itself; leave --root away.")
        if data.tabular:
            raise AblateError(
                f"{option} {source}: the network sees columns of a table beside the image; give a CSV with "
                f"{data.image.column}, {', '.join([*data.tabular.numeric, *data.tabular.categorical])}."
            )
        return _in_folder(source, option)
    if not source.is_file():
        raise AblateError(f"{option} {source}: there is no such folder of images or CSV table.")
    return _in_table(source, data, None if root is None else Path(root), option)


def _in_folder(folder: Path, option: str) -> Images:
    """All images below a folder; each is called by its path from there, its file name if it is flat."""
    paths = [
        path
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()
    ]
    if not paths:
        endings = ", ".join(sorted(SUFFIXES))
        raise AblateError(f"{option} {folder}: has no images (files that end in {endings}).")
    return Images([Item(i, path.relative_to(folder).as_posix(), path, 0) for i, path in enumerate(paths)])


def _in_table(table: Path, data: Data, root: Path | None, option: str) -> Images:
    columns, rows = read_table(table, option)
    tabular = data.tabular
    needed = [data.image.column, *((*tabular.numeric, *tabular.categorical) if tabular else ())]
    if missing := [name for name in needed if name not in columns]:
        raise AblateError(
            f"{option} {table}: has no column {', '.join(map(repr, missing))}; it has {', '.join(columns)}."
        )
    folder = _folder(table, data, root)
    first: dict[str, int] = {}
    items = []
    for number, (line, row) in enumerate(rows):
        id_ = row[data.image.column]
        if not id_:
            raise AblateError(
                f"{table}:{line}: column {data.image.column!r} is empty; fill it or drop the row."
            )
        if first.setdefault(id_, line) != line:
            raise AblateError(f"{table}:{line}: the image {id_!r} stands on line {first[id_]} too.")
        cells: Cells = read_cells(row, tabular, f"{table}:{line}") if tabular else ()
        items.append(Item(number, id_, folder / (id_ + data.image.suffix), 0, cells=cells))
    label = data.label.column
    labelled = label in columns and all(row[label] for _, row in rows)
    return Images(items, [row[label] for _, row in rows] if labelled else None)


def _folder(table: Path, data: Data, root: Path | None) -> Path:
    if root is None:
        trained = Path(data.root or "") / data.image.folder
        return trained if data.root and trained.is_dir() else table.parent / data.image.folder
    if not root.is_dir():
        raise AblateError(f"--root {root}: there is no such folder.")
    return root


def read_table(path: Path, option: str) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """The columns of a CSV table, and its rows with the lines that they end on.

    Raises:
        AblateError: It cannot be read, has no columns, or no rows.
    """
    try:
        columns, rows = read_csv(path)
    except UNREADABLE as error:
        raise AblateError(f"{option} {path}: cannot be read as CSV in UTF-8 ({error}).") from None
    if not columns:
        raise AblateError(f"{option} {path}: is empty; it needs a line with the columns' names.")
    if not rows:
        raise AblateError(f"{option} {path}: has no rows.")
    return columns, rows
