"""The file that predictions are written to: checked before the work, written whole, and nobody's but ours."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from ablate.errors import AblateError
from ablate.files import replace_file


def check_output(
    path: Path, columns: Sequence[str], inputs: Sequence[str | Path | None], force: bool, arrays: bool = False
) -> None:
    """Find out before the work is done that the result could not be written.

    Args:
        path: Where to.
        columns: What the first columns of such a file are called: one that begins otherwise is not replaced.
        inputs: What is read, and never replaced.
        force: Whether any other file may be replaced.
        arrays: Whether it may be an `.npz`.

    Raises:
        AblateError: It may not be written, or it is something else.
    """
    endings = [".csv", ".parquet", *([".npz"] if arrays else [])]
    if path.suffix not in endings:
        raise AblateError(f"--out {path}: its name must end in {' or '.join(endings)}.")
    folder = path.absolute().parent
    if not folder.is_dir():
        raise AblateError(f"--out {path}: there is no folder {folder}.")
    if not os.access(folder, os.W_OK):
        raise AblateError(f"--out {path}: the folder {folder} cannot be written; take another --out.")
    if not path.exists():
        return
    if path.is_dir() or any(one is not None and Path(one).exists() and path.samefile(one) for one in inputs):
        raise AblateError(f"--out {path}: is an input or a folder; take another name.")
    if not force and _columns(path)[: len(columns)] != list(columns):
        raise AblateError(
            f"--out {path}: is there already and does not begin with {', '.join(columns)}; take another "
            "name, or replace it with --force."
        )


def _columns(path: Path) -> list[str]:
    """The columns of a file; none where it cannot be read as a table."""
    try:
        if path.suffix == ".parquet":
            return list(pq.read_schema(path).names)
        if path.suffix == ".npz":
            with np.load(path) as arrays:
                return list(arrays)
        with path.open(encoding="utf-8-sig") as file:
            return file.readline().strip().split(",")
    except (OSError, ValueError, EOFError):
        return []


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write a table as CSV or Parquet, by its name's ending."""
    if path.suffix == ".parquet":
        replace_file(path, lambda to: table.to_parquet(to, index=False))
    else:
        replace_file(path, lambda to: table.to_csv(to, index=False))
