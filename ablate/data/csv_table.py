"""CSV tables as people write them: UTF-8 with or without its mark, with spaces around cells."""

from __future__ import annotations

import csv
from pathlib import Path

UNREADABLE = (OSError, UnicodeDecodeError, csv.Error)
"""What reading a table that cannot be read raises."""


def read_csv(path: Path) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """The columns of a table, and its rows by column, each with the line that it ends on.

    Cells that are missing are empty. Raises what is in `UNREADABLE`.
    """
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        columns = [name.strip() for name in reader.fieldnames or []]
        reader.fieldnames = columns
        return columns, [
            (reader.line_num, {name: (row[name] or "").strip() for name in columns if name}) for row in reader
        ]
