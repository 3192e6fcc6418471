"""Nothing is written over that is not ours, and what cannot be written is known before the work."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ablate.errors import AblateError
from ablate.prediction.output import check_output, write_table

COLUMNS = ["id", "label"]


@pytest.mark.parametrize("name", ["new.csv", "new.parquet"])
def test_a_new_file_and_an_earlier_one_of_ours(tmp_path: Path, name: str):
    path = tmp_path / name
    check_output(path, COLUMNS, [], force=False)
    table = pd.DataFrame({"id": ["a"], "label": ["cat"], "p_cat": np.float32([0.1])})
    write_table(table, path)
    check_output(path, COLUMNS, [], force=False)
    read = pd.read_csv(path) if path.suffix == ".csv" else pd.read_parquet(path)
    assert list(read) == list(table)
    assert np.float32(read["p_cat"][0]) == np.float32(0.1)


@pytest.mark.parametrize("content", ["id,age\n", "", "# notes\n"])
def test_somebody_elses_file_stays(tmp_path: Path, content: str):
    path = tmp_path / "mine.csv"
    path.write_text(content)
    with pytest.raises(AblateError, match=r"is there already and does not begin with id, label; .* --force"):
        check_output(path, COLUMNS, [], force=False)
    check_output(path, COLUMNS, [], force=True)
    broken = tmp_path / "mine.parquet"
    broken.write_text(content)
    with pytest.raises(AblateError, match="is there already"):
        check_output(broken, COLUMNS, [], force=False)


def test_an_input_is_never_replaced(tmp_path: Path):
    path = tmp_path / "sample_submission.csv"
    path.write_text("id,label\n")
    for inputs in ([path], [None, str(tmp_path / "." / path.name)]):
        with pytest.raises(AblateError, match="is an input or a folder; take another name"):
            check_output(path, COLUMNS, inputs, force=True)
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(AblateError, match="is an input or a folder"):
        check_output(tmp_path / "folder.csv", COLUMNS, [], force=True)


def test_endings_and_folders(tmp_path: Path):
    with pytest.raises(AblateError, match=r"its name must end in \.csv or \.parquet\."):
        check_output(tmp_path / "out.npz", COLUMNS, [], force=False)
    check_output(tmp_path / "out.npz", COLUMNS, [], force=False, arrays=True)
    with pytest.raises(AblateError, match=r"there is no folder .*nowhere"):
        check_output(tmp_path / "nowhere" / "out.csv", COLUMNS, [], force=False)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written(tmp_path: Path):
    tmp_path.chmod(0o500)
    with pytest.raises(AblateError, match="cannot be written; take another --out"):
        check_output(tmp_path / "out.csv", COLUMNS, [], force=False)
    tmp_path.chmod(0o700)
