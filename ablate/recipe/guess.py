"""Guess what the columns of a CSV table are: the image, its label, the split, the group it belongs to."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ablate.data.csv_table import UNREADABLE, read_csv
from ablate.data.images import SUFFIXES
from ablate.errors import AblateError

_LABELS = ("label", "labels", "target", "class", "class_name", "category", "dx", "diagnosis", "y")
_VALID = (
    "is_val",
    "is_valid",
    "is_validation",
    "valid",
    "validation",
    "val",
    "holdout",
    "is_test_fold",
    "fold",
)
_TEST = ("is_test", "test")
_GROUPS = ("group", "patient", "lesion", "subject", "person", "case", "study", "site", "slide")
_TRUE, _FALSE = frozenset({"true", "1", "yes", "t"}), frozenset({"false", "0", "no", "f"})
_MOST_CLASSES, _MOST_FOLDERS, _SAMPLE, _PROBE = 1000, 200, 200, 5


@dataclass(frozen=True)
class Guess:
    """What a table's columns are.

    Args:
        image: The column with file names, their folder under the table's, and the suffix that they lack.
        label: The column with the class.
        other_labels: Columns that could have been the label as well.
        valid: The column that is true for validation, if there is one.
        test: The column that is true for the final test, if there is one.
        group: The column whose rows belong together, if there is one.
    """

    image: tuple[str, str, str]
    label: str
    other_labels: tuple[str, ...]
    valid: str | None
    test: str | None
    group: str | None


def read_columns(table: Path) -> dict[str, list[str]]:
    """The columns of a CSV file as text.

    Raises:
        AblateError: It cannot be read, or has no rows.
    """
    try:
        names, rows = read_csv(table)
    except UNREADABLE as error:
        raise AblateError(f"{table}: cannot be read as CSV in UTF-8 ({error}).") from None
    if not rows:
        raise AblateError(f"{table}: has no rows under a line with the names of the columns.")
    return {name: [row[name] for _, row in rows] for name in names if name}


def guess(table: Path, columns: dict[str, list[str]]) -> Guess:
    """What the columns of a table are.

    Raises:
        AblateError: No column names images that are there, or none has labels.
    """
    image = _image(table, columns)
    rest = {name: values for name, values in columns.items() if name != image[0]}
    booleans = [name for name, values in rest.items() if _is_boolean(values)]
    valid = _first(_VALID, booleans)
    test = _first(_TEST, booleans)
    rest = {name: values for name, values in rest.items() if name not in (valid, test)}
    group = next((name for name in _like(_GROUPS, rest) if _repeats(rest[name])), None)
    labels = _labels({name: values for name, values in rest.items() if name != group})
    if not labels:
        raise AblateError(
            f"{table}: no column looks like a label (two classes or more, every row filled); "
            f"there are {', '.join(columns)}."
        )
    return Guess(image, labels[0], tuple(labels[1:]), valid, test, group)


def _image(table: Path, columns: dict[str, list[str]]) -> tuple[str, str, str]:
    """The column, folder and suffix under which most values are files."""
    found: dict[tuple[str, str, str], float] = {}
    folders = list(_folders(table.parent))
    for name, values in columns.items():
        sample = [value for value in values[:: max(1, len(values) // _SAMPLE)] if value]
        for folder, suffix in itertools.product(folders, ("", *sorted(SUFFIXES))):
            # a probe first: most pairs of a column and a folder have nothing to do with each other
            probe = sample[:: max(1, len(sample) // _PROBE)]
            if any(_is_file(folder, value, suffix) for value in probe):
                share = sum(_is_file(folder, value, suffix) for value in sample) / len(sample)
                inside = folder.relative_to(table.parent).as_posix()
                found[name, "" if inside == "." else inside, suffix] = share
    if not found:
        raise AblateError(
            f"{table}: no column names images that are in {table.parent} or the folders below it; put the "
            "table beside the images."
        )
    best = max(found, key=lambda key: found[key])
    if found[best] < 0.9:
        raise AblateError(
            f"{table}: only {found[best]:.0%} of the images in column {best[0]!r} are in "
            f"{table.parent / best[1]}; a recipe takes one folder, so bring them together there."
        )
    return best


def _folders(root: Path) -> Iterator[Path]:
    """A folder, the folders in it, and those in them, but no more than a few hundred."""
    level, count = [root], 0
    for _ in range(3):
        for folder in level:
            yield folder
            count += 1
            if count >= _MOST_FOLDERS:
                return
        level = [
            child
            for folder in level
            for child in sorted(folder.iterdir())
            if child.is_dir() and not child.name.startswith(".")
        ]


def _is_file(folder: Path, value: str, suffix: str) -> bool:
    if not suffix and Path(value).suffix.lower() not in SUFFIXES:
        return False
    try:
        return (folder / (value + suffix)).is_file()
    except (OSError, ValueError):  # longer than a file name can be, or with a zero byte
        return False


def _is_boolean(values: Sequence[str]) -> bool:
    distinct = {value.lower() for value in values}
    return distinct <= _TRUE | _FALSE and bool(distinct & _TRUE) and bool(distinct & _FALSE)


def _like(wanted: Sequence[str], names: Iterable[str]) -> list[str]:
    """The names that contain one of the wanted words, those that are one first, in the order wanted."""
    names = list(names)
    exact = [name for word in wanted for name in names if name.lower() == word]
    parts = [name for word in wanted for name in names if word in name.lower().replace("-", "_").split("_")]
    return list(dict.fromkeys([*exact, *parts]))


def _first(wanted: Sequence[str], names: Sequence[str]) -> str | None:
    return next(iter(_like(wanted, names)), None)


def _repeats(values: Sequence[str]) -> bool:
    """Whether values are names of things with several rows each, rather than a handful of kinds."""
    distinct = len(set(values))
    return all(values) and 10 <= distinct < len(values)


def _labels(columns: dict[str, list[str]]) -> list[str]:
    """Columns that can be labels, the likeliest first: by name, then those with the fewest classes."""
    fit: dict[str, int] = {}
    for name, values in columns.items():
        counts = Counter(values)
        whole = not any(_is_fraction(value) for value in counts)
        if all(values) and 2 <= len(counts) <= min(_MOST_CLASSES, len(values) // 2) and whole:
            fit[name] = len(counts)
    named = _like(_LABELS, fit)
    return [*named, *sorted((name for name in fit if name not in named), key=lambda name: fit[name])]


def _is_fraction(value: str) -> bool:
    """Whether a value is a measured number, such as an age of 45.0, and no class."""
    try:
        float(value)
    except ValueError:
        return False
    return "." in value
